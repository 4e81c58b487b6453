import type { KeyPair } from 'hyperdht'
import DHT from 'hyperdht'
import { loadSeed } from '../home/index.js'

/**
 * The worker's key pair, made at its first start and kept with mode 0600.
 * @throws MeshError STORE_INVALID when the file is not an identity
 */
export function loadIdentity(workerDir: string): KeyPair {
  return DHT.keyPair(loadSeed(workerDir))
}
