import { z } from 'zod'
import { MAX_PENALTY_TOKENS, MeshError } from '../../../lib/protocol/index.js'
import { texts } from './texts.js'

/**
 * The bodies of the OpenAI door, as far as this mesh looks at them. Every field may be null, which means absent, and
 * fields not named here are accepted: what is done with each is told in docs/openai.md.
 */

/** Most answers to one request. */
export const MAX_CHOICES = 128
/** Answers of which the best are told. */
const MAX_BEST_OF = 20
const MAX_STOPS = 4
const MAX_STOP_CHARS = 1000
const MAX_TOP_LOGPROBS = 20
const MAX_TOOLS = 128
const MAX_KINDS = 100
/** Messages of a conversation, or items of a response's input. */
const MAX_MESSAGES = 10_000
/** Entries of a logit bias. */
const MAX_ENTRIES = 1024
/** What a response or a stored chat carries along for its caller, in entries and in characters of a key and a value: as OpenAI bounds it. */
const METADATA = { entries: 16, key: 64, value: 512 }

/**
 * A list that is checked no further than its bound: zod looks at each member first and counts them last, and tells of
 * 100,000 wrong ones as of one, each with its own words.
 */
function list<T extends z.ZodType>(item: T, max: number, least?: string) {
  const members = z.array(item).max(max)
  return z.preprocess(
    (value) => (Array.isArray(value) && value.length > max ? value.slice(0, max + 1) : value),
    least === undefined ? members : members.min(1, least),
  )
}

/** An object of the caller's own keys. */
function entries<T extends z.ZodType>(key: z.ZodString, value: T, max = MAX_ENTRIES) {
  const few = (given: object) => Object.keys(given).length <= max
  return z.record(key, value).refine(few, `expected at most ${max} entries`)
}

export const model = z.string().max(200).nullish()
const text = z.string()
export const flag = z.boolean().nullish()
const metadata = entries(z.string().max(METADATA.key), z.string().max(METADATA.value), METADATA.entries).nullish()
const tokens = z.int().min(1).nullish()
const stopText = z.string().min(1).max(MAX_STOP_CHARS)
const stop = z
  .union(
    [stopText, list(stopText, MAX_STOPS)],
    `expected a string or up to ${MAX_STOPS} strings, each of 1 to ${MAX_STOP_CHARS} characters`,
  )
  .nullish()

const sampling = {
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  /** Any integer up to 2^53: its lowest 32 bits count. */
  seed: z.int().nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  logit_bias: entries(z.string().regex(/^\d+$/, 'expected a token id'), z.number().min(-100).max(100)).nullish(),
  // Not OpenAI's; llama-server and others take them, and clients of those send them.
  top_k: z.int().min(0).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repeat_penalty: z.number().min(0).max(10).nullish(),
  /** -1: as far as the engine looks back. */
  repeat_last_n: z.int().min(-1).max(MAX_PENALTY_TOKENS).nullish(),
  /** The model's own end is never chosen. */
  ignore_eos: flag,
  /** -1: until the model ends or the context is full. */
  n_predict: z
    .int()
    .min(-1)
    .refine((tokens) => tokens !== 0, 'expected at least 1, or -1 for no bound')
    .nullish(),
}
export type SamplingBody = { [K in keyof typeof sampling]?: z.output<(typeof sampling)[K]> }

const schema = z.record(z.string(), z.unknown())
const functionName = z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/, 'expected 1 to 64 letters, digits, _ or -')
const functionSchema = z.looseObject({
  name: functionName,
  description: text.nullish(),
  parameters: schema.nullish(),
  strict: flag,
})
export type FunctionBody = z.output<typeof functionSchema>
const named = z.looseObject({ name: functionName })

/** Lists whose members' types are looked at one by one, so that what is not supported is named. */
const typed = z.looseObject({ type: text })

const jsonSchemaFormat = z.looseObject({ name: text.nullish(), schema: schema.nullish(), strict: flag })
const responseFormat = z.discriminatedUnion(
  'type',
  [
    z.looseObject({ type: z.literal('text') }),
    z.looseObject({ type: z.literal('json_object'), schema: schema.nullish() }),
    z.looseObject({
      type: z.literal('json_schema'),
      json_schema: jsonSchemaFormat.nullish(),
      schema: schema.nullish(),
    }),
  ],
  'expected the type text, json_object or json_schema',
)
export type ResponseFormat = z.output<typeof responseFormat>
/** What an answer shall look like, in OpenAI's way and in llama-server's. */
const format = { response_format: responseFormat.nullish(), json_schema: schema.nullish(), grammar: text.nullish() }

