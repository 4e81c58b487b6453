import { z } from 'zod'
import {
  chatMessageSchema,
  embeddingRequestSchema,
  inferenceRequestSchema,
  validate,
} from '../../../lib/protocol/index.js'
import { parseBody } from '../http/index.js'
import {
  type ChatBody,
  chatBodySchema,
  completionBodySchema,
  embeddingBodySchema,
  metadataBodySchema,
  refuse,
  responseBodySchema,
} from './bodies.js'
import { textOf } from './messages.js'
import type { CallStyle } from './objects.js'
import type { ChatRecord } from './stored-chats.js'
import { inputsOf, isSingle } from './texts.js'
import { chatInference, chatWords, completionInferences, completionWords, countsOf } from './to-inference.js'
import { detokenizeBodySchema, tokenizeBodySchema } from './token-bodies.js'
import type { Words } from './words.js'

/**
 * All that a body is looked at for, from its bytes to what is asked of the mesh: nothing in it needs anything of the
 * gateway, so that a thread can do it as well.
 */

const MAX_INPUTS = 2048

const historySchema = z.object({ messages: z.array(chatMessageSchema) })
const outputSchema = z.object({ output: z.array(z.record(z.string(), z.unknown())) })

function chat(given: unknown) {
  const body = validate(chatBodySchema, given, 'body')
  const style: CallStyle = body.functions?.length ? 'function' : 'tools'
  return {
    request: chatInference(body),
    n: body.n ?? 1,
    style,
    streams: body.stream === true,
    includesUsage: body.stream_options?.include_usage === true,
    wantsLogprobs: body.logprobs === true,
    words: chatWords(body),
    ...(body.store === true && { record: chatRecord(body) }),
  }
}

/** What is stored with a chat's answer. */
function chatRecord({ messages, metadata }: ChatBody): ChatRecord {
  return {
    ...metadataBody({ metadata }),
    messages: messages.map(({ id: _, content, ...message }, i) => {
      const content_parts = Array.isArray(content) ? content : null
      return JSON.stringify({ ...message, content: textOf(content, `messages[${i}].content`) ?? null, content_parts })
    }),
  }
}

function metadataBody(given: unknown): { metadata: Record<string, string> } {
  return { metadata: validate(metadataBodySchema, given, 'body').metadata ?? {} }
}

function completions(given: unknown) {
  const body = validate(completionBodySchema, given, 'body')
  return {
    requests: completionInferences(body),
    ...countsOf(body),
    echoes: body.echo === true,
    streams: body.stream === true,
    includesUsage: body.stream_options?.include_usage === true,
    wantsLogprobs: body.logprobs != null,
    words: completionWords(body),
    hasPrompts: !isSingle(body.prompt ?? ''),
  }
}

function embeddings(given: unknown) {
  const body = validate(embeddingBodySchema, given, 'body')
  const input = inputsOf(body.input)
  if (input.length > MAX_INPUTS) refuse('input', `has ${input.length} members; at most ${MAX_INPUTS} at a time`)
  return {
    model: body.model ? body.model : undefined,
    input,
    dimensions: body.dimensions ?? undefined,
    words: { api: 'embeddings', isSingle: isSingle(body.input) } satisfies Words,
    inBase64: body.encoding_format === 'base64',
  }
}

/** What an earlier response said is added by the gateway. */
function responses(given: unknown) {
  const body = validate(responseBodySchema, given, 'body')
  if (body.input == null && body.previous_response_id == null) {
    refuse(
      'input',
      body.messages === undefined
        ? 'is missing, and there is no previous_response_id to go on from'
        : 'is missing; it takes the place of what chats call messages',
    )
  }
  return body
}

/** What an earlier response said, as it was stored. */
const history = (given: unknown) => validate(historySchema, given, 'history', 'STORE_INVALID')

/** The items that an earlier response consists of, as it was stored. */
const output = (given: unknown) => validate(outputSchema, given, 'response', 'STORE_INVALID')

const tokenize = (given: unknown) => validate(tokenizeBodySchema, given, 'body')
const detokenize = (given: unknown) => validate(detokenizeBodySchema, given, 'body')

/** A generation as a client of the mesh asks for it. */
const generation = (given: unknown) => validate(inferenceRequestSchema, given, 'request')
const embedding = (given: unknown) => validate(embeddingRequestSchema, given, 'request')

const preparations = {
  chat,
  completions,
  embeddings,
  responses,
  history,
  output,
  metadata: metadataBody,
  tokenize,
  detokenize,
  generation,
  embedding,
}

/** The kinds of bodies. */
export type BodyKind = keyof typeof preparations
type Prepared = { [K in BodyKind]: ReturnType<(typeof preparations)[K]> }
/** What a body of one kind says. */
export type PreparedBody<K extends BodyKind> = Prepared[K]

const PREPARE: { [K in BodyKind]: (given: unknown) => Prepared[K] } = preparations

export function isBodyKind(kind: string): kind is BodyKind {
  return Object.hasOwn(PREPARE, kind)
}

/** @param body the bytes of a body, or whatever else came in its place @throws MeshError BAD_REQUEST naming the parameter */
export function prepare<K extends BodyKind>(kind: K, body: unknown): PreparedBody<K> {
  return PREPARE[kind](body instanceof Uint8Array ? parseBody(body) : body)
}
