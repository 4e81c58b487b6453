import c from 'compact-encoding'
import type Protomux from 'protomux'
import type { Channel, Message } from 'protomux'
import {
  encodeJson,
  type Finish,
  finishSchema,
  type GenerateEvent,
  type GenerateInput,
  type GenerateRequest,
  generateRequestSchema,
  MeshError,
  parseJson,
  queuedSchema,
  startedSchema,
  type TokenBatch,
  tokenBatchSchema,
  validate,
} from '../protocol/index.js'
import { cork } from './cork.js'
import { MAX_MESSAGE_BYTES } from './rpc.js'

/**
 * One generation: a channel of its own on the link, opened by the side that wants the tokens.
 *
 *   opener    open(handshake = the request) ->
 *             <- queued* started tokens* (finish | error), each one event message
 *   opener    credit(n) ->          after it has consumed n events
 *
 * The sender may have CREDIT_WINDOW unconsumed events under way; beyond that it joins token batches together, and past
 * MAX_PENDING_BYTES of them the reader is too slow and the generation is cut. Closing the channel cancels.
 */

export const GENERATE_PROTOCOL = 'infermesh/generate/1'
/** 64 credits carry more than 18,000 tokens/s over loopback. */
const CREDIT_WINDOW = 64
/** Credits go back in groups, to halve the messages. */
const CREDIT_BATCH = 16
/** How much text may wait for a slow reader before it is cut. */
const MAX_PENDING_BYTES = 256 * 1024
/** Generations that one link may have open at a time. */
const MAX_OPEN_PER_LINK = 4096

const TAG = { queued: 0, started: 1, tokens: 2, finish: 3, error: 4 } as const

const MAX_TOKENS_PER_EVENT = 65_536

/**
 * A batch as bytes: index, number of ids, ids, length of the text, text, and last, where it has them, log-probabilities
 * and calls as one JSON object, up to the end of the message.
 */
function encodeTokens({ index, ids, text, logprobs, calls }: TokenBatch): Buffer {
  const written = Buffer.from(text)
  const extras = logprobs === undefined && calls === undefined ? undefined : encodeJson({ logprobs, calls })
  const numbers = [TAG.tokens, index, ids.length, ...ids, written.byteLength]
  const state = c.state(0, 0)
  for (const n of numbers) c.uint.preencode(state, n)
  const bytes = Buffer.allocUnsafe(state.end + written.byteLength + (extras?.byteLength ?? 0))
  state.buffer = bytes
  for (const n of numbers) c.uint.encode(state, n)
  written.copy(bytes, state.start)
  extras?.copy(bytes, state.start + written.byteLength)
  return bytes
}

function encodeTagged(tag: number, value: unknown): Buffer {
  return Buffer.concat([Buffer.from([tag]), encodeJson(value)])
}

/** One event as one message. */
export function encodeEvent(event: GenerateEvent | { type: 'error'; error: MeshError }): Buffer {
  switch (event.type) {
    case 'tokens':
      return encodeTokens(event)
    case 'error':
      return encodeTagged(TAG.error, event.error.toJSON())
    default: {
      const { type, ...body } = event
      return encodeTagged(TAG[type], body)
    }
  }
}

/** @throws MeshError BAD_REQUEST for a malformed message; the error itself for an error event */
export function decodeEvent(bytes: Uint8Array): GenerateEvent {
  const tag = bytes[0]
  const json = () => parseJson(bytes.subarray(1), 'A generation event')
  switch (tag) {
    case TAG.tokens:
      return { type: 'tokens', ...decodeTokens(bytes) }
    case TAG.queued:
      return { type: 'queued', ...validate(queuedSchema, json(), 'queued event') }
    case TAG.started:
      return { type: 'started', ...validate(startedSchema, json(), 'started event') }
    case TAG.finish:
      return { type: 'finish', ...validate(finishSchema, json(), 'finish event') }
    case TAG.error:
      throw MeshError.fromJSON(json())
    default:
      throw MeshError.BAD_REQUEST(`A generation event has the unknown tag ${tag}`)
  }
}

const extrasSchema = tokenBatchSchema.pick({ logprobs: true, calls: true })

