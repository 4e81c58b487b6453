import { z } from 'zod'
import { modelNameSchema } from './ids.js'

/** Longest prompt accepted at any door, in characters; the model's context is the real bound. */
const MAX_PROMPT_CHARS = 4_000_000
const MAX_STOPS = 16
/** How far back the penalties of repeated tokens can look: for each token all of them are gone through. */
export const MAX_PENALTY_TOKENS = 4096

/** Tokens that a logit bias may name. */
const MAX_BIASED = 1024

/** Fields that an object of free form may have, at its top. What is under them is bounded by the length of a request. */
const MAX_FIELDS = 1000

/** An object whose fields are not known here. */
function fields<T extends z.ZodType>(value: T, max = MAX_FIELDS, name: z.ZodString = z.string().max(200)) {
  return z
    .record(name, value)
    .refine((given) => Object.keys(given).length <= max, `expected at most ${max} fields`)
    .meta({ maxProperties: max })
}

/** A JSON schema of others. What `1e400` is read as would be written as null on its way to an engine. */
const jsonSchemaObject = fields(z.unknown()).superRefine((given, context) => {
  const path = endlessNumber(given)
  if (path !== undefined) context.addIssue({ code: 'custom', path, message: 'expected a number that a double holds' })
})

/** @returns where in a value the first infinite number stands */
function endlessNumber(value: unknown): PropertyKey[] | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : []
  if (typeof value !== 'object' || value === null) return undefined
  for (const [key, under] of Object.entries(value)) {
    const path = endlessNumber(under)
    if (path !== undefined) return [Array.isArray(value) ? Number(key) : key, ...path]
  }
  return undefined
}

export const content = z.string().max(MAX_PROMPT_CHARS)
const toolName = z
  .string()
  .max(64)
  .regex(/^[a-zA-Z0-9_-]{1,64}$/, 'expected 1 to 64 letters, digits, _ or -')

/** A call of a tool, as the model made it. `arguments` is JSON as text, as the model wrote it. */
export const toolCallSchema = z.strictObject({ id: z.string().min(1).max(100), name: toolName, arguments: content })
export type ToolCall = z.infer<typeof toolCallSchema>

export const chatMessageSchema = z.discriminatedUnion('role', [
  z.strictObject({ role: z.literal('system'), content }),
  z.strictObject({ role: z.literal('user'), content }),
  z.strictObject({ role: z.literal('assistant'), content, toolCalls: z.array(toolCallSchema).max(128).optional() }),
  /** What a tool gave back. */
  z.strictObject({ role: z.literal('tool'), toolCallId: z.string().min(1).max(100), content }),
])
export type ChatMessage = z.infer<typeof chatMessageSchema>

/** A tool that the model may call. `parameters` is a JSON schema of an object; absent: no arguments. */
export const toolSchema = z.strictObject({
  name: toolName,
  description: z.string().max(100_000).optional(),
  parameters: jsonSchemaObject.optional(),
  /** As that of a format. */
  strict: z.boolean().optional(),
})
export type Tool = z.infer<typeof toolSchema>

/** Whether the model may, must not, or must call a tool, or the one it must call. */
export const toolChoiceSchema = z.union([z.enum(['auto', 'none', 'required']), z.strictObject({ name: toolName })])
export type ToolChoice = z.infer<typeof toolChoiceSchema>

/** Which text an engine may emit. A `grammar` is GBNF, llama.cpp's own notation. */
export const outputFormatSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    schema: jsonSchemaObject,
    /** True: what of the schema cannot be enforced is refused. Otherwise it is left out. */
    strict: z.boolean().optional(),
  }),
  z.strictObject({ type: z.literal('grammar'), grammar: z.string().min(1).max(MAX_PROMPT_CHARS) }),
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
  /** So many of the answer's last tokens are penalised. 0: none. */
  repeatLastN: z.int().min(0).max(MAX_PENALTY_TOKENS).optional(),
  seed: z.int().min(0).max(0xffffffff).optional(),
  /** Added to the logits of single tokens, by token id. -100 forbids a token, 100 all but forces it. */
  logitBias: fields(
    finite.min(-100).max(100),
    MAX_BIASED,
    z.string().max(10).regex(/^\d+$/, 'expected a token id'),
  ).optional(),
})
export type Sampling = z.infer<typeof samplingSchema>

const common = {
  /** Absent: the mesh's default model. */
  model: modelNameSchema.optional(),
  sampling: samplingSchema.default({}),
  /** Generation ends before the first of these. */
  stop: z.array(z.string().min(1).max(1000)).max(MAX_STOPS).default([]),
  format: outputFormatSchema.default({ type: 'text' }),
  /** Tells each token's log-probability, and those of this many alternatives. */
  logprobs: z.int().min(0).max(20).optional(),
  /** The tokens with which the model ends its answer are never chosen: it goes on to `maxTokens` or the context's end. */
  ignoreEos: z.boolean().optional(),
}
/** Most tokens to generate; absent: until the model ends or the context is full. */
const maxTokens = z.int()
/** As OpenAI bounds them, for all texts of one request. */
const MAX_TOKEN_IDS = 300_000
/** Checked by hand: there are many, and all are alike. */
const tokenIds = z
  .custom<number[]>(isTokenIds, `expected 1 to ${MAX_TOKEN_IDS} token ids`)
  .meta({ maxItems: MAX_TOKEN_IDS })

