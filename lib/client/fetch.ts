import type { FetchCall, FetchRequest } from '../link/index.js'
import {
  CONNECTION_HEADERS,
  hasCredential,
  isOpenAiPath,
  KEY_HEADERS,
  MeshError,
  newRequestId,
} from '../protocol/index.js'
import type { Peer } from './peer.js'

/** What `mesh.fetch` needs of its client. */
export interface FetchParts {
  /** A gateway that the directory lists. @throws MeshError */
  connect: (signal: AbortSignal | undefined) => Promise<Peer>
  /** Told of a gateway that was lost. @returns whether another one may do what it could not */
  onFailure: (peer: Peer, err: unknown) => boolean
  /** The client's own key. */
  key: string | undefined
}

type Fetch = typeof globalThis.fetch

const METHODS: readonly FetchRequest['method'][] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']
const NO_BODY: ReadonlySet<number> = new Set([204, 205, 304])

/**
 * A `fetch` whose requests are carried over the mesh to a gateway's HTTP routes, whatever host the URL names.
 * It rejects as `fetch` does: with the signal's reason where that aborts, else with `TypeError('fetch failed')` whose
 * `cause` is the MeshError.
 */
export function makeFetch({ connect, onFailure, key }: FetchParts): Fetch {
  return async (input, init = {}) => {
    const signal = init.signal ?? (input instanceof Request ? input.signal : undefined)
    // What is no request is refused as `fetch` does. The signal is followed here: a second one costs more than the call.
    const request = new Request(input, { ...init, signal: null })
    const url = new URL(request.url)
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw failed(`${url.protocol} is not carried by the mesh`)
    const method = METHODS.find((name) => name === request.method)
    if (method === undefined) throw failed(`${request.method} is not carried by the mesh`)
    const body = await bodyOf(request, init.body)
    const isRepeatable = mayRepeat(method, url.pathname) && !isStream(body)
    signal?.throwIfAborted()
    for (let attempt = 1; ; attempt++) {
      let peer: Peer | undefined
      try {
        peer = await connect(signal)
        const call = peer.fetch(
          {
            requestId: newRequestId(),
            method,
            path: url.pathname + url.search,
            headers: headersOf(request.headers, key),
            body: body !== undefined,
          },
          body,
        )
        return await responseOf(call, request, signal)
      } catch (err) {
        if (signal?.aborted) throw signal.reason
        const isLost = peer !== undefined && onFailure(peer, err)
        if (!isLost || attempt > 1 || !isRepeatable) throw failed('fetch failed', err)
      }
    }
  }
}

/** Answers of a model may be asked for again, and reading changes nothing; what administers the mesh is done once. */
function mayRepeat(method: string, pathname: string): boolean {
  return method === 'GET' || method === 'HEAD' || isOpenAiPath(pathname)
}

type Body = Uint8Array | AsyncIterable<Uint8Array> | undefined

function isStream(body: Body): boolean {
  return body !== undefined && !(body instanceof Uint8Array)
}

async function bodyOf(request: Request, given: RequestInit['body']): Promise<Body> {
  if (request.body === null) return undefined
  if (typeof given === 'string') return Buffer.from(given)
  if (given instanceof Uint8Array) return given
  const isWhole = given instanceof URLSearchParams || given instanceof ArrayBuffer || given instanceof Blob
  return isWhole ? new Uint8Array(await request.arrayBuffer()) : chunksOf(request.body)
}

/** The chunks of a stream, whose source is told when nobody wants more. */
async function* chunksOf(stream: ReadableStream<unknown>): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) {
    if (!(chunk instanceof Uint8Array)) throw new TypeError('Received non-Uint8Array chunk')
    yield chunk
  }
}

function headersOf(headers: Headers, key: string | undefined): FetchRequest['headers'] {
  if (key !== undefined && !hasCredential(Object.fromEntries(headers))) {
    // What stands there in place of a key would be a second one.
    for (const name of KEY_HEADERS) headers.delete(name)
    headers.set('authorization', `Bearer ${key}`)
  }
  return [...headers].filter(([name]) => !CONNECTION_HEADERS.has(name))
}

async function responseOf(
  call: FetchCall,
  request: Request,
  signal: AbortSignal | undefined | null,
): Promise<Response> {
  const chunks = call.body()
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined
  const onAbort = () => {
    call.cancel()
    controller?.error(signal?.reason)
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  void call.done.then(() => signal?.removeEventListener('abort', onAbort))
  const { status, headers } = await call.response
  const hasBody = request.method !== 'HEAD' && !NO_BODY.has(status)
  const stream = new ReadableStream<Uint8Array>(
    {
      start: (own) => {
        controller = own
      },
      pull: async (own) => {
        try {
          const { done, value } = await chunks.next()
          if (done) own.close()
          else own.enqueue(value)
        } catch (err) {
          // As `fetch` says that a body broke off; an abort has said so already.
          if (!signal?.aborted) own.error(failed('terminated', err))
        }
      },
      cancel: () => call.cancel(),
    },
    { highWaterMark: 0 },
  )
  const response = new Response(hasBody ? stream : null, { status, headers })
  Object.defineProperty(response, 'url', { value: request.url })
  return response
}

function failed(message: string, cause?: unknown): TypeError {
  return new TypeError(message, cause === undefined ? undefined : { cause: MeshError.from(cause) })
}
