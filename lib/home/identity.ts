import { randomBytes } from 'node:crypto'
import { MeshError } from '../protocol/index.js'
import { identityPath, readSecret, writeSecret } from './secrets.js'

/**
 * The 32-byte seed of a worker's key pair, made when it is first asked for and kept with mode 0600.
 * @throws MeshError STORE_INVALID when the file cannot be read or holds none
 */
export function loadSeed(workerDir: string): Buffer {
  const path = identityPath(workerDir)
  const text = readSecret(path)
  if (text === undefined) {
    const seed = randomBytes(32)
    writeSecret(path, seed.toString('hex'))
    return seed
  }
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw MeshError.STORE_INVALID(
      `${path} is no identity: expected 64 hexadecimal digits. Restore it from a backup, or delete it and join again`,
    )
  }
  return Buffer.from(text, 'hex')
}
