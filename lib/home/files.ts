import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MeshError } from '../protocol/index.js'

/** What workers and the CLI share of files and processes. */

/** Writes a file whole or not at all. @param mode 0o600 for anything secret */
export function writeFileAtomic(path: string, text: string, mode = 0o644): void {
  const temporary = `${path}.${process.pid}.tmp`
  writeFileSync(temporary, text, { mode })
  renameSync(temporary, path)
}

/** Makes a directory that only its owner can enter. */
export function makePrivateDir(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 })
}

/**
 * The 32-byte seed of a worker's key pair, made when it is first asked for and kept with mode 0600.
 * @throws MeshError STORE_INVALID when the file holds none
 */
export function loadSeed(workerDir: string): Buffer {
  const path = join(workerDir, 'identity.key')
  if (!existsSync(path)) writeFileAtomic(path, `${randomBytes(32).toString('hex')}\n`, 0o600)
  chmodSync(path, 0o600)
  const text = readFileSync(path, 'utf8').trim()
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw MeshError.STORE_INVALID(
      `${path} is no identity: expected 64 hexadecimal digits. Restore it from a backup, or delete it and join again`,
    )
  }
  return Buffer.from(text, 'hex')
}

/** Whether a process is running. One of another user counts as well. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !isZombie(pid)
  } catch (err) {
    return (err as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Whether a process has ended and only waits to be collected: in a container nobody may ever do that. */
function isZombie(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name before the state may hold anything, brackets too.
    return stat.charAt(stat.lastIndexOf(')') + 2) === 'Z'
  } catch {
    return false
  }
}
