import type Protomux from 'protomux'
import { type ErrorDetails, MeshError } from '../protocol/index.js'

const reasons = new WeakMap<Protomux, MeshError>()

/** Notes why a link ends, for the errors of what is under way on it. */
export function noteReason(mux: Protomux, reason: MeshError): void {
  reasons.set(mux, reason)
}

/** LINK_CLOSED with this message, and with the reason why the link ended where that is known. */
export function linkClosed(mux: Protomux, message: string, details?: ErrorDetails, cause?: unknown): MeshError {
  const reason = reasons.get(mux)
  if (reason === undefined) return MeshError.LINK_CLOSED(message, details, cause === undefined ? {} : { cause })
  return MeshError.LINK_CLOSED(`${message}: ${reason.message}`, details, { cause: reason })
}

/** Why a channel for a request could not be opened: CONFLICT where its id is in use on this link, else LINK_CLOSED. */
export function notOpened(mux: Protomux, protocol: string, requestId: string): MeshError {
  return mux.opened({ protocol, id: Buffer.from(requestId) })
    ? MeshError.CONFLICT(`The request id ${requestId} is in use`, { requestId })
    : linkClosed(mux, 'The link is closed', { requestId })
}
