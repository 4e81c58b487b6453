import { readFileSync } from 'node:fs'
import type { ServerOptions } from 'node:http'
import { Socket } from 'node:net'
import {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions,
  fastify,
} from 'fastify'
import { z } from 'zod'
import { writeFileAtomic } from '../../home/index.js'
import { lanAddresses } from '../../lan/index.js'
import {
  isLoopbackHost,
  isOwnHost,
  MAX_BODY_BYTES,
  MeshError,
  messageOf,
  newRequestId,
  noRequestAnswer,
  requestIdSchema,
  systemCode,
} from '../../protocol/index.js'
import type { Facility } from '../index.js'
import { Connections } from './connections.js'
import { keptPort } from './kept-port.js'
import { listenerPid } from './listener.js'
import { NotHttp } from './not-http.js'
import { drainRest, readRefusedBodies } from './refused-body.js'

const positive = z.int().min(1)

export const httpConfigSchema = z.strictObject({
  host: z.string().min(1),
  /** 0 picks a free port. */
  port: z.int().min(0).max(65_535),
  /** PEM files; both empty: plain HTTP. */
  tlsCert: z.string().default(''),
  tlsKey: z.string().default(''),
  /** Web pages of these origins may call from a browser; `*` is any. Empty: none. */
  corsOrigins: z.array(z.string().min(1)).default([]),
  /** Names besides localhost by which it may be called, as a Host header has them; `*` is any. */
  allowedHosts: z.array(z.string().min(1)).default([]),
  /** Longest body; past it the answer is 413. */
  bodyLimitBytes: positive.default(MAX_BODY_BYTES),
  /** Past these, a connection with nothing under way gives way to a new one. */
  maxConnections: positive.default(10_000),
  /** The same for one IPv4 address or IPv6 /64 network; 0: no bound. Loopback has none: a proxy may stand in front. */
  maxConnectionsPerAddress: z.int().min(0).default(1000),
  /** A client that has not sent its headers by then is cut. */
  headersTimeoutMs: positive.default(10_000),
  /** A client that has not sent its whole request by then is cut. */
  requestTimeoutMs: positive.default(60_000),
  /** A connection with no request under way is kept this long. */
  keepAliveTimeoutMs: positive.default(75_000),
  /** A client that takes nothing of its answer for this long is cut. */
  sendTimeoutMs: positive.default(45_000),
})
export type HttpConfig = z.output<typeof httpConfigSchema>

/** Headers that a page of another origin may read. */
const EXPOSED_HEADERS = [
  'x-request-id',
  'openai-processing-ms',
  'x-should-retry',
  'retry-after',
  'retry-after-ms',
  ...['requests', 'tokens'].flatMap((what) =>
    ['limit', 'remaining', 'reset'].map((fact) => `x-ratelimit-${fact}-${what}`),
  ),
].join(', ')
const PREFLIGHT_SECONDS = '7200'
/** How often the server looks for clients that are too slow with their requests. */
const CHECK_MS = 1000
const KEEP_ALIVE_PROBE_MS = 30_000
/** Connections that the system keeps until they are accepted; it may keep fewer (net.core.somaxconn). */
const BACKLOG = 4096
const MAX_HEADER_BYTES = 16 * 1024
/** Names of models stand in paths. */
const MAX_PARAM_CHARS = 600

/** A worker's HTTP server. Routes are added to `app` before the facility starts. */
export class Http implements Facility {
  readonly name = 'http'
  readonly app: FastifyInstance
  readonly #config: HttpConfig
  readonly #portFile: string
  readonly #warn: (message: string) => void
  readonly #host: () => string | undefined
  readonly #settings: string
  readonly #checksHost: boolean

