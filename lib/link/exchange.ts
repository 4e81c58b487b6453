import c from 'compact-encoding'
import type Protomux from 'protomux'
import type { Channel, Message } from 'protomux'
import { encodeJson, MeshError, parseJson } from '../protocol/index.js'
import type { ChannelHooks } from './accept.js'
import { linkClosed, notOpened } from './closed.js'
import { cork } from './cork.js'
import { CreditQueue, type CreditWindow, decodeCredit, encodeCredit, SendCredit } from './credit.js'

export const FETCH_PROTOCOL = 'infermesh/fetch/1'
/** At 50 ms of round trip this carries 10 MB/s. A chunk costs, besides its bytes, about what holding it does. */
export const FETCH_WINDOW: CreditWindow = { bytes: 512 * 1024, perMessage: 64 }
/** Messages stay small, so that no body delays another stream's tokens on the same link. */
const CHUNK_BYTES = 64 * 1024

const TAG = { head: 0, data: 1, end: 2, error: 3, credit: 4 } as const

function tagged(tag: number, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(1 + body.byteLength)
  bytes[0] = tag
  bytes.set(body, 1)
  return bytes
}

const END = Buffer.from([TAG.end])

/** What both ends of a fetch are: a body going out and one coming in, each in chunks and within its reader's window. */
export abstract class Exchange {
  protected readonly mux: Protomux
  protected readonly channel: Channel
  readonly requestId: string
  readonly #frame: Message<Uint8Array>
  readonly #gone = new AbortController()
  readonly #chunks: CreditQueue<Uint8Array>
  readonly #credit = new SendCredit(FETCH_WINDOW)
  #outEnded = false
  #failure: MeshError | undefined

  protected constructor(mux: Protomux, requestId: string, hooks: Partial<ChannelHooks> = {}) {
    this.mux = mux
    this.requestId = requestId
    const channel = mux.createChannel({
      protocol: FETCH_PROTOCOL,
      id: Buffer.from(requestId),
      handshake: c.raw,
      onopen: hooks.onOpen,
      onclose: () => {
        // Nearly all end whole, and an error's stack is dear.
        if (this.isOver) this.#credit.close()
        else this.stop(linkClosed(mux, 'The stream ended before the response was complete', { requestId }))
        hooks.onClose?.()
      },
    })
    if (channel === null) throw notOpened(mux, FETCH_PROTOCOL, requestId)
    this.channel = channel
    this.#chunks = new CreditQueue(FETCH_WINDOW, (credit) => this.#send(tagged(TAG.credit, encodeCredit(credit))))
    this.#frame = channel.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onFrame(bytes) })
  }

  /** Aborts when this exchange ended before both bodies were complete: cancelled, failed, or the link is gone. */
  get signal(): AbortSignal {
    return this.#gone.signal
  }

  /** The chunks that come in. Reading them is what lets more come. @throws MeshError */
  body(): AsyncGenerator<Uint8Array> {
    return this.#chunks.read()
  }

  /** Sends bytes and resolves once they are under way, which waits for a slow reader. @throws MeshError */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) {
      const chunk = bytes.subarray(at, at + CHUNK_BYTES)
      // Asked again where another writer was sooner.
      while (!this.#credit.isLeft && !this.channel.closed) await this.#credit.available()
      if (this.channel.closed) throw this.#failure ?? linkClosed(this.mux, 'Nobody reads this body any more')
      this.#credit.spend(chunk.byteLength)
      this.#send(tagged(TAG.data, chunk))
    }
  }

  /** The body that goes out is complete. */
  protected endOut(): void {
    if (this.#outEnded || this.#failure !== undefined) return
    this.#outEnded = true
    this.#send(END)
  }

  /** Ends this exchange: both bodies break off with the error. */
  protected stop(err: MeshError): void {
    if (!this.isOver && this.#failure === undefined) {
      this.#failure = err
      this.#chunks.fail(err)
      this.#gone.abort(err)
      this.onStop(err)
    }
    this.channel.close()
    this.#credit.close()
  }

  /** A frame other than data, end and credit. @throws MeshError when it is malformed or none is expected */
  protected abstract onHead(bytes: Uint8Array): void
  /** Called once, where the exchange breaks off. */
  protected abstract onStop(err: MeshError): void
  /** Whether nothing more is to come, so that the end of the channel breaks nothing off. */
  protected abstract get isOver(): boolean

  /** Whether the other side's body has come whole. */
  protected get inEnded(): boolean {
    return this.#chunks.ended
  }

  /** Whether our body has gone whole. */
  protected get outEnded(): boolean {
    return this.#outEnded
  }

  /** Called when the other side's body has come whole. */
  protected onInEnded(): void {}

  protected tellError(err: MeshError): void {
    this.#send(tagged(TAG.error, encodeJson(err.toJSON())))
  }

  protected tellHead(head: object): void {
    this.#send(tagged(TAG.head, encodeJson(head)))
  }

  #send(bytes: Uint8Array): void {
    if (this.channel.closed) return
    cork(this.mux)
    this.#frame.send(bytes)
  }

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
        if (this.inEnded) throw MeshError.BAD_REQUEST('A chunk came after the end of its body')
        if (payload.byteLength === 0 || payload.byteLength > CHUNK_BYTES) {
          throw MeshError.BAD_REQUEST(`A chunk has ${payload.byteLength} bytes; expected 1 to ${CHUNK_BYTES}`)
        }
        return this.#chunks.push(payload, payload.byteLength)
      case TAG.end:
        if (this.inEnded) throw MeshError.BAD_REQUEST('A body ended twice')
        this.#chunks.end()
        return this.onInEnded()
      case TAG.head:
        return this.onHead(payload)
      case TAG.error:
        throw MeshError.fromJSON(parseJson(payload, 'The error of a fetch'))
      case TAG.credit:
        return this.#credit.add(decodeCredit(payload))
      default:
        throw MeshError.BAD_REQUEST(`A frame of a fetch has the unknown tag ${tag}`)
    }
  }
}
