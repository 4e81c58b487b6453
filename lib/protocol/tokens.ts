import { z } from 'zod'
import { modelNameSchema } from './ids.js'
import { chatMessageSchema, content, toolChoiceSchema, toolSchema } from './inference.js'

/** What a model's own tokens are asked for: texts, token ids and conversations, without any generation. */

/** Most tokens that are told, or turned into text, at a time. */
export const MAX_TOLD_TOKENS = 100_000

/** Checked by hand: there are many, and all are alike. */
const ids = z
  .custom<number[]>(isIds, `expected at most ${MAX_TOLD_TOKENS} token ids`)
  .meta({ maxItems: MAX_TOLD_TOKENS })

function isIds(value: unknown): boolean {
  return Array.isArray(value) && value.length <= MAX_TOLD_TOKENS && value.every(isId)
}

function isId(one: unknown): boolean {
  return typeof one === 'number' && Number.isInteger(one) && one >= 0 && one <= 0xffffffff
}

export const tokensRequestSchema = z.discriminatedUnion('of', [
  z.strictObject({
    of: z.literal('text'),
    model: modelNameSchema,
    text: content,
    /** Whether the names of special tokens in the text are those tokens. */
    special: z.boolean(),
    /** Whether it gets the tokens with which the model's texts begin and end. */
    ends: z.boolean(),
    /** Whether to tell what each token says. */
    pieces: z.boolean(),
  }),
  z.strictObject({ of: z.literal('ids'), model: modelNameSchema, ids }),
  z.strictObject({
    of: z.literal('chat'),
    model: modelNameSchema,
    messages: z.array(chatMessageSchema).min(1).max(10_000),
    tools: z.array(toolSchema).max(128).optional(),
    toolChoice: toolChoiceSchema.optional(),
    parallelToolCalls: z.boolean().optional(),
    /** Whether to tell the prompt, and not only how many tokens it has. */
    text: z.boolean(),
  }),
])
export type TokensRequest = z.infer<typeof tokensRequestSchema>

/** What a token says; its bytes where they are no whole characters. */
export type TokenPiece = string | number[]

export const tokensResultSchema = z.object({
  count: z.int().min(0),
  ids: ids.optional(),
  /** One for each id. */
  pieces: z.custom<TokenPiece[]>(arePieces, 'expected texts and lists of bytes').optional(),
  text: z.string().optional(),
  /** Of a chat: the most tokens of prompt plus answer there. */
  contextLength: z.int().min(0).optional(),
})
export type TokensResult = z.infer<typeof tokensResultSchema>

function arePieces(value: unknown): boolean {
  return Array.isArray(value) && value.length <= MAX_TOLD_TOKENS && value.every(isPiece)
}

function isPiece(one: unknown): boolean {
  return typeof one === 'string' || (Array.isArray(one) && one.every((byte) => Number.isInteger(byte)))
}