function isTokenIds(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.length <= MAX_TOKEN_IDS && value.every(isTokenId)
}

function isTokenId(one: unknown): boolean {
  return typeof one === 'number' && Number.isInteger(one) && one >= 0 && one <= 0xffffffff
}

/** The one shape that every door parses into and that travels from client to gateway to processor to engine. */
export const inferenceRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('chat'),
    messages: z.array(chatMessageSchema).min(1).max(10_000),
    tools: z.array(toolSchema).max(128).optional(),
    /** Absent: auto where there are tools. */
    toolChoice: toolChoiceSchema.optional(),
    /** Absent: true. */
    parallelToolCalls: z.boolean().optional(),
    maxTokens: maxTokens.min(1).optional(),
    ...common,
  }),
  z.strictObject({
    kind: z.literal('completion'),
    /** Text, or the model's own token ids. An empty text: the answer begins from the model's token for a beginning. */
    prompt: z.union([z.string().max(MAX_PROMPT_CHARS), tokenIds]),
    /** 0 evaluates the prompt alone. */
    maxTokens: maxTokens.min(0).optional(),
    /**
     * Tells the prompt, too, before the answer: its tokens and their text, and with `logprobs` how likely each was. Then
     * all of it is evaluated anew, whatever a slot's cache has of it.
     */
    echo: z.boolean().optional(),
    ...common,
  }),
])
export type InferenceRequest = z.infer<typeof inferenceRequestSchema>
/** What a caller may leave out. */
export type InferenceInput = z.input<typeof inferenceRequestSchema>

export const embeddingRequestSchema = z.strictObject({
  model: modelNameSchema.optional(),
  input: z
    .array(z.union([z.string().min(1).max(MAX_PROMPT_CHARS), tokenIds]))
    .min(1)
    .max(2048),
})
export type EmbeddingRequest = z.infer<typeof embeddingRequestSchema>

/**
 * `stop`: the model ended or a stop string was met. `length`: maxTokens or the context was reached. `tool_calls`: the model
 * called tools and waits for what they give back.
 */
export const finishReasonSchema = z.enum(['stop', 'length', 'tool_calls'])
export type FinishReason = z.infer<typeof finishReasonSchema>

const logprobSchema = z.object({
  id: z.int().min(0),
  /** The token's text; where it is part of a character, with the replacement character. */
  text: z.string(),
  /** The token's bytes. */
  bytes: z.array(z.int().min(0).max(255)),
  /** Natural logarithm of its probability under the model, before sampling changes it. */
  logprob: z.number(),
})
/** One token's log-probability and its likeliest alternatives, most likely first. */
export const tokenLogprobSchema = logprobSchema.extend({ top: z.array(logprobSchema) })
export type TokenLogprob = z.infer<typeof tokenLogprobSchema>

/** The same for a token of the prompt. Nothing comes before the first: its `logprob` is null, and it has no alternatives. */
export const promptLogprobSchema = tokenLogprobSchema.extend({ logprob: z.number().nullable() })
export type PromptLogprob = z.infer<typeof promptLogprobSchema>

/** Tokens of a prompt, as an answer echoes them. */
export const echoedSchema = z.object({
  ids: z.array(z.int().min(0)),
  /** What they say, special tokens included; never half a character. A token that was put in front of a text says nothing. */
  text: z.string(),
  /** One for each id, where the request asks for them. */
  logprobs: z.array(promptLogprobSchema).optional(),
})
export type Echoed = z.infer<typeof echoedSchema>

/** More than any request has: what a faulty processor claims must not make sums overflow. */
const tokenCount = z.int().min(0).max(1_000_000_000)

/** Tokens counted by the engine that served the request. */
export const usageSchema = z.object({
  promptTokens: tokenCount,
  /** How many of the prompt's tokens were still in the slot's KV cache. */
  cachedTokens: tokenCount,
  completionTokens: tokenCount,
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
  /** What has set the longest length that was reached, where the caller has not: a budget of a key or user. */
  cutBy: z.literal('budget').optional(),
  usage: usageSchema,
  timing: timingSchema.optional(),
  route: routeSchema.optional(),
})
export type Finish = z.infer<typeof finishSchema>

/** A whole answer, as the unary methods give it. */
export const inferenceResultSchema = z.object({
  requestId: z.string(),
  text: z.string(),
  toolCalls: z.array(toolCallSchema).optional(),
  logprobs: z.array(tokenLogprobSchema).optional(),
  /** The prompt, where the request has it echoed. */
  echo: echoedSchema.optional(),
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
