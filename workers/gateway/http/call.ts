import { setMaxListeners } from 'node:events'
import { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { MeshError } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import type { RequestContext } from '../requests/index.js'

/** One HTTP request of a caller whose key is good. */
export interface Call extends RequestContext {
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
  // Each prompt and each answer of a call listens for its end.
  setMaxListeners(0, controller.signal)
  const leave = (): void => controller.abort(MeshError.CANCELLED('The caller went away'))
  const forget = onceClosed(request.raw.socket, leave)
  reply.raw.once('close', () => {
    forget()
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

const closing = new WeakMap<Socket, Set<() => void>>()

/**
 * Tells when a connection closes, with one listener for all requests of the connection. A pipelined answer that has not
 * begun is not told by Node.
 */
function onceClosed(socket: Socket, leave: () => void): () => void {
  if (!(socket instanceof Socket)) return () => {}
  let calls = closing.get(socket)
  if (calls === undefined) {
    const all = new Set<() => void>()
    socket.once('close', () => {
      for (const one of all) one()
    })
    closing.set(socket, all)
    calls = all
  }
  calls.add(leave)
  return () => calls.delete(leave)
}
