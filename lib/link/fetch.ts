import c from 'compact-encoding'
import type Protomux from 'protomux'
import type { Channel, Message } from 'protomux'
import { z } from 'zod'
import { encodeJson, MeshError, parseJson, requestIdSchema, validate } from '../protocol/index.js'
import { cork } from './cork.js'

/**
 * One HTTP request and its response: a channel of its own on the link, opened by the side that asks.
 *
 *   opener    open(handshake = method, path, headers) data* end ->
 *             <- head data* (end | error)
 *   both      credit(n) ->          after n of the other's cost was consumed
 *
 * A sender may have FETCH_WINDOW of unconsumed cost under way, where a chunk costs its bytes and CHUNK_COST more, so that
 * a flood of tiny chunks is bounded too. The response may end before the request's body does. Closing the channel
 * cancels.
 */

export const FETCH_PROTOCOL = 'infermesh/fetch/1'
/** At 50 ms of round trip this carries 10 MB/s. */
export const FETCH_WINDOW = 512 * 1024
/** Messages stay small, so that no body delays another stream's tokens on the same link. */
const CHUNK_BYTES = 64 * 1024
/** What a chunk costs besides its bytes: about what holding it costs. */
const CHUNK_COST = 64
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

const TAG = { head: 0, data: 1, end: 2, error: 3, credit: 4 } as const

function tagged(tag: number, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(1 + body.byteLength)
  bytes[0] = tag
  bytes.set(body, 1)
  return bytes
}

const END = Buffer.from([TAG.end])

/** What both ends are: a body going out and one coming in, each in chunks and within its reader's window. */
abstract class Exchange {
  protected readonly mux: Protomux
  protected readonly channel: Channel
  readonly requestId: string
  readonly #frame: Message<Uint8Array>
  readonly #gone = new AbortController()
  readonly #chunks: Uint8Array[] = []
  /** Cost that came and was not yet given back as credit, and the part of it that was consumed. */
  #unreturned = 0
  #consumed = 0
  #inEnded = false
  #outEnded = false
  #credit = FETCH_WINDOW
  #failure: MeshError | undefined
  #changed: (() => void)[] = []

  protected constructor(mux: Protomux, requestId: string, onopen?: (handshake: Uint8Array) => void) {
    this.mux = mux
    this.requestId = requestId
    const channel = mux.createChannel({
      protocol: FETCH_PROTOCOL,
      id: Buffer.from(requestId),
      handshake: c.raw,
      onopen,
      onclose: () => this.#onClose(),
    })
    if (channel === null)
      throw MeshError.LINK_CLOSED('The link is closed, or this request id is already in use on it', { requestId })
    this.channel = channel
    this.#frame = channel.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onFrame(bytes) })
  }

  /** Aborts when this exchange ended before both bodies were complete: cancelled, failed, or the link is gone. */
  get signal(): AbortSignal {
    return this.#gone.signal
  }

  /** The chunks that come in. Reading them is what lets more come. @throws MeshError */
  async *body(): AsyncGenerator<Uint8Array> {
    while (true) {
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) {
        this.#giveCredit(chunk)
        yield chunk
      } else if (this.#failure !== undefined) throw this.#failure
      else if (this.#inEnded) return
      else await this.#change()
    }
  }

  /** Sends bytes and resolves once they are under way, which waits for a slow reader. @throws MeshError */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) {
      const chunk = bytes.subarray(at, at + CHUNK_BYTES)
      const cost = chunk.byteLength + CHUNK_COST
      while (this.#credit < cost && !this.channel.closed) await this.#change()
      if (this.channel.closed) throw this.#failure ?? MeshError.LINK_CLOSED('Nobody reads this body any more')
      this.#credit -= cost
      this.send(tagged(TAG.data, chunk))
    }
  }