const toolChoice = z
  .union(
    [
      z.enum(['none', 'auto', 'required']),
      z.looseObject({ type: z.literal('function'), function: named }),
      z.looseObject({
        type: z.literal('allowed_tools'),
        allowed_tools: z.looseObject({
          mode: z.enum(['auto', 'required']),
          tools: list(z.looseObject({ type: z.literal('function'), function: named }), MAX_TOOLS),
        }),
      }),
    ],
    'expected none, auto, required, or an object that names a function or the allowed tools',
  )
  .nullish()

const streamOptions = z.looseObject({ include_usage: flag }).nullish()

export const chatBodySchema = z.looseObject({
  model,
  messages: list(z.looseObject({ role: text }), MAX_MESSAGES, 'expected at least one message'),
  ...sampling,
  max_completion_tokens: tokens,
  max_tokens: tokens,
  n: z.int().min(1).max(MAX_CHOICES).nullish(),
  stop,
  stream: flag,
  stream_options: streamOptions,
  logprobs: flag,
  top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  ...format,
  tools: list(typed, MAX_TOOLS).nullish(),
  tool_choice: toolChoice,
  parallel_tool_calls: flag,
  functions: list(functionSchema, MAX_TOOLS).nullish(),
  function_call: z.union([z.enum(['none', 'auto']), named], 'expected none, auto, or the name of a function').nullish(),
  modalities: list(text, MAX_KINDS).nullish(),
  prompt_cache_key: z.string().max(1000).nullish(),
  store: flag,
  /** Looked at where the chat is stored. */
  metadata: z.unknown().optional(),
})
export type ChatBody = z.output<typeof chatBodySchema>

export const completionBodySchema = z.looseObject({
  model,
  /** Absent: begun from the model's token for a beginning, as an empty text is. */
  prompt: texts(0).nullish(),
  ...sampling,
  /** 0: the prompt alone. */
  max_tokens: z.int().min(0).nullish(),
  n: z.int().min(1).max(MAX_CHOICES).nullish(),
  best_of: z.int().min(1).max(MAX_BEST_OF).nullish(),
  echo: flag,
  suffix: text.nullish(),
  stop,
  stream: flag,
  stream_options: streamOptions,
  logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  ...format,
  prompt_cache_key: z.string().max(1000).nullish(),
})
export type CompletionBody = z.output<typeof completionBodySchema>

export const embeddingBodySchema = z.looseObject({
  model,
  input: texts(1),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: z.int().min(1).nullish(),
})
export type EmbeddingBody = z.output<typeof embeddingBodySchema>

const textFormat = z.discriminatedUnion(
  'type',
  [
    z.looseObject({ type: z.literal('text') }),
    z.looseObject({ type: z.literal('json_object') }),
    jsonSchemaFormat.extend({ type: z.literal('json_schema') }),
  ],
  'expected the type text, json_object or json_schema',
)
export type TextFormat = z.output<typeof textFormat>

export const responseBodySchema = z.looseObject({
  model,
  input: z
    .union(
      [text, list(z.looseObject({}), MAX_MESSAGES, 'expected at least one item')],
      'expected a text or a list of items',
    )
    .nullish(),
  instructions: text.nullish(),
  previous_response_id: text.nullish(),
  temperature: sampling.temperature,
  top_p: sampling.top_p,
  max_output_tokens: tokens,
  top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  include: list(text, MAX_KINDS).nullish(),
  text: z.looseObject({ format: textFormat.nullish() }).nullish(),
  tools: list(typed, MAX_TOOLS).nullish(),
  tool_choice: z
    .union(
      [
        z.enum(['none', 'auto', 'required']),
        z.looseObject({ type: z.literal('function'), name: functionName }),
        z.looseObject({
          type: z.literal('allowed_tools'),
          mode: z.enum(['auto', 'required']),
          tools: list(z.looseObject({ type: z.literal('function'), name: functionName }), MAX_TOOLS),
        }),
      ],
      'expected none, auto, required, or an object that names a function or the allowed tools',
    )
    .nullish(),
  parallel_tool_calls: flag,
  stream: flag,
  store: flag,
  background: flag,
  truncation: z.enum(['auto', 'disabled']).nullish(),
  metadata,
  user: text.nullish(),
  safety_identifier: text.nullish(),
  prompt_cache_key: z.string().max(1000).nullish(),
})
export type ResponseBody = z.output<typeof responseBodySchema>

/** What is carried along with what is stored. */
export const metadataBodySchema = z.looseObject({ metadata })

/** A function among tools, once its type is known to be that. */
export const toolFunctionSchema = functionSchema

/** @throws MeshError BAD_REQUEST naming the parameter */
export function refuse(param: string, message: string): never {
  throw MeshError.BAD_REQUEST(`${param}: ${message}`, { param })
}
