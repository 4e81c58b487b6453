import { MeshError } from '../../../lib/protocol/index.js'

/** Errors about our fields as errors about the parameters that a caller has sent. */

export type Api = 'chat' | 'completions' | 'embeddings' | 'responses' | 'tokens'

/** In which words a caller has asked. Absent fields: as OpenAI's own clients do. */
export interface Words {
  api: Api
  /** Where its format stands. */
  format?: string
  /** What says how long an answer may be. */
  maxTokens?: string
  /** Tools are told in the older way. */
  isLegacy?: boolean
  /** The prompt, where there are many of them: `prompt[3]`. */
  prompt?: string
  /** One text to embed, which stands in no list. */
  isSingle?: boolean
  /** Messages as the items that they were made of. */
  places?: MessagePlaces
}

/** Where in the input of a response its messages stand. */
export interface MessagePlaces {
  /** Index of the first message that comes from the input, and whether there are instructions before. */
  from: number
  hasInstructions: boolean
  items: readonly ItemPlace[]
  /** Which messages were sent, where some were left out. */
  kept?: readonly number[] | undefined
}
export interface ItemPlace {
  item: number
  /** Which field of the item is the message's content. */
  content: 'content' | 'output'
  /** The items of its calls. */
  calls: number[]
}

type Name = [pattern: RegExp, name: string]

const COMMON_NAMES: Name[] = [
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
  [/^ignoreEos/, 'ignore_eos'],
  [/^parallelToolCalls/, 'parallel_tool_calls'],
  [/^ignoreEos/, 'ignore_eos'],
]
const IN_CHAT: Name[] = [
  [/^maxTokens/, 'max_completion_tokens'],
  [/^(format\.)?schema\b/, 'response_format.json_schema.schema'],
  [/^format\b/, 'response_format'],
  [/\.toolCallId/, '.tool_call_id'],
  [/\.toolCalls\[(\d+)\]\.(?=name|arguments)/, '.tool_calls[$1].function.'],
  [/\.toolCalls\b/, '.tool_calls'],
]
const NAMES: Record<Api, Name[]> = {
  chat: [
    ...IN_CHAT,
    [/^toolChoice\.name/, 'tool_choice.function.name'],
    [/^toolChoice/, 'tool_choice'],
    [/^tools\[(\d+)\]\.(?=name|description|parameters)/, 'tools[$1].function.'],
  ],
  completions: [
    [/^maxTokens/, 'max_tokens'],
    [/^(format\.)?schema\b/, 'response_format.json_schema.schema'],
    [/^format\b/, 'response_format'],
  ],
  embeddings: [],
  tokens: [[/^text\b/, 'content']],
  responses: [
    [/^maxTokens/, 'max_output_tokens'],
    [/^(format\.)?schema\b/, 'text.format.schema'],
    [/^format\b/, 'text.format'],
    [/^toolChoice/, 'tool_choice'],
    [/^messages.*/, 'input'],
  ],
}
const LEGACY_NAMES: Name[] = [...IN_CHAT, [/^toolChoice/, 'function_call'], [/^tools\b/, 'functions']]

/** What in a message of ours can be nothing but the name of a field. */
const FIELDS =
  /\b(request: )?((sampling\.|toolChoice|parallelToolCalls|ignoreEos|maxTokens|format\.(schema|grammar)\b|tools\[\d+\]\.|messages\[\d+\])[\w$.[\]-]*)/g

/** Errors that are in the caller's words already. */
const translated = new WeakSet<MeshError>()

/** An error about one of our fields as one about the caller's parameter. Its message is told in the same words. */
export function inOpenAiWords(err: unknown, words: Words): unknown {
  if (!(err instanceof MeshError) || typeof err.details.param !== 'string' || translated.has(err)) return err
  const name = nameFor(words)
  const given = err.details.param
  const param = name(given)
  const told = err.message.replace(FIELDS, (_all, _what, field: string) => {
    const end = /[.]+$/.exec(field)?.[0] ?? ''
    return name(field.slice(0, field.length - end.length)) + end
  })
  // A name without any sign of one is sought where messages have it: at their beginning.
  const beginning = new RegExp(`^(request: )?${given.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?![\\w.[])`)
  const message = told.replace(beginning, () => param)
  const inTheirs = new MeshError(err.code, message, { ...err.details, param }, { cause: err })
  translated.add(inTheirs)
  return inTheirs
}

function nameFor(words: Words): (field: string) => string {
  const { api, format, maxTokens, isLegacy, prompt, isSingle, places } = words
  const own: Name[] = [
    ...(format === undefined ? [] : [named(/^(format\.)?(schema|grammar)\b/, format)]),
    ...(format === undefined || format.startsWith('response_format') ? [] : [named(/^format\b/, format)]),
    ...(maxTokens === undefined ? [] : [named(/^maxTokens/, maxTokens)]),
    ...(prompt === undefined ? [] : [named(/^prompt\b/, prompt)]),
    ...(isSingle === true ? [named(/^input\[0\]/, 'input')] : []),
  ]
  const names = [...COMMON_NAMES, ...own, ...(isLegacy === true ? LEGACY_NAMES : NAMES[api])]
  return (field) => {
    const placed = places === undefined ? field : inputName(field, places)
    return names.reduce((text, [pattern, name]) => text.replace(pattern, name), placed)
  }
}

const named = (pattern: RegExp, name: string): Name => [pattern, name]

/** A field of a message as one of the item that it was made of. */
function inputName(field: string, { from, hasInstructions, items, kept }: MessagePlaces): string {
  const { sent, rest = '' } = /^messages\[(?<sent>\d+)\](?<rest>.*)$/.exec(field)?.groups ?? {}
  if (sent === undefined) return field
  const index = kept?.[Number(sent)] ?? Number(sent)
  const place = items[index - from]
  if (place === undefined) return hasInstructions && index === 0 ? 'instructions' : 'previous_response_id'
  const { at, of = '' } = /^\.toolCalls(\[(?<at>\d+)\])?(?<of>.*)$/.exec(rest)?.groups ?? {}
  if (rest.startsWith('.toolCalls')) {
    return `input[${place.calls[Number(at ?? 0)] ?? place.item}]${of.replace(/^\.id\b/, '.call_id')}`
  }
  return `input[${place.item}]${rest.replace(/^\.toolCallId\b/, '.call_id').replace(/^\.content\b/, `.${place.content}`)}`
}

/** What `work` gives. @throws what it throws, in the caller's words */
export function inWords<T>(words: Words, work: () => T): T {
  try {
    return work()
  } catch (err) {
    throw inOpenAiWords(err, words)
  }
}
