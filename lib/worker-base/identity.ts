import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { KeyPair } from 'hyperdht'
import DHT from 'hyperdht'
import { MeshError } from '../protocol/index.js'

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
 * The worker's key pair, made at its first start and kept with mode 0600.
 * @throws MeshError STORE_INVALID when the file is not an identity
 */
export function loadIdentity(workerDir: string): KeyPair {
  const path = join(workerDir, 'identity.key')
  if (!existsSync(path)) {
    const seed = DHT.keyPair().secretKey.subarray(0, 32)
    writeFileAtomic(path, `${seed.toString('hex')}\n`, 0o600)
  }
  chmodSync(path, 0o600)
  const text = readFileSync(path, 'utf8').trim()
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw MeshError.STORE_INVALID(
      `${path} is no identity: expected 64 hexadecimal digits. Restore it from a backup, or delete it and join again`,
    )
  }
  return DHT.keyPair(Buffer.from(text, 'hex'))
}
