import { z } from 'zod'
import { modelNameSchema } from './ids.js'

/** Longest prompt accepted at any door, in characters; the model's context is the real bound. */
const MAX_PROMPT_CHARS = 4_000_000
const MAX_STOPS = 16

export const chatMessageSchema = z.strictObject({
  role: z.enum(['system', 'user', 'assistant']),
  content: z.string().max(MAX_PROMPT_CHARS),
})
export type ChatMessage = z.infer<typeof chatMessageSchema>

/** Which text an engine may emit. A `grammar` is GBNF, llama.cpp's own notation. */
export const outputFormatSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({ type: z.literal('json_schema'), schema: z.record(z.string(), z.unknown()) }),
  z.strictObject({ type: z.literal('grammar'), grammar: z.string().min(1) }),
])
export type OutputFormat = z.infer<typeof outputFormatSchema>

const finite = z.number().refine(Number.isFinite, 'expected a finite number')

/** How the next token is chosen. Names and ranges are llama.cpp's; what is absent takes the engine's default. */
export const samplingSchema = z.strictObject({
  /** 0 is greedy. */
  temperature: finite.min(0).max(5).optional(),
  topP: finite.min(0).max(1).optional(),
  /** 0 keeps every token. */
  topK: z.int().min(0).optional(),
  minP: finite.min(0).max(1).optional(),
  /** 1 is none. */
  repeatPenalty: finite.min(0).max(10).optional(),
  presencePenalty: finite.min(-2).max(2).optional(),
  frequencyPenalty: finite.min(-2).max(2).optional(),
  seed: z.int().min(0).max(0xffffffff).optional(),
})
export type Sampling = z.infer<typeof samplingSchema>

const common = {
  /** Absent: the mesh's default model. */
  model: modelNameSchema.optional(),
  sampling: samplingSchema.default({}),
  /** Most tokens to generate; absent: until the model ends or the context is full. */
  maxTokens: z.int().min(1).optional(),
  /** Generation ends before the first of these. */
  stop: z.array(z.string().min(1).max(1000)).max(MAX_STOPS).default([]),
  format: outputFormatSchema.default({ type: 'text' }),
}

/** The one shape that every door parses into and that travels from client to gateway to processor to engine. */
export const inferenceRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('chat'), messages: z.array(chatMessageSchema).min(1).max(10_000), ...common }),
  z.strictObject({ kind: z.literal('completion'), prompt: z.string().min(1).max(MAX_PROMPT_CHARS), ...common }),
])
export type InferenceRequest = z.infer<typeof inferenceRequestSchema>
/** What a caller may leave out. */
export type InferenceInput = z.input<typeof inferenceRequestSchema>

export const embeddingRequestSchema = z.strictObject({
  model: modelNameSchema.optional(),
  input: z.array(z.string().min(1).max(MAX_PROMPT_CHARS)).min(1).max(2048),
})
export type EmbeddingRequest = z.infer<typeof embeddingRequestSchema>

/** `stop`: the model ended or a stop string was met. `length`: maxTokens or the context was reached. */
export const finishReasonSchema = z.enum(['stop', 'length'])
export type FinishReason = z.infer<typeof finishReasonSchema>

/** Tokens counted by the engine that served the request. */
export const usageSchema = z.object({
  promptTokens: z.int().min(0),
  /** How many of the prompt's tokens were still in the slot's KV cache. */
  cachedTokens: z.int().min(0),
  completionTokens: z.int().min(0),
})
export type Usage = z.infer<typeof usageSchema>

/** Milliseconds since the gateway admitted the request. */
export const timingSchema = z.object({
  queueMs: z.number(),
  firstTokenMs: z.number().optional(),
  totalMs: z.number(),
})
export type Timing = z.infer<typeof timingSchema>

/** Which machine and file answered. */
export const routeSchema = z.object({
  model: z.string(),
  /** SHA-256 of the GGUF file. */
  modelHash: z.string(),
  quantisation: z.string(),
  processor: z.string(),
  gateway: z.string(),
})
export type Route = z.infer<typeof routeSchema>

export const finishSchema = z.object({
  reason: finishReasonSchema,
  usage: usageSchema,
  timing: timingSchema.optional(),
  route: routeSchema.optional(),
})
export type Finish = z.infer<typeof finishSchema>

/** A whole answer, as the unary methods give it. */
export const inferenceResultSchema = z.object({
  requestId: z.string(),
  text: z.string(),
  finish: finishSchema,
})
export type InferenceResult = z.infer<typeof inferenceResultSchema>

export const embeddingResultSchema = z.object({
  requestId: z.string(),
  model: z.string(),
  embeddings: z.array(z.array(z.number())),
  usage: usageSchema,
  route: routeSchema.optional(),
})
export type EmbeddingResult = z.infer<typeof embeddingResultSchema>
