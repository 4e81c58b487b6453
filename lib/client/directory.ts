import type Corestore from 'corestore'
import type { Role } from '../protocol/index.js'
import { Directory, memoryStorage, openCorestore } from '../store/index.js'

const POLL_MS = 25

/** The client's own copy of the directory, in memory: it is small, and a gateway brings it within milliseconds. */
export class DirectoryCopy {
  readonly store: Corestore
  readonly view: Directory

  constructor(core: Buffer) {
    this.store = openCorestore(memoryStorage())
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
  }
}
