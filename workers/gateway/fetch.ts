import { randomBytes } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import {
  acceptFetches,
  type FetchExchange,
  type FetchRequest,
  type FetchResponse,
  type Link,
} from '../../lib/link/index.js'
import { CONNECTION_HEADERS, isOpenAiPath, MeshError } from '../../lib/protocol/index.js'
import { errorAnswer } from './http/index.js'

/** What the mesh reaches of the HTTP door besides OpenAI's; how the worker itself is doing is for this machine. */
const PATHS = /^\/api\/v1\/|^\/openapi\.json$/
/** By which the door knows the calls of this process; its value cannot be guessed from outside. */
const CALL_HEADER = 'x-infermesh-call'

/**
 * The gateway's end of the fetch channel: clients of the mesh reach the routes of the HTTP door without any port. A
 * client that closes its channel looks to the route like one whose connection broke.
 */
export class FetchDoor {
  readonly #app: FastifyInstance
  readonly #isStopping: () => boolean
  readonly #calls = new Map<string, (response: ServerResponse) => void>()

  /** Call it before the routes are added: what runs for each request is fixed with them. */
  constructor(app: FastifyInstance, isStopping: () => boolean) {
    this.#app = app
    this.#isStopping = isStopping
    app.addHook('onRequest', (request, reply, done) => {
      const id = request.headers[CALL_HEADER]
      if (typeof id === 'string') this.#calls.get(id)?.(reply.raw)
      done()
    })
  }

  /** Accepts fetches on a new link, in the tick of its connection. */
  attach(link: Link): void {
    acceptFetches(link.mux, async (request, exchange) => {
      if (link.role !== 'client') {
        throw MeshError.FORBIDDEN(`A peer with the role ${link.role} may not fetch: members have methods for that`)
      }
      try {
        await this.#answer(request, exchange, link.conn.rawStream.remoteHost)
      } catch (err) {
        const failure = MeshError.from(err)
        // Told as an error of the channel, so that the client takes another gateway.
        if (exchange.responded || exchange.signal.aborted || failure.code === 'SHUTTING_DOWN') throw failure
        await respondError(exchange, failure)
      }
    })
  }

  async #answer(request: FetchRequest, exchange: FetchExchange, remoteAddress: string): Promise<void> {
    // Not relative to a base: a path that begins with two slashes would name a host.
    const { pathname, search } = new URL(`http://mesh${request.path}`)
    if (!isOpenAiPath(pathname) && !PATHS.test(pathname))
      throw MeshError.NOT_FOUND(
        `There is no ${pathname} here: there are the paths of the OpenAI API, and those that begin with /api/v1/`,
      )
    const id = randomBytes(16).toString('hex')
    const headers: Record<string, string> = { host: 'mesh', [CALL_HEADER]: id }
    for (const [name, value] of request.headers) {
      if (CONNECTION_HEADERS.has(name) || name === CALL_HEADER) continue
      headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
    }
    const { signal } = exchange
    let answering: ServerResponse | undefined
    // As where a connection breaks: the response closes before it was complete. (The `signal` of `inject` does that only
    // until the request's body has been read.)
    const onAbort = () => answering?.destroy()
    this.#calls.set(id, (response) => {
      answering = response
      if (signal.aborted) onAbort()
    })
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const response = await this.#app
        .inject({
          method: request.method,
          url: pathname + search,
          headers,
          remoteAddress,
          payloadAsStream: true,
          // As it comes: what the door refuses by its headers alone is never held here.
          ...(request.body && { payload: Readable.from(exchange.body(), { objectMode: false }) }),
        })
        .catch((err: unknown) => {
          throw this.#isStopping() ? stopping(err) : err
        })
      if (response.statusCode === 503 && this.#isStopping()) throw stopping()
      exchange.respond({ status: response.statusCode, headers: headersOf(response.headers) })
      const chunks: AsyncIterable<Buffer> = response.stream()
      for await (const chunk of chunks) await exchange.write(chunk)
      exchange.end()
    } finally {
      this.#calls.delete(id)
      signal.removeEventListener('abort', onAbort)
    }
  }
}

function stopping(cause?: unknown): MeshError {
  return MeshError.SHUTTING_DOWN('This gateway is stopping: ask another one', { retryAfterMs: 1000 }, { cause })
}

function headersOf(headers: NodeJS.Dict<string | string[] | number>): FetchResponse['headers'] {
  return Object.entries(headers).flatMap(([name, value]): FetchResponse['headers'] => {
    if (value === undefined || CONNECTION_HEADERS.has(name)) return []
    return [value].flat().map((one) => [name, String(one)])
  })
}

async function respondError(exchange: FetchExchange, err: MeshError): Promise<void> {
  const { status, headers, error } = errorAnswer(err)
  const contentType: [string, string] = ['content-type', 'application/json; charset=utf-8']
  exchange.respond({ status, headers: [contentType, ...Object.entries(headers)] })
  await exchange.write(Buffer.from(JSON.stringify({ error })))
  exchange.end()
}
