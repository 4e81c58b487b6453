import { z } from 'zod'
import { MAX_CREDENTIAL_CHARS, requestIdSchema } from './ids.js'
import {
  type Finish,
  type InferenceResult,
  inferenceRequestSchema,
  type TokenLogprob,
  type ToolCall,
  tokenLogprobSchema,
} from './inference.js'

/** One generation as it is asked for, and the events of its answer. */

export const generateRequestSchema = z.object({
  requestId: requestIdSchema,
  /** API key or token, where the opener is a client. */
  key: z.string().max(MAX_CREDENTIAL_CHARS).optional(),
  request: inferenceRequestSchema,
})
/** A request as its opener sends it; the reader fills in the defaults. */
export type GenerateInput = z.input<typeof generateRequestSchema>
export type GenerateRequest = z.output<typeof generateRequestSchema>

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
  /** One for each id, where the request asks for them. */
  logprobs: z.array(tokenLogprobSchema).optional(),
  /** Pieces of calls of tools, behind the text. */
  calls: z.array(toolCallDeltaSchema).optional(),
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

/** Puts the batches of one answer together. */
export class AnswerCollector {
  text = ''
  readonly toolCalls: ToolCall[] = []
  readonly logprobs: TokenLogprob[] = []

  add(event: GenerateEvent): void {
    if (event.type !== 'tokens') return
    this.text += event.text
    for (const one of event.logprobs ?? []) this.logprobs.push(one)
    for (const piece of event.calls ?? []) addCallPiece(this.toolCalls, piece)
  }

  /** The whole answer, once its finish is known. */
  result(requestId: string, finish: Finish): InferenceResult {
    const { text, toolCalls, logprobs } = this
    return {
      requestId,
      text,
      ...(toolCalls.length > 0 && { toolCalls }),
      ...(logprobs.length > 0 && { logprobs }),
      finish,
    }
  }
}