  /**
   * @param portFile where a port that was free is kept, for the next start
   * @param warn told what a person should know
   * @param settings what its settings are called, for messages
   * @param host this machine's address as others of the mesh know it, where they do
   * @throws MeshError CONFIG_INVALID when the TLS files cannot be read
   */
  constructor(
    config: z.input<typeof httpConfigSchema>,
    portFile: string,
    warn: (message: string) => void,
    settings = 'http',
    host: () => string | undefined = () => undefined,
  ) {
    this.#config = httpConfigSchema.parse(config)
    this.#portFile = portFile
    this.#warn = warn
    this.#host = host
    this.#settings = settings
    this.#checksHost = isLoopbackHost(this.#config.host) || this.#config.allowedHosts.length > 0
    const { bodyLimitBytes, requestTimeoutMs, keepAliveTimeoutMs } = this.#config
    const tls = readTls(this.#config, settings)
    const server: ServerOptions = {
      headersTimeout: Math.min(this.#config.headersTimeoutMs, requestTimeoutMs),
      connectionsCheckingInterval: CHECK_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
      // Node would answer it without a body; here it is answered as everything is.
      requireHostHeader: false,
      // The system then finds out about clients that vanished without a word.
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS,
    }
    const notHttp = new NotHttp(MAX_HEADER_BYTES)
    const options: FastifyServerOptions = {
      logger: false,
      schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
      forceCloseConnections: true,
      bodyLimit: bodyLimitBytes,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: keepAliveTimeoutMs,
      // Base URLs are written with and without a slash at their end.
      routerOptions: { maxParamLength: MAX_PARAM_CHARS, ignoreTrailingSlash: true, ignoreDuplicateSlashes: true },
      requestIdHeader: false,
      genReqId: ({ headers }) => ownRequestId(headers['x-request-id']) ?? newRequestId(),
      clientErrorHandler: (err, socket) => notHttp.onClientError(err, socket),
      frameworkErrors: (err, request, reply) => {
        const { status, error } = noRequestAnswer(err.statusCode ?? 400, err.message, 'bad_request')
        // Its type depends on a route, and there is none here.
        const answer = reply as unknown as FastifyReply
        drainRest(request.raw, answer)
        void answer.code(status).header('x-request-id', request.id).send({ error })
      },
    }
    this.app =
      tls === undefined
        ? fastify({ ...options, http: server })
        : (fastify({
            ...options,
            https: { ...server, ...tls, handshakeTimeout: server.headersTimeout },
          } as FastifyServerOptions) as FastifyInstance)
    const { maxConnections: most, maxConnectionsPerAddress: perAddress } = this.#config
    new Connections(this.app.server, { most, perAddress })
    this.app.addHook('onRequest', async (request, reply) => this.#onRequest(request, reply))
    this.app.addHook('onSend', async ({ raw }) => {
      // Mesh calls are carried to the same routes, with no socket under them.
      if (raw.socket instanceof Socket) raw.socket.setTimeout(this.#config.sendTimeoutMs)
    })
    readRefusedBodies(this.app)
    notHttp.attach(this.app.server)
  }

  /** Longest body of a request, where its route says nothing else. */
  get bodyLimitBytes(): number {
    return this.#config.bodyLimitBytes
  }

  /** `http://host:port`, once started. What listens on every address is named by one that other machines can use. */
  get url(): string {
    const address = this.app.server.address()
    if (address === null || typeof address === 'string') return ''
    const isEvery = address.address === '0.0.0.0' || address.address === '::'
    const lan = isEvery ? (this.#host() ?? lanAddresses()[0]) : undefined
    const host = lan ?? (address.family === 'IPv6' ? `[${address.address}]` : address.address)
    return `${this.#config.tlsCert === '' ? 'http' : 'https'}://${host}:${address.port}`
  }

  async #onRequest(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
    reply.header('x-request-id', request.id)
    const { origin, host } = request.headers
    const { corsOrigins, allowedHosts } = this.#config
    if (host === undefined && request.raw.httpVersion === '1.1') {
      const { status, error } = noRequestAnswer(400, 'The request has no Host header, as HTTP/1.1 wants', 'bad_request')
      return reply.code(status).send({ error })
    }
    // Calls of the mesh have no socket, and no name that anybody resolved.
    if (this.#checksHost && request.raw.socket instanceof Socket && !isOwnHost(host, allowedHosts)) {
      const { status, error } = noRequestAnswer(
        421,
        `This worker does not answer to the name ${JSON.stringify(String(host).slice(0, 100))}. Allow it with the setting ${this.#settings}.allowedHosts`,
        'misdirected_request',
      )
      return reply.code(status).send({ error })
    }
    if (origin === undefined || !(corsOrigins.includes('*') || corsOrigins.includes(origin))) return undefined
    reply.header('access-control-allow-origin', origin)
    reply.header('access-control-expose-headers', EXPOSED_HEADERS)
    reply.header('vary', 'origin')
    if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return undefined
    return reply
      .code(204)
      .header('access-control-allow-methods', 'GET, POST, PUT, PATCH, DELETE')
      .header('access-control-allow-headers', request.headers['access-control-request-headers'] ?? 'authorization')
      .header('access-control-max-age', PREFLIGHT_SECONDS)
      .send()
  }

  /** @throws MeshError PORT_IN_USE naming the process that has the port, where that can be known */
  async start(): Promise<void> {
    const { host, port } = this.#config
    try {
      if (port === 0) await this.#listenOnFree()
      else await this.app.listen({ host, port, backlog: BACKLOG })
    } catch (err) {
      const code = systemCode(err)
      if (code === 'EADDRINUSE') {
        const pid = listenerPid(port)
        const holder = pid === undefined ? 'by another process' : `by the process with pid ${pid}`
        throw MeshError.PORT_IN_USE(
          `${host}:${port} is in use ${holder}. Stop it, or choose another port (0 picks a free one)`,
          { pid },
        )
      }
      if (code === 'EACCES' || code === 'EADDRNOTAVAIL') {
        throw MeshError.CONFIG_INVALID(`${host}:${port} cannot be listened on: ${code}`, {}, { cause: err })
      }
      throw err
    }
  }

  /** On the port of the last start, which people have written down; on another one where somebody has taken it. */
  async #listenOnFree(): Promise<void> {
    const { host } = this.#config
    const kept = keptPort(this.#portFile)
    if (kept !== 0) {
      try {
        await this.app.listen({ host, port: kept, backlog: BACKLOG })
        return
      } catch (err) {
        if (systemCode(err) !== 'EADDRINUSE' && systemCode(err) !== 'EACCES') throw err
        this.#warn(`port ${kept}, which this worker had before, is taken: it takes another one`)
      }
    }
    await this.app.listen({ host, port: 0, backlog: BACKLOG })
    const address = this.app.server.address()
    if (address === null || typeof address === 'string') return
    writeFileAtomic(this.#portFile, `${address.port}\n`, { lasting: false })
  }

  async stop(): Promise<void> {
    await this.app.close()
  }
}

/** Bodies are checked by zod: fastify's own compilers of schemas, a hundred files, are not loaded. */
function noSchemas(): never {
  throw new Error('routes here have no schemas of fastify’s')
}

function readTls({ tlsCert, tlsKey }: HttpConfig, settings: string): { cert: Buffer; key: Buffer } | undefined {
  if (tlsCert === '' && tlsKey === '') return undefined
  if (tlsCert === '' || tlsKey === '') {
    throw MeshError.CONFIG_INVALID(`${settings}: tlsCert and tlsKey belong together: give both, or neither`)
  }
  try {
    return { cert: readFileSync(tlsCert), key: readFileSync(tlsKey) }
  } catch (err) {
    throw MeshError.CONFIG_INVALID(`${settings}: the TLS files cannot be read: ${messageOf(err)}`, {}, { cause: err })
  }
}

function ownRequestId(header: string | string[] | undefined): string | undefined {
  const id = requestIdSchema.safeParse(header)
  return id.success ? id.data : undefined
}