function decodeTokens(bytes: Uint8Array): TokenBatch {
  try {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const state = { start: 1, end: bytes.byteLength, buffer }
    const index = c.uint.decode(state)
    const count = c.uint.decode(state)
    if (count > MAX_TOKENS_PER_EVENT || count > state.end - state.start) throw new Error(`${count} tokens in one event`)
    const ids: number[] = []
    for (let i = 0; i < count; i++) ids.push(c.uint.decode(state))
    const textEnd = c.uint.decode(state) + state.start
    if (textEnd > state.end) throw new Error('the text is cut off')
    const batch = { index, ids, text: buffer.toString('utf8', state.start, textEnd) }
    if (textEnd === state.end) return batch
    return { ...batch, ...validate(extrasSchema, parseJson(buffer.subarray(textEnd), 'The event'), 'token event') }
  } catch (cause) {
    throw MeshError.BAD_REQUEST('A token event is malformed', {}, { cause })
  }
}

/** What a batch costs while it waits: about what holding it takes, in bytes. */
function costOf({ ids, text, logprobs = [], calls = [] }: TokenBatch): number {
  const ofLogprobs = logprobs.reduce((sum, { top }) => sum + 64 * (1 + top.length), 0)
  const ofCalls = calls.reduce((sum, call) => sum + call.arguments.length + 32, 0)
  return text.length + ids.length * 4 + ofLogprobs + ofCalls
}

/** Adds a batch to the one before it, where the text and calls of both keep their order. */
function joined(last: TokenBatch, next: TokenBatch): boolean {
  if (last.calls !== undefined && next.text !== '') return false
  last.ids.push(...next.ids)
  last.text += next.text
  if (next.logprobs !== undefined) last.logprobs = [...(last.logprobs ?? []), ...next.logprobs]
  if (next.calls !== undefined) last.calls = [...(last.calls ?? []), ...next.calls]
  return true
}

/** The reading end: an async iterator over the events of one generation, ended by `finish` or by a throw. */
export class Generation implements AsyncIterable<GenerateEvent> {
  readonly #channel: Channel
  readonly #credit: Message<Uint8Array>
  readonly #queue: GenerateEvent[] = []
  #consumed = 0
  #failure: MeshError | undefined
  #finished = false
  #wake: (() => void) | undefined
  #release: () => void = () => {}