  /** The body that goes out is complete. */
  protected endOut(): void {
    if (this.#outEnded || this.#failure !== undefined) return
    this.#outEnded = true
    this.send(END)
  }

  protected send(bytes: Uint8Array): void {
    if (this.channel.closed) return
    cork(this.mux)
    this.#frame.send(bytes)
  }

  /** Ends this exchange: both bodies break off with the error. */
  protected stop(err: MeshError): void {
    if (!this.isOver && this.#failure === undefined) {
      this.#failure = err
      this.#chunks.length = 0
      this.#gone.abort(err)
      this.onStop(err)
    }
    this.channel.close()
    this.#tell()
  }

  /** A frame other than data, end and credit. @throws MeshError when it is malformed or none is expected */
  protected abstract onHead(bytes: Uint8Array): void
  /** Called once, where the exchange breaks off. */
  protected abstract onStop(err: MeshError): void
  /** Whether nothing more is to come, so that the end of the channel breaks nothing off. */
  protected abstract get isOver(): boolean

  /** Whether the other side's body has come whole. */
  protected get inEnded(): boolean {
    return this.#inEnded
  }

  /** Whether our body has gone whole. */
  protected get outEnded(): boolean {
    return this.#outEnded
  }

  /** Called when the other side's body has come whole. */
  protected onInEnded(): void {}

  #onFrame(bytes: Uint8Array): void {
    if (this.#failure !== undefined) return
    try {
      this.#read(bytes[0], bytes.subarray(1))
    } catch (err) {
      this.stop(MeshError.from(err, 'BAD_REQUEST', 'A frame of a fetch could not be read'))
    }
  }

  #read(tag: number | undefined, payload: Uint8Array): void {
    switch (tag) {
      case TAG.data:
        if (this.#inEnded) throw MeshError.BAD_REQUEST('A chunk came after the end of its body')
        if (payload.byteLength === 0 || payload.byteLength > CHUNK_BYTES) {
          throw MeshError.BAD_REQUEST(`A chunk has ${payload.byteLength} bytes; expected 1 to ${CHUNK_BYTES}`)
        }
        this.#unreturned += payload.byteLength + CHUNK_COST
        if (this.#unreturned > FETCH_WINDOW) throw MeshError.BAD_REQUEST('The other side sent more than its credit')
        this.#chunks.push(payload)
        break
      case TAG.end:
        if (this.#inEnded) throw MeshError.BAD_REQUEST('A body ended twice')
        this.#inEnded = true
        this.onInEnded()
        break
      case TAG.head:
        this.onHead(payload)
        break
      case TAG.error:
        throw MeshError.fromJSON(parseJson(payload, 'The error of a fetch'))
      case TAG.credit:
        if (payload.byteLength !== 4) throw MeshError.BAD_REQUEST('A credit has the wrong length')
        this.#credit = Math.min(FETCH_WINDOW, this.#credit + Buffer.from(payload).readUInt32LE())
        break
      default:
        throw MeshError.BAD_REQUEST(`A frame of a fetch has the unknown tag ${tag}`)
    }
    this.#tell()
  }

  /** Credit goes back in quarters of the window, to save messages. */
  #giveCredit(chunk: Uint8Array): void {
    this.#consumed += chunk.byteLength + CHUNK_COST
    if (this.#consumed < FETCH_WINDOW / 4 || this.#inEnded) return
    const bytes = Buffer.allocUnsafe(5)
    bytes[0] = TAG.credit
    bytes.writeUInt32LE(this.#consumed, 1)
    this.#unreturned -= this.#consumed
    this.#consumed = 0
    this.send(bytes)
  }

  #onClose(): void {
    this.stop(MeshError.LINK_CLOSED('The stream ended before the response was complete', { requestId: this.requestId }))
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#changed.push(resolve))
  }

  #tell(): void {
    const changed = this.#changed
    this.#changed = []
    for (const resolve of changed) resolve()
  }

  protected tellError(err: MeshError): void {
    this.send(tagged(TAG.error, encodeJson(err.toJSON())))
  }

  protected tellHead(head: FetchResponse): void {
    this.send(tagged(TAG.head, encodeJson(head)))
  }
}

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
  /** The request as bytes, once the channel is open. */
  readonly handshake: Promise<Uint8Array>
  readonly #onEnd: () => void
  #responded = false

  /** @param onEnd called once, when the channel is closed */
  constructor(mux: Protomux, requestId: string, onEnd: () => void) {
    cork(mux)
    let opened: (bytes: Uint8Array) => void = () => {}
    const handshake = new Promise<Uint8Array>((resolve) => (opened = resolve))
    super(mux, requestId, (bytes) => opened(bytes))
    this.handshake = handshake
    this.#onEnd = onEnd
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

  protected override stop(err: MeshError): void {
    super.stop(err)
    this.#onEnd?.()
  }
}

export type FetchHandler = (request: FetchRequest, exchange: FetchExchange) => Promise<void>

/**
 * Accepts fetches on a link. Call it in the same tick as the connection. What the handler throws breaks the response
 * off; a malformed request is answered, never thrown.
 */
export function acceptFetches(mux: Protomux, handler: FetchHandler): void {
  const open = new Set<FetchExchange>()
  mux.pair({ protocol: FETCH_PROTOCOL }, (id) => {
    // Not creating the channel makes protomux reject it.
    if (open.size >= MAX_OPEN_PER_LINK || id === null || id.byteLength > 64) return
    const exchange: FetchExchange = new FetchExchange(mux, id.toString('latin1'), () => open.delete(exchange))
    open.add(exchange)
    exchange.handshake
      .then((bytes) => {
        if (bytes.byteLength > MAX_HEAD_BYTES) throw MeshError.MESSAGE_TOO_LARGE('The head of the request is too long')
        return handler(validate(fetchRequestSchema, parseJson(bytes, 'The request'), 'request'), exchange)
      })
      .catch((err: unknown) => exchange.fail(MeshError.from(err)))
  })
}
