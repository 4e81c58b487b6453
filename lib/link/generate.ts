import c from 'compact-encoding'
import type Protomux from 'protomux'
import type { Channel, Message } from 'protomux'
import {
  decodeAsk,
  encodeAsk,
  type Finish,
  type GenerateAsk,
  type GenerateEvent,
  type GenerateInput,
  MeshError,
  messageOf,
} from '../protocol/index.js'
import { acceptChannels, type ChannelHooks } from './accept.js'
import { costOf, joined, ownCopy } from './batches.js'
import { linkClosed, notOpened } from './closed.js'
import { cork } from './cork.js'
import { CreditQueue, type CreditWindow, decodeCredit, encodeCredit, SendCredit } from './credit.js'
import { decodeEvent, encodeEvent } from './events.js'
import { MAX_MESSAGE_BYTES } from './rpc.js'

/**
 * One generation: a channel of its own on the link, opened by the side that wants the tokens.
 *
 *   opener    open(handshake = the request) ->
 *             <- queued* started tokens* (finish | error), each one event message
 *   opener    credit(n) ->          for what it has consumed
 *   opener    cancel ->             where it wants to hear what was used until then: tokens and an error follow
 *
 * A sender without credit joins the batches of tokens that wait, and past MAX_PENDING_BYTES of them the reader is too
 * slow and the generation is cut. An error needs no credit. Closing the channel cancels.
 */

export const GENERATE_PROTOCOL = 'infermesh/generate/1'
/**
 * What an event costs besides its bytes lets 64 small ones be under way: they carry more than 18,000 tokens/s over
 * loopback, and a reader that falls behind soon gets larger batches.
 */
const EVENT_WINDOW: CreditWindow = { bytes: 64 * 1024, perMessage: 1024 }
/**
 * How much may wait for a slow reader before it is cut: at 100 tokens/s a reader may stand still for seconds, even with 20
 * alternatives to each token.
 */
const MAX_PENDING_BYTES = 1024 * 1024
/** Generations that one link may have open at a time. */
const MAX_OPEN_PER_LINK = 4096

/** The reading end: an async iterator over the events of one generation, ended by `finish` or by a throw. */
export class Generation implements AsyncIterable<GenerateEvent> {
  /** Resolves once nothing more will come, whether it went well or not. */
  readonly done: Promise<void>
  readonly #channel: Channel
  readonly #events: CreditQueue<GenerateEvent>
  #release: () => void = () => {}
  #finish: () => void = () => {}
  readonly #cancel: Message<Uint8Array>
  readonly #lastWordMs: number
  #lastWord: NodeJS.Timeout | undefined

  /**
   * Opens the channel and sends the request with it.
   * @param lastWordMs how long a generation that is cancelled goes on to tell what it has used; 0: it ends at once
   * @throws MeshError LINK_CLOSED when the link is gone, MESSAGE_TOO_LARGE, CANCELLED
   */
  constructor(mux: Protomux, request: GenerateInput, signal?: AbortSignal, lastWordMs = 0) {
    const { requestId } = request
    if (signal?.aborted) throw MeshError.CANCELLED('The generation was cancelled', { requestId })
    const handshake = encodeAsk(request)
    if (handshake.byteLength > MAX_MESSAGE_BYTES) {
      throw MeshError.MESSAGE_TOO_LARGE(
        `The request has ${handshake.byteLength} bytes; at most ${MAX_MESSAGE_BYTES} are sent`,
        { requestId },
      )
    }
    const channel = mux.createChannel({
      protocol: GENERATE_PROTOCOL,
      id: Buffer.from(requestId),
      handshake: c.raw,
      onclose: () => {
        // Nearly all end whole, and an error's stack is dear.
        if (this.#events.over) this.#end()
        else this.#fail(linkClosed(mux, 'The stream ended before the answer was complete', { requestId }))
      },
    })
    if (channel === null) throw notOpened(mux, GENERATE_PROTOCOL, requestId)
    this.#channel = channel
    this.#lastWordMs = lastWordMs
    this.done = new Promise((resolve) => (this.#finish = resolve))
    channel.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onEvent(bytes) })
    const credit = channel.addMessage({ encoding: c.raw })
    this.#cancel = channel.addMessage({ encoding: c.raw })
    this.#events = new CreditQueue(EVENT_WINDOW, (more) => credit.send(encodeCredit(more)))
    channel.open(handshake)
    if (signal) {
      const onAbort = () => this.#stop(MeshError.CANCELLED('The generation was cancelled', { requestId }))
      signal.addEventListener('abort', onAbort, { once: true })
      this.#release = () => signal.removeEventListener('abort', onAbort)
    }
  }

  /** Ends the generation; the other side stops the engine's work. Its last word is told still, where that was wanted. */
  cancel(): void {
    this.#stop(MeshError.CANCELLED('The generation was cancelled'))
  }

  [Symbol.asyncIterator](): AsyncGenerator<GenerateEvent> {
    return this.#events.read(() => this.#end())
  }

  #onEvent(bytes: Uint8Array): void {
    if (this.#events.over) return
    try {
      const event = decodeEvent(bytes)
      if (event.type === 'error') return this.#fail(event.error)
      this.#events.push(event, bytes.byteLength)
      if (event.type === 'finish') this.#events.end()
    } catch (cause) {
      // The other side's mistake, and none of whoever asked for this: as good as lost.
      this.#fail(MeshError.LINK_CLOSED(`The answer broke off: ${messageOf(cause)}`, {}, { cause }))
    }
  }

  #stop(err: MeshError): void {
    if (this.#lastWordMs === 0 || this.#channel.closed || this.#events.over) return this.#fail(err)
    if (this.#lastWord !== undefined) return
    this.#cancel.send(Buffer.alloc(0))
    this.#lastWord = setTimeout(() => this.#fail(err), this.#lastWordMs)
  }

  #fail(err: MeshError): void {
    this.#events.fail(err)
    this.#end()
  }

  #end(): void {
    clearTimeout(this.#lastWord)
    this.#release()
    this.#channel.close()
    this.#finish()
  }
}

/** The writing end of one generation, as a handler gets it. */
export class GenerationSink {
  readonly #mux: Protomux
  readonly #channel: Channel
  readonly #event: Message<Uint8Array>
  readonly #cancelled = new AbortController()
  readonly #credit = new SendCredit(EVENT_WINDOW)
  readonly #pending: GenerateEvent[] = []
  #pendingBytes = 0
  #closing = false
  readonly requestId: string

