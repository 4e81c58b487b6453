import { MeshError } from '../../../lib/protocol/index.js'

/** Errors about our fields as errors about the parameters that a caller has sent. */

export type Api = 'chat' | 'completions' | 'embeddings' | 'responses'

/** In which words a caller has asked. */
export interface Words {
  api: Api
  /** Where its format stands. Absent: where OpenAI has it. */
  format?: string
}

const COMMON_NAMES: [RegExp, string][] = [
  [/^request\./, ''],
  [/^sampling\.topP/, 'top_p'],
  [/^sampling\.topK/, 'top_k'],
  [/^sampling\.minP/, 'min_p'],
  [/^sampling\.repeatPenalty/, 'repeat_penalty'],
  [/^sampling\.repeatLastN/, 'repeat_last_n'],
  [/^sampling\.presencePenalty/, 'presence_penalty'],
  [/^sampling\.frequencyPenalty/, 'frequency_penalty'],
  [/^sampling\.logitBias/, 'logit_bias'],
  [/^sampling\./, ''],
  [/^toolChoice/, 'tool_choice'],
  [/^parallelToolCalls/, 'parallel_tool_calls'],
]
const NAMES: Record<Api, [RegExp, string][]> = {
  chat: [
    [/^maxTokens/, 'max_completion_tokens'],
    [/^(format\.)?schema\b/, 'response_format.json_schema.schema'],
    [/^format\b/, 'response_format'],
    [/^tools\[(\d+)\]\.(?=name|description|parameters)/, 'tools[$1].function.'],
    [/\.toolCallId/, '.tool_call_id'],
    [/\.toolCalls\[(\d+)\]\.(?=name|arguments)/, '.tool_calls[$1].function.'],
  ],
  completions: [[/^maxTokens/, 'max_tokens']],
  embeddings: [],
  responses: [
    [/^maxTokens/, 'max_output_tokens'],
    [/^(format\.)?schema\b/, 'text.format.schema'],
    [/^format\b/, 'text.format'],
    [/^messages.*/, 'input'],
  ],
}

/** An error about one of our fields as one about the caller's parameter. */
export function inOpenAiWords(err: unknown, { api, format }: Words): unknown {
  if (!(err instanceof MeshError) || typeof err.details.param !== 'string') return err
  const own: [RegExp, string][] = format === undefined ? [] : [[/^(format\.)?(schema|grammar)\b/, format]]
  const param = [...COMMON_NAMES, ...own, ...NAMES[api]].reduce(
    (text, [pattern, name]) => text.replace(pattern, name),
    err.details.param,
  )
  return new MeshError(err.code, err.message, { ...err.details, param }, { cause: err })
}

/** What `work` gives. @throws what it throws, in the caller's words */
export function inWords<T>(words: Words, work: () => T): T {
  try {
    return work()
  } catch (err) {
    throw inOpenAiWords(err, words)
  }
}
