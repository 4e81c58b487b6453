import type Protomux from 'protomux'
import { z } from 'zod'
import { encodeJson, MeshError, parseJson, requestIdSchema, validate } from '../protocol/index.js'
import { acceptChannels, type ChannelHooks } from './accept.js'
import { Exchange, FETCH_PROTOCOL } from './exchange.js'

/**
 * One HTTP request and its response: a channel of its own on the link, opened by the side that asks.
 *
 *   opener    open(handshake = method, path, headers) data* end ->
 *             <- head data* (end | error)
 *   both      credit(n) ->          for what of the other's body was consumed
 *
 * A sender without credit waits. The response may end before the request's body does. Closing the channel cancels.
 */

const MAX_HEAD_BYTES = 64 * 1024
/** Fetches that one link may have open at a time. */
const MAX_OPEN_PER_LINK = 1024

const headersSchema = z
  .array(
    z.tuple([
      z.string().regex(/^[!#$%&'*+.^_`|~0-9a-z-]{1,256}$/, 'expected a header name in lower case'),
      z.string().regex(/^[\t\x20-\x7e\x80-\xff]*$/, 'expected a header value without control characters'),
    ]),
  )
  .max(256)

export const fetchRequestSchema = z.object({
  requestId: requestIdSchema,
  method: z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']),
  /** With the query, as it stands in a request line. */
  path: z
    .string()
    .max(8192)
    .regex(/^\/[\x21-\x7e]*$/, 'expected a path that begins with a slash'),
  headers: headersSchema,
  /** Whether a body follows. */
  body: z.boolean(),
})
export type FetchRequest = z.infer<typeof fetchRequestSchema>

export const fetchResponseSchema = z.object({ status: z.int().min(200).max(599), headers: headersSchema })
/** Status and headers of a response. */
export type FetchResponse = z.infer<typeof fetchResponseSchema>

/** The asking end. */
export class FetchCall extends Exchange {
  /** Status and headers, once they come. @throws MeshError */
  readonly response: Promise<FetchResponse>
  /** Resolves once nothing more will happen, whether it went well or not. */
  readonly done: Promise<void>
  #resolve: (head: FetchResponse) => void = () => {}
  #reject: (err: MeshError) => void = () => {}
  #finish: () => void = () => {}
  #hasHead = false

  /**
   * Opens the channel, and sends the request with its body.
   * @throws MeshError LINK_CLOSED when the link is gone, BAD_REQUEST when it is no request, MESSAGE_TOO_LARGE
   */
  constructor(mux: Protomux, request: FetchRequest, body?: Uint8Array | AsyncIterable<Uint8Array>) {
    const handshake = encodeJson(validate(fetchRequestSchema, request, 'request'))
    if (handshake.byteLength > MAX_HEAD_BYTES) {
      throw MeshError.MESSAGE_TOO_LARGE(
        `Path and headers have ${handshake.byteLength} bytes; at most ${MAX_HEAD_BYTES} are sent`,
      )
    }
    super(mux, request.requestId)
    this.response = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.response.catch(() => {})
    this.done = new Promise((resolve) => (this.#finish = resolve))
    // Head and the beginning of the body travel as one packet.
    mux.cork()
    try {
      this.channel.open(handshake)
      void this.#sendBody(body)
    } finally {
      mux.uncork()
    }
  }

  /** Ends the fetch; the other side stops its work. */
  cancel(reason = MeshError.CANCELLED('The fetch was cancelled', { requestId: this.requestId })): void {
    this.stop(reason)
  }

  async #sendBody(body: Uint8Array | AsyncIterable<Uint8Array> | undefined): Promise<void> {
    try {
      if (body instanceof Uint8Array) await this.write(body)
      else if (body !== undefined) for await (const chunk of body) await this.write(chunk)
      this.endOut()
    } catch (err) {
      this.stop(MeshError.from(err, 'CANCELLED', 'The body of the request broke off'))
    }
  }

  protected override onHead(bytes: Uint8Array): void {
    if (this.#hasHead) throw MeshError.BAD_REQUEST('A response has two heads')
    const head = validate(fetchResponseSchema, parseJson(bytes, 'The head of a response'), 'response')
    this.#hasHead = true
    this.#resolve(head)
  }

  protected override onInEnded(): void {
    if (!this.#hasHead) throw MeshError.BAD_REQUEST('A response ended without its head')
    this.channel.close()
    this.#finish()
  }

  protected override onStop(err: MeshError): void {
    this.#reject(err)
    this.#finish()
  }

  protected override get isOver(): boolean {
    return this.inEnded
  }
}

/** The answering end. */
export class FetchExchange extends Exchange {
  #responded = false

  constructor(mux: Protomux, requestId: string, hooks: ChannelHooks) {
    super(mux, requestId, hooks)
    this.channel.open(Buffer.alloc(0))
  }

  /** Whether status and headers were sent. */
  get responded(): boolean {
    return this.#responded
  }

  /** Sends status and headers. */
  respond(head: FetchResponse): void {
    if (this.#responded) throw MeshError.INTERNAL('A fetch was responded to twice')
    this.#responded = true
    this.tellHead(head)
  }

  /** The response is complete. */
  end(): void {
    this.endOut()
    this.channel.close()
  }

  /** Breaks the response off: it will not look finished. */
  fail(err: MeshError): void {
    this.stop(err)
  }

  protected override onHead(): void {
    throw MeshError.BAD_REQUEST('A request has one head, and it is the handshake')
  }

  protected override onStop(err: MeshError): void {
    this.tellError(err)
  }

  protected override get isOver(): boolean {
    return this.outEnded
  }
}

export type FetchHandler = (request: FetchRequest, exchange: FetchExchange) => Promise<void>

/**
 * Accepts fetches on a link. Call it in the same tick as the connection. What the handler throws breaks the response
 * off; a malformed request is answered, never thrown.
 */
export function acceptFetches(mux: Protomux, handler: FetchHandler): void {
  acceptChannels(mux, {
    protocol: FETCH_PROTOCOL,
    mostOpen: MAX_OPEN_PER_LINK,
    open: (requestId, hooks) => new FetchExchange(mux, requestId, hooks),
    run: (bytes, exchange) => {
      if (bytes.byteLength > MAX_HEAD_BYTES) throw MeshError.MESSAGE_TOO_LARGE('The head of the request is too long')
      return handler(validate(fetchRequestSchema, parseJson(bytes, 'The request'), 'request'), exchange)
    },
  })
}
