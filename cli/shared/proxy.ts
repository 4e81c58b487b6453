import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import {
  CONNECTION_HEADERS,
  EMBEDDINGS_FACTOR,
  errorAnswerOf,
  hasCredential,
  isLoopbackHost,
  isOpenAiPath,
  MAX_BODY_BYTES,
  MeshError,
} from '../../lib/protocol/index.js'

/** The gateway itself says of each path how long its bodies may be. */
const LONGEST_BODY = MAX_BODY_BYTES * EMBEDDINGS_FACTOR

export interface ProxyOptions {
  /** Carries a request over the mesh. */
  fetch: typeof globalThis.fetch
  host: string
  /** 0 picks a free one. */
  port: number
}

export interface Proxy {
  /** `http://host:port` */
  readonly url: string
  /** Whether requests without a credential are made with this client's own key. */
  readonly lendsKey: boolean
  close(): Promise<void>
}

/**
 * Serves a gateway's HTTP door on this machine: each request is carried over the mesh, its answer streamed back, and a
 * client that leaves ends the work.
 *
 * Only on a loopback address may a request lack a credential: it is then made with this client's own key, unless it
 * would administer the mesh, or may come from a web page. A page can reach any local port, also by a name of its own
 * that resolves to 127.0.0.1: what it sends names its origin or that host.
 * @throws MeshError PORT_IN_USE, CONFIG_INVALID
 */
export async function startProxy({ fetch, host, port }: ProxyOptions): Promise<Proxy> {
  const lendsKey = isLoopbackHost(host)
  const server = createServer((request, response) => {
    answer(request, response, fetch, lendsKey).catch((err: unknown) => refuse(response, err))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (err: NodeJS.ErrnoException) => reject(listenError(err, host, port)))
    server.listen(port, host, resolve)
  })
  return {
    url: urlOf(server),
    lendsKey,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** `http://host:port` of a server that listens. */
function urlOf(server: Server): string {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy listens on no TCP port')
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address
  return `http://${host}:${address.port}`
}

function listenError(err: NodeJS.ErrnoException, host: string, port: number): MeshError {
  return err.code === 'EADDRINUSE'
    ? MeshError.PORT_IN_USE(`${host}:${port} is in use. Choose another port with --port (0 picks a free one)`)
    : MeshError.CONFIG_INVALID(`${host}:${port} cannot be listened on: ${err.code}`, {}, { cause: err })
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  fetch: typeof globalThis.fetch,
  lendsKey: boolean,
): Promise<void> {
  const target = targetOf(request)
  checkCredential(request, target, lendsKey)
  const gone = new AbortController()
  response.once('close', () => {
    if (!response.writableEnded) gone.abort(MeshError.CANCELLED('The caller went away'))
  })
  const { method = 'GET' } = request
  const body = await readBody(request)
  const answered = await fetch(target, {
    method,
    headers: headersOf(request),
    ...(body.byteLength > 0 && method !== 'GET' && method !== 'HEAD' && { body }),
    signal: gone.signal,
  })
  response.writeHead(
    answered.status,
    Object.fromEntries([...answered.headers].filter(([name]) => !CONNECTION_HEADERS.has(name))),
  )
  // Also where nothing of the body has come yet.
  response.flushHeaders()
  if (answered.body !== null) {
    for await (const chunk of answered.body) {
      if (!response.write(chunk)) await drained(response)
    }
  }
  response.end()
}

/**
 * The path as the gateway will read it, without `..`: what is decided here must be decided about the same path.
 * @throws MeshError BAD_REQUEST
 */
function targetOf({ url = '' }: IncomingMessage): URL {
  const text = `http://mesh${url}`
  if (!url.startsWith('/') || !URL.canParse(text))
    throw MeshError.BAD_REQUEST('This proxy wants a path that begins with /')
  return new URL(text)
}

/** @throws MeshError INVALID_API_KEY, FORBIDDEN, NOT_FOUND */
function checkCredential({ headers }: IncomingMessage, target: URL, lendsKey: boolean): void {
  if (hasCredential(headers)) return
  if (!lendsKey) {
    throw MeshError.INVALID_API_KEY('This proxy can be reached from other machines: send an API key of the mesh')
  }
  if (target.pathname.startsWith('/api/')) {
    throw MeshError.INVALID_API_KEY('What administers the mesh wants a credential of its own: send an API key or token')
  }
  if (!isOpenAiPath(target.pathname) && target.pathname !== '/openapi.json') {
    throw MeshError.NOT_FOUND(
      `There is no ${target.pathname} here: it serves the paths of the OpenAI API, and /api/v1/ with a credential`,
    )
  }
  const isLocal = (host: string | undefined) => isLoopbackHost((host ?? '').replace(/:\d+$/, ''))
  const { origin } = headers
  if (
    !isLocal(headers.host) ||
    (origin !== undefined && !isLocal(URL.canParse(origin) ? new URL(origin).host : origin))
  ) {
    throw MeshError.FORBIDDEN('A web page may not use this machine’s key: send an API key of the mesh')
  }
}

/** @throws MeshError MESSAGE_TOO_LARGE */
async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength
    if (bytes > LONGEST_BODY) {
      throw MeshError.MESSAGE_TOO_LARGE(`The body has more than ${LONGEST_BODY} bytes; send less at a time`)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function headersOf({ headers }: IncomingMessage): [string, string][] {
  return Object.entries(headers).flatMap(([name, value]) =>
    value === undefined || CONNECTION_HEADERS.has(name)
      ? []
      : [value].flat().map((one): [string, string] => [name, one]),
  )
}

/** Waits until the caller has taken what was written, or has gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done)
      response.off('close', done)
      resolve()
    }
    response.on('drain', done)
    response.on('close', done)
  })
}

/** Answers with the error, or breaks off an answer that has begun: it must not look finished. */
function refuse(response: ServerResponse, err: unknown): void {
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  // A fetch fails with a TypeError: with a cause by the network's fault, without one by the request's.
  const failure =
    err instanceof TypeError && err.cause === undefined
      ? MeshError.BAD_REQUEST(err.message)
      : MeshError.from(err instanceof TypeError ? err.cause : err)
  const { status, headers, error } = errorAnswerOf(failure)
  // What is left of the request is not read.
  response.writeHead(status, { ...headers, 'content-type': 'application/json; charset=utf-8', connection: 'close' })
  response.end(JSON.stringify({ error }))
}
