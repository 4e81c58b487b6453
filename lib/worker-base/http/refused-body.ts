import type { IncomingMessage, Server } from 'node:http'
import { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply } from 'fastify'

/**
 * What comes of a request's body that is not wanted. Closing the connection at once would reset it, and a client that is
 * still sending would never read why. So what comes is read on and forgotten, up to a bound; past that nothing more is
 * read, and the connection stays a little longer for those who read while they send.
 */

/** What of one refused body is read, and for how long; without anything coming for `silentMs` it is over sooner. */
export const REFUSED_BODY = { bytes: 32 * 1024 * 1024, ms: 30_000, silentMs: 5000 }

/** Has every answer of the app that goes out before its request has come whole be read in peace. */
export function readRefusedBodies(app: FastifyInstance): void {
  const asking = askedContinues(app.server)
  app.addHook('onSend', async ({ raw }, reply) => {
    drainRest(raw, reply, asking)
  })
}

/**
 * For answers that no hook sees.
 * @param asking requests whose clients wait to be told to go on, and have not been
 */
export function drainRest(request: IncomingMessage, reply: FastifyReply, asking?: WeakSet<IncomingMessage>): void {
  // Mesh calls are carried to the same routes, with no socket under them.
  if (!(request.socket instanceof Socket)) return
  // fastify's own: it closes after each body that it could not read.
  reply.removeHeader('connection')
  const length = request.headers['content-length']
  const hasBody = request.headers['transfer-encoding'] !== undefined || Number(length ?? 0) > 0
  if (request.complete || !hasBody) return
  // Where the body may go on for longer than it is read, or may never come, no other request can follow it.
  const isLast = length === undefined || Number(length) > REFUSED_BODY.bytes || asking?.has(request) === true
  asking?.delete(request)
  if (isLast) reply.header('connection', 'close')
  drain(request)
}

function drain(request: IncomingMessage): void {
  const { socket } = request
  let bytes = 0
  // Neither keeps a process that has nothing else to do.
  const end = setTimeout(() => socket.destroy(), REFUSED_BODY.ms).unref()
  const silence = setTimeout(() => socket.destroy(), REFUSED_BODY.silentMs).unref()
  // Called where the answer is the connection's last: says that nothing follows, and still reads.
  socket.destroySoon = () => socket.end()
  // Whoever was reading it reads no more.
  request.unpipe()
  request.removeAllListeners('readable')
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.byteLength
    if (bytes > REFUSED_BODY.bytes) request.pause()
    else silence.refresh()
  })
  const finish = (): void => {
    socket.off('close', finish)
    clearTimeout(end)
    clearTimeout(silence)
    Reflect.deleteProperty(socket, 'destroySoon')
    if (socket.writableEnded) socket.destroySoon()
  }
  request.once('end', finish)
  request.once('close', finish)
  socket.once('close', finish)
  request.resume()
}

/**
 * Tells clients that ask first (`Expect: 100-continue`) to go on when something begins to read their body, and not
 * before: what is refused by its head is never sent.
 * @returns those that have not been told
 */
function askedContinues(server: Server): WeakSet<IncomingMessage> {
  const asking = new WeakSet<IncomingMessage>()
  server.on('checkContinue', (request, response) => {
    asking.add(request)
    const tell = (event: string | symbol): void => {
      if (event !== 'data' && event !== 'readable') return
      request.removeListener('newListener', tell)
      if (asking.delete(request)) response.writeContinue()
    }
    request.on('newListener', tell)
    server.emit('request', request, response)
  })
  return asking
}
