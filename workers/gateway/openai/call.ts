import type { FastifyReply, FastifyRequest } from 'fastify'
import { MeshError } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/worker-base/index.js'
import type { Asking } from '../requests.js'

/** One HTTP request of a caller whose key is good. */
export interface Call extends Asking {
  /** Seconds since the epoch. */
  readonly created: number
  /** Ends the work, for a reason of our own. */
  abort(reason: MeshError): void
}

/**
 * The call ends when its client goes away: when the answer's connection closes before the answer is complete. Where the
 * routes are called without a socket (`app.inject`), a body given as a stream together with a `signal` does the same.
 */
export function callOf(request: FastifyRequest, reply: FastifyReply, principal: Principal): Call {
  const controller = new AbortController()
  const leave = (): void => controller.abort(MeshError.CANCELLED('The caller went away'))
  reply.raw.once('close', () => {
    if (!reply.raw.writableEnded) leave()
  })
  request.raw.once('error', leave)
  return {
    requestId: request.id,
    principal,
    signal: controller.signal,
    created: Math.floor(Date.now() / 1000),
    abort: (reason) => controller.abort(reason),
  }
}
