import { chmodSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { systemCode } from '../protocol/index.js'
import { unreadable, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/** A worker's own secrets, each in a file of its directory with mode 0600. */

const IDENTITY = 'identity.key'
/** What of a worker's directory nobody else may read. */
const SECRETS = [IDENTITY, 'accounts.key', 'accounts.json']

/** Where a worker keeps the seed of its key pair, for messages. */
export function identityPath(workerDir: string): string {
  return join(workerDir, IDENTITY)
}

/**
 * The text of a file that only its owner may read; undefined where there is none. Rights that others have are taken away.
 * @throws MeshError STORE_INVALID when it is there and cannot be read
 */
export function readSecret(path: string): string | undefined {
  try {
    chmodSync(path, 0o600)
    return readFileSync(path, 'utf8').trim()
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return undefined
    throw unreadable(path, err, 'STORE_INVALID')
  }
}

/** Keeps a secret in a file that only its owner may read. */
export function writeSecret(path: string, text: string): void {
  writeFileAtomic(path, `${text}\n`, { mode: 0o600 })
}

/** Files of a home that hold a secret and that others than their owner may read. */
export function openSecrets(home: string): string[] {
  if (process.platform === 'win32') return []
  const { adminKey, homeInvite, login, chatHistory, metricsToken, workersDir } = homeFiles(home)
  const own = workerDirs(workersDir).flatMap((dir) => SECRETS.map((file) => join(dir, file)))
  return [adminKey, homeInvite, login, chatHistory, metricsToken, ...own].filter((path) => isOpen(path, 0o077))
}

/** Folders of a home that others than their owner may change, or enter though they hold stores and journals. */
export function openFolders(home: string): string[] {
  if (process.platform === 'win32' || !existsSync(home)) return []
  const { workersDir, logDir } = homeFiles(home)
  // What lies in a private home needs no more.
  const inside = isOpen(home, 0o077) ? [logDir, ...workerDirs(workersDir)].filter((path) => isOpen(path, 0o077)) : []
  return [...(isOpen(home, 0o022) ? [home] : []), ...inside]
}

/** Whether others than its owner have one of these rights to what lies at a path. */
function isOpen(path: string, rights: number): boolean {
  return existsSync(path) && (statSync(path).mode & rights) !== 0
}

function workerDirs(workersDir: string): string[] {
  return existsSync(workersDir) ? readdirSync(workersDir).map((name) => join(workersDir, name)) : []
}