  /**
   * Opens the channel and sends the request with it.
   * @throws MeshError LINK_CLOSED when the link is gone, MESSAGE_TOO_LARGE, CANCELLED
   */
  constructor(mux: Protomux, request: GenerateInput, signal?: AbortSignal) {
    const { requestId } = request
    if (signal?.aborted) throw MeshError.CANCELLED('The generation was cancelled', { requestId })
    const handshake = encodeJson(request)
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
        if (this.#finished) this.#end()
        else this.#fail(MeshError.LINK_CLOSED('The stream ended before the answer was complete', { requestId }))
      },
    })
    if (channel === null)
      throw MeshError.LINK_CLOSED('The link is closed, or this request id is already in use on it', { requestId })
    this.#channel = channel
    channel.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onEvent(bytes) })
    this.#credit = channel.addMessage({ encoding: c.raw })
    channel.open(handshake)
    if (signal) {
      const onAbort = () => this.#fail(MeshError.CANCELLED('The generation was cancelled', { requestId }))
      signal.addEventListener('abort', onAbort, { once: true })
      this.#release = () => signal.removeEventListener('abort', onAbort)
    }
  }

  /** Ends the generation; the other side stops the engine's work. */
  cancel(): void {
    this.#fail(MeshError.CANCELLED('The generation was cancelled'))
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GenerateEvent> {
    try {
      while (true) {
        const event = this.#queue.shift()
        if (event) {
          this.#giveCredit()
          yield event
          if (event.type === 'finish') return
        } else if (this.#failure) throw this.#failure
        else await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    } finally {
      this.#end()
    }
  }

  #onEvent(bytes: Uint8Array): void {
    if (this.#finished || this.#failure) return
    try {
      const event = decodeEvent(bytes)
      this.#queue.push(event)
      if (event.type === 'finish') this.#finished = true
      this.#wake?.()
    } catch (err) {
      this.#fail(MeshError.from(err, 'INTERNAL', 'A generation event could not be read'))
    }
  }

  #giveCredit(): void {
    if (++this.#consumed < CREDIT_BATCH || this.#channel.closed) return
    this.#credit.send(c.encode(c.uint, this.#consumed))
    this.#consumed = 0
  }

  #fail(err: MeshError): void {
    if (!this.#finished) this.#failure ??= err
    this.#end()
    this.#wake?.()
  }

  #end(): void {
    this.#release()
    this.#channel.close()
  }
}

/** The writing end of one generation, as a handler gets it. */
export class GenerationSink {
  readonly #mux: Protomux
  readonly #channel: Channel
  readonly #event: Message<Uint8Array>
  readonly #cancelled = new AbortController()
  #credits = CREDIT_WINDOW
  #pending: GenerateEvent[] = []
  #pendingBytes = 0
  #closing = false
  readonly requestId: string

  constructor(mux: Protomux, id: Buffer, onclose: () => void) {
    this.requestId = id.toString()
    this.#mux = mux
    cork(mux)
    const channel = mux.createChannel({
      protocol: GENERATE_PROTOCOL,
      id,
      handshake: c.raw,
      onopen: (handshake) => this.#resolveRequest(handshake),
      onclose: () => {
        // After the finish there is nothing left to cancel.
        if (!this.#closing)
          this.#cancelled.abort(MeshError.CANCELLED('The caller went away', { requestId: this.requestId }))
        onclose()
      },
    })
    if (channel === null) throw MeshError.LINK_CLOSED('The link is closed')
    this.#channel = channel
    this.#event = channel.addMessage({ encoding: c.raw })
    channel.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onCredit(bytes) })
    channel.open(Buffer.alloc(0))
  }

  #resolveRequest: (handshake: Uint8Array) => void = () => {}
  /** The request as bytes, once the channel is open. */
  readonly handshake = new Promise<Uint8Array>((resolve) => (this.#resolveRequest = resolve))

  /** Aborts when the other side cancels or the link ends. */
  get signal(): AbortSignal {
    return this.#cancelled.signal
  }

  /**
   * Hands one event over. Never waits: a reader that is behind gets its tokens in larger batches.
   * @throws MeshError SLOW_READER when too much is waiting, CANCELLED when nobody reads any more
   */
  push(event: GenerateEvent): void {
    if (this.#channel.closed) throw MeshError.CANCELLED('The caller went away', { requestId: this.requestId })
    if (this.#credits > 0 && this.#pending.length === 0) return this.#send(encodeEvent(event))
    const last = this.#pending.at(-1)
    if (event.type === 'tokens') {
      this.#pendingBytes += costOf(event)
      if (last?.type !== 'tokens' || !joined(last, event)) this.#pending.push({ ...event, ids: [...event.ids] })
    } else if (event.type === 'queued' && last?.type === 'queued') {
      last.position = event.position
    } else {
      this.#pending.push(event)
    }
    if (this.#pendingBytes > MAX_PENDING_BYTES) {
      const err = MeshError.SLOW_READER(
        `The reader left ${this.#pendingBytes} bytes of tokens waiting; the stream was cut`,
        { requestId: this.requestId },
      )
      this.fail(err)
      throw err
    }
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

  #send(bytes: Buffer): void {
    this.#credits--
    cork(this.#mux)
    this.#event.send(bytes)
  }

  #onCredit(bytes: Uint8Array): void {
    try {
      const credit = c.decode(c.uint, bytes)
      this.#credits = Math.min(CREDIT_WINDOW, this.#credits + credit)
    } catch {
      // A malformed credit gives none: only the sender of it is slowed.
      return
    }
    while (this.#credits > 0 && this.#pending.length > 0) {
      const event = this.#pending.shift() as GenerateEvent
      if (event.type === 'tokens') this.#pendingBytes -= costOf(event)
      this.#send(encodeEvent(event))
    }
    this.#closeMaybe()
  }

  #closeMaybe(): void {
    if (this.#closing && this.#pending.length === 0) this.#channel.close()
  }
}

export type GenerateHandler = (request: GenerateRequest, sink: GenerationSink) => Promise<void>

/**
 * Accepts generations on a link. Call it in the same tick as the connection. What the handler throws is told to the
 * other side as the stream's error; a malformed request is answered, never thrown.
 * @param handler absent: this worker runs no generations, and each is refused
 */
export function acceptGenerations(mux: Protomux, handler: GenerateHandler): void {
  let open = 0
  mux.pair({ protocol: GENERATE_PROTOCOL }, (id) => {
    // Not creating the channel makes protomux reject it.
    if (open >= MAX_OPEN_PER_LINK || id === null || id.byteLength > 64) return
    open++
    const sink = new GenerationSink(mux, id, () => open--)
    sink.handshake
      .then((bytes) => {
        const request = validate(generateRequestSchema, parseJson(bytes, 'The request'), 'request')
        return handler({ ...request, requestId: sink.requestId }, sink)
      })
      .catch((err: unknown) => sink.fail(MeshError.from(err)))
  })
}
