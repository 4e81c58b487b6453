import { MeshError } from '../../protocol/index.js'
import { isOwnAddress, originOf } from '../origin.js'
import type { NetConfig } from './config.js'

const RETRY_MS = 5000

/**
 * Why a client is not taken; undefined where it is.
 * @param addresses of all clients, the new one's included
 */
export function tooManyClients(
  addresses: readonly string[],
  address: string,
  { maxClients, maxClientsPerAddress }: Pick<NetConfig, 'maxClients' | 'maxClientsPerAddress'>,
): MeshError | undefined {
  if (addresses.length > maxClients) {
    return MeshError.BUSY(`${addresses.length - 1} clients are connected; no more are taken`, {
      retryAfterMs: RETRY_MS,
    })
  }
  if (maxClientsPerAddress === 0 || isOwnAddress(address)) return undefined
  const origin = originOf(address)
  const own = addresses.filter((other) => originOf(other) === origin).length
  if (own <= maxClientsPerAddress) return undefined
  return MeshError.BUSY(`${own - 1} clients are connected from ${origin}; no more are taken from there`, {
    retryAfterMs: RETRY_MS,
  })
}