  constructor(mux: Protomux, requestId: string, { onOpen, onClose }: ChannelHooks) {
    this.requestId = requestId
    this.#mux = mux
    const channel = mux.createChannel({
      protocol: GENERATE_PROTOCOL,
      id: Buffer.from(requestId),
      handshake: c.raw,
      onopen: onOpen,
      onclose: () => {
        // After the finish there is nothing left to cancel.
        if (!this.#closing) this.#cancelled.abort(this.#gone())
        this.#credit.close()
        onClose()
      },
    })
    if (channel === null) throw linkClosed(mux, 'The link is closed')
    this.#channel = channel
    this.#event = channel.addMessage({ encoding: c.raw })
    channel.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onCredit(bytes) })
    channel.addMessage({ encoding: c.raw, onmessage: () => this.#cancelled.abort(this.#gone()) })
    channel.open(Buffer.alloc(0))
  }

  /** Aborts when the other side cancels or the link ends. */
  get signal(): AbortSignal {
    return this.#cancelled.signal
  }

  /**
   * Hands one event over. Never waits: a reader that is behind gets its tokens in larger batches.
   * @throws MeshError SLOW_READER when too much is waiting, CANCELLED when nobody reads any more
   */
  push(event: GenerateEvent): void {
    if (this.#channel.closed) throw this.#gone()
    if (this.#credit.isLeft && this.#pending.length === 0) return this.#send(event)
    this.#hold(event)
    if (this.#pendingBytes > MAX_PENDING_BYTES) {
      const err = MeshError.SLOW_READER(
        `The reader left ${this.#pendingBytes} bytes of tokens waiting; the stream was cut`,
        { requestId: this.requestId },
      )
      this.fail(err)
      throw err
    }
  }

  /** Resolves once nothing waits for the reader's credit, or nobody reads any more. */
  async sent(): Promise<void> {
    while (this.#pending.length > 0 && !this.#channel.closed) await this.#credit.available()
  }

  /** Pushes the finish and closes once the reader has everything. */
  finish(finish: Finish): void {
    this.push({ type: 'finish', ...finish })
    this.#closing = true
    this.#closeMaybe()
  }

  /** Tells the error at once, ahead of what is still waiting, and closes. */
  fail(err: MeshError): void {
    if (this.#channel.closed) return
    this.#event.send(encodeEvent({ type: 'error', error: err }))
    this.#channel.close()
  }

  /** Keeps an event until there is credit, joined to the one before it where that can be. */
  #hold(event: GenerateEvent): void {
    const last = this.#pending.at(-1)
    if (event.type === 'tokens') {
      this.#pendingBytes += costOf(event)
      if (last?.type !== 'tokens' || !joined(last, event)) this.#pending.push(ownCopy(event))
    } else if (event.type === 'queued' && last?.type === 'queued') {
      last.position = event.position
    } else {
      this.#pending.push(event)
    }
  }

  #send(event: GenerateEvent): void {
    const bytes = encodeEvent(event)
    this.#credit.spend(bytes.byteLength)
    cork(this.#mux)
    this.#event.send(bytes)
  }

  #onCredit(bytes: Uint8Array): void {
    try {
      this.#credit.add(decodeCredit(bytes))
    } catch (err) {
      return this.fail(MeshError.from(err))
    }
    while (this.#credit.isLeft) {
      const event = this.#pending.shift()
      if (event === undefined) break
      if (event.type === 'tokens') this.#pendingBytes -= costOf(event)
      this.#send(event)
    }
    this.#closeMaybe()
  }

  #closeMaybe(): void {
    if (this.#closing && this.#pending.length === 0) this.#channel.close()
  }

  #gone(): MeshError {
    return MeshError.CANCELLED('The caller went away', { requestId: this.requestId })
  }
}

/** Gets what is asked for unread, so that it can look first at whose it is. */
export type GenerateHandler = (ask: GenerateAsk, sink: GenerationSink) => Promise<void>

/**
 * Accepts generations on a link. Call it in the same tick as the connection. What the handler throws is told to the
 * other side as the stream's error; a malformed request is answered, never thrown.
 */
export function acceptGenerations(mux: Protomux, handler: GenerateHandler): void {
  acceptChannels(mux, {
    protocol: GENERATE_PROTOCOL,
    mostOpen: MAX_OPEN_PER_LINK,
    open: (requestId, hooks) => new GenerationSink(mux, requestId, hooks),
    run: (bytes, sink) => {
      if (bytes.byteLength > MAX_MESSAGE_BYTES) {
        throw MeshError.MESSAGE_TOO_LARGE(
          `The request has ${bytes.byteLength} bytes; at most ${MAX_MESSAGE_BYTES} are read`,
        )
      }
      return handler(decodeAsk(sink.requestId, bytes), sink)
    },
  })
}
