import { z } from 'zod'
import { MAX_CREDENTIAL_CHARS, requestIdSchema } from './ids.js'
import { type Finish, inferenceRequestSchema, type TokenLogprob, tokenLogprobSchema } from './inference.js'

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

/** A batch of generated tokens. `text` may be empty while a character's bytes are incomplete. */
export interface Tokens {
  type: 'tokens'
  /** Position of the first token in the answer, from 0: what shows that none is lost or doubled. */
  index: number
  ids: number[]
  text: string
  /** One for each id, where the request asks for them. */
  logprobs?: TokenLogprob[]
}

/** A piece of a call of a tool. The first of each call has its id and name; the arguments' pieces add up. */
export interface ToolCallDelta {
  type: 'toolCall'
  /** Which call of this answer, from 0. */
  call: number
  id?: string
  name?: string
  arguments: string
}

export type GenerateEvent =
  /** Waiting at the gateway; `position` 1 is next. */
  | { type: 'queued'; position: number }
  /** A processor has it. Told by gateways. */
  | { type: 'started'; processor: string }
  | Tokens
  | ToolCallDelta
  | ({ type: 'finish' } & Finish)

export const queuedSchema = z.object({ position: z.int().min(1) })
export const startedSchema = z.object({ processor: z.string() })

export const toolCallDeltaSchema = z.object({
  call: z.int().min(0).max(127),
  id: z.string().optional(),
  name: z.string().optional(),
  arguments: z.string(),
})
export const tokensWithLogprobsSchema = z.object({
  index: z.int().min(0),
  ids: z.array(z.int().min(0)),
  text: z.string(),
  logprobs: z.array(tokenLogprobSchema),
})
