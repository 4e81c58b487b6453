import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type Corestore from 'corestore'
import { isAlive } from '../home/index.js'
import type { Role } from '../protocol/index.js'
import { Directory, openCorestore } from '../store/index.js'

const PREFIX = 'infermesh-client-'
const POLL_MS = 25

/** Copies that are removed when this process ends without closing them. */
const open = new Set<string>()

/**
 * The client's own copy of the directory. It lies in a folder for the life of the client: two processes cannot share
 * one, and it is small.
 */
export class DirectoryCopy {
  readonly store: Corestore
  readonly view: Directory
  readonly #path: string

  constructor(core: Buffer) {
    sweep()
    if (open.size === 0) process.once('exit', removeAll)
    this.#path = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`))
    open.add(this.#path)
    this.store = openCorestore(this.#path)
    this.view = new Directory(this.store.get({ key: core }))
  }

  async ready(): Promise<void> {
    await this.view.open()
  }

  /** The role that the directory gives a public key; undefined for a stranger, and while nothing is known. */
  roleOf(publicKey: string): Role | undefined {
    return this.view.member(publicKey)?.role
  }

  /** Waits until the directory gives a public key this role. @returns false where it does not in time */
  async lists(publicKey: string, role: Role, withinMs: number): Promise<boolean> {
    const deadline = performance.now() + withinMs
    while (this.roleOf(publicKey) !== role && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
    return this.roleOf(publicKey) === role
  }

  /** True where at least so many peers have told how long their copy is, and none has more than this one. */
  heardFrom(count: number): boolean {
    const { core } = this.view
    const told = core.peers.filter(({ remoteSynced }) => remoteSynced)
    return told.length >= count && told.every(({ remoteLength }) => remoteLength <= core.length)
  }

  async close(): Promise<void> {
    await this.view.close()
    await this.store.close()
    remove(this.#path)
  }
}

function removeAll(): void {
  for (const path of open) remove(path)
}

function remove(path: string): void {
  rmSync(path, { recursive: true, force: true })
  open.delete(path)
  if (open.size === 0) process.off('exit', removeAll)
}

let swept = false

/** Takes away what processes left behind that were ended without a chance to. */
function sweep(): void {
  if (swept) return
  swept = true
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : Number.NaN
    if (!Number.isInteger(pid) || pid <= 0 || isAlive(pid)) continue
    try {
      rmSync(join(tmpdir(), name), { recursive: true, force: true })
    } catch {
      // Another user's.
    }
  }
}
