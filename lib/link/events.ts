import c from 'compact-encoding'
import {
  encodeJson,
  finishSchema,
  type GenerateEvent,
  MeshError,
  parseJson,
  queuedSchema,
  startedSchema,
  type TokenBatch,
  tokenBatchSchema,
  validate,
} from '../protocol/index.js'

/** The events of a generation as bytes: a tag, and then JSON, or numbers and text for a batch of tokens. */

const TAG = { queued: 0, started: 1, tokens: 2, finish: 3, error: 4 } as const

const MAX_TOKENS_PER_EVENT = 65_536

/**
 * A batch as bytes: index, number of ids, ids, length of the text, text, and last, where it has them, log-probabilities,
 * calls, an echo and usage as one JSON object, up to the end of the message.
 */
function encodeTokens({ index, ids, text, ...more }: TokenBatch): Buffer {
  const { logprobs, calls, echo, usage } = more
  const written = Buffer.from(text)
  const extras = (logprobs ?? calls ?? echo ?? usage) ? encodeJson({ logprobs, calls, echo, usage }) : undefined
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

/** The other end of an answer: it failed. */
interface ErrorEvent {
  type: 'error'
  error: MeshError
}

/** One event as one message. */
export function encodeEvent(event: GenerateEvent | ErrorEvent): Buffer {
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

/** @throws MeshError BAD_REQUEST for a malformed message */
export function decodeEvent(bytes: Uint8Array): GenerateEvent | ErrorEvent {
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
      return { type: 'error', error: MeshError.fromJSON(json()) }
    default:
      throw MeshError.BAD_REQUEST(`A generation event has the unknown tag ${tag}`)
  }
}

const extrasSchema = tokenBatchSchema.pick({ logprobs: true, calls: true, echo: true, usage: true })

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
