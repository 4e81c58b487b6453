import { MeshError, systemCode } from '../protocol/index.js'

/** HyperDHT's error codes by the step of connecting that they belong to. */
const PEER_NOT_FOUND = new Set(['PEER_NOT_FOUND'])
const HOLE_PUNCH = new Set([
  'HOLEPUNCH_ABORTED',
  'HOLEPUNCH_INVALID',
  'HOLEPUNCH_PROBE_TIMEOUT',
  'HOLEPUNCH_DOUBLE_RANDOMIZED_NATS',
  'CANNOT_HOLEPUNCH',
  'REMOTE_NOT_HOLEPUNCHING',
  'REMOTE_NOT_HOLEPUNCHABLE',
  'BAD_HOLEPUNCH_REPLY',
])
const REFUSED = new Set(['REMOTE_ABORTED', 'SERVER_ERROR', 'SERVER_INCOMPATIBLE'])

/**
 * Says which step of a failed dial went wrong.
 * @param peer how to name the other side to a person
 */
export function connectError(err: unknown, peer: string): MeshError {
  if (err instanceof MeshError) return err
  const code = systemCode(err)
  const details = code === undefined ? {} : { cause: code }
  const options = { cause: err }
  if (code === undefined) return MeshError.PEER_NOT_FOUND(`${peer} does not answer`, details, options)
  if (PEER_NOT_FOUND.has(code)) {
    return MeshError.PEER_NOT_FOUND(
      `${peer} is not in the DHT: it is not running, or it runs on another network`,
      details,
      options,
    )
  }
  if (HOLE_PUNCH.has(code)) {
    return MeshError.HOLE_PUNCH_FAILED(
      `${peer} was found, but no way through the two NATs was (${code})`,
      details,
      options,
    )
  }
  if (REFUSED.has(code)) return MeshError.REFUSED(`${peer} refused the connection (${code})`, details, options)
  return MeshError.PEER_NOT_FOUND(`${peer} does not answer (${code})`, details, options)
}
