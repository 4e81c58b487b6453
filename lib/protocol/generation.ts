import { z } from 'zod'
import { MeshError } from '../errors/index.js'
import { MAX_CREDENTIAL_CHARS } from './ids.js'
import {
  type Echoed,
  echoedSchema,
  type Finish,
  type InferenceInput,
  type InferenceRequest,
  type InferenceResult,
  inferenceRequestSchema,
  type TokenLogprob,
  type ToolCall,
  tokenLogprobSchema,
  usageSchema,
} from './inference.js'
import { encodeJson, parseJson, REQUEST_BOUNDS } from './json.js'
import { validate } from './validate.js'

/** One generation as it is asked for, and the events of its answer. */

const headSchema = z.object({
  /** API key or token, where the opener is a client. */
  key: z.string().max(MAX_CREDENTIAL_CHARS).optional(),
  kind: z.enum(['chat', 'completion']),
})
type Head = z.infer<typeof headSchema>

/** A request as its opener sends it; the reader fills in the defaults. */
export interface GenerateInput {
  requestId: string
  key?: string
  request: InferenceInput
}

/** A generation that is asked for, read as far as whose it is. */
export interface GenerateAsk extends Head {
  requestId: string
  /** The request in JSON, for `readGeneration`. */
  body: Uint8Array
}

const HEAD_LENGTH_BYTES = 2
/** A key has at most MAX_CREDENTIAL_CHARS characters, of up to three bytes each in UTF-8. */
const MAX_HEAD_BYTES = 16 * 1024

/** The length of the head in two bytes, the head and the request, both in JSON: whose it is can be read without the rest. */
export function encodeAsk({ key, request }: GenerateInput): Buffer {
  const head = encodeJson({ key, kind: request.kind } satisfies Head)
  const length = Buffer.alloc(HEAD_LENGTH_BYTES)
  length.writeUInt16LE(head.byteLength)
  return Buffer.concat([length, head, encodeJson(request)])
}

/** @throws MeshError BAD_REQUEST */
export function decodeAsk(requestId: string, bytes: Uint8Array): GenerateAsk {
  const [low = 0, high = 0] = bytes
  const bodyAt = HEAD_LENGTH_BYTES + low + high * 256
  if (bodyAt > bytes.byteLength || bodyAt > MAX_HEAD_BYTES) {
    throw MeshError.BAD_REQUEST('The head of the request has another length than it says')
  }
  const head = validate(headSchema, parseJson(bytes.subarray(HEAD_LENGTH_BYTES, bodyAt), 'The head'), 'head')
  return { ...head, requestId, body: bytes.subarray(bodyAt) }
}

/** What is asked for. @throws MeshError BAD_REQUEST naming the field */
export function readGeneration({ body }: GenerateAsk): InferenceRequest {
  return validate(inferenceRequestSchema, parseJson(body, 'The request', REQUEST_BOUNDS), 'request')
}

/** A piece of a call of a tool. The first of each call has its id and name; the arguments' pieces add up. */
export const toolCallDeltaSchema = z.object({
  /** Which call of this answer, from 0. */
  call: z.int().min(0).max(127),
  id: z.string().optional(),
  name: z.string().optional(),
  arguments: z.string(),
})
export type ToolCallDelta = z.infer<typeof toolCallDeltaSchema>

/** Generated tokens and what they say: the one shape in which an answer travels, from the engine to the client. */
export const tokenBatchSchema = z.object({
  /** Position of the first token in the answer, from 0: what shows that none is lost or doubled. */
  index: z.int().min(0),
  ids: z.array(z.int().min(0)),
  /** Never half a character; empty while its bytes, or a possible stop string, are incomplete. */
  text: z.string(),
  /** Where the request asks for them: of each token whose text is complete with this batch's, so not always of its `ids`. */
  logprobs: z.array(tokenLogprobSchema).optional(),
  /** Pieces of calls of tools, behind the text. */
  calls: z.array(toolCallDeltaSchema).optional(),
  /** A piece of the prompt, where it is echoed: before all tokens of the answer, and without any. */
  echo: echoedSchema.extend({ index: z.int().min(0) }).optional(),
  /**
   * What has been evaluated up to here, told by processors with the first token, where a piece of a long prompt is done,
   * and where a generation is cancelled. A batch may have this alone.
   */
  usage: usageSchema.optional(),
})
export type TokenBatch = z.infer<typeof tokenBatchSchema>

export type GenerateEvent =
  /** Waiting at the gateway; `position` 1 is next. */
  | { type: 'queued'; position: number }
  /** A processor has it. Told by gateways. */
  | { type: 'started'; processor: string }
  | ({ type: 'tokens' } & TokenBatch)
  | ({ type: 'finish' } & Finish)

export const queuedSchema = z.object({ position: z.int().min(1) })
export const startedSchema = z.object({ processor: z.string() })

/** Adds a piece of a call to the calls of its answer. */
export function addCallPiece(calls: ToolCall[], { call: number, id, name, arguments: piece }: ToolCallDelta): void {
  const call = calls[number] ?? { id: '', name: '', arguments: '' }
  calls[number] = call
  if (id !== undefined) call.id = id
  if (name !== undefined) call.name = name
  call.arguments += piece
}

/** Adds a piece of an echoed prompt to what came before it. */
function joinEchoed(whole: Echoed | undefined, { ids, text, logprobs }: Echoed): Echoed {
  const joined = whole ?? { ids: [], text: '', ...(logprobs !== undefined && { logprobs: [] }) }
  for (const id of ids) joined.ids.push(id)
  joined.text += text
  for (const one of logprobs ?? []) joined.logprobs?.push(one)
  return joined
}

/** Puts the batches of one answer together. */
export class AnswerCollector {
  text = ''
  readonly toolCalls: ToolCall[] = []
  readonly logprobs: TokenLogprob[] = []
  #echo: Echoed | undefined

  add(event: GenerateEvent): void {
    if (event.type !== 'tokens') return
    this.text += event.text
    for (const one of event.logprobs ?? []) this.logprobs.push(one)
    for (const piece of event.calls ?? []) addCallPiece(this.toolCalls, piece)
    if (event.echo !== undefined) this.#echo = joinEchoed(this.#echo, event.echo)
  }

  /** The whole answer, once its finish is known. */
  result(requestId: string, finish: Finish): InferenceResult {
    const { text, toolCalls, logprobs } = this
    return {
      requestId,
      text,
      ...(toolCalls.length > 0 && { toolCalls }),
      ...(logprobs.length > 0 && { logprobs }),
      ...(this.#echo !== undefined && { echo: this.#echo }),
      finish,
    }
  }
}
