import {
  type ChatMessage,
  type EmbeddingRequest,
  type InferenceInput,
  type InferenceRequest,
  inferenceRequestSchema,
  MAX_PENALTY_TOKENS,
  MeshError,
  type Sampling,
  type Tool,
  type ToolChoice,
  validate,
} from '../../../lib/protocol/index.js'
import {
  type ChatBody,
  type CompletionBody,
  type FunctionBody,
  type ResponseBody,
  refuse,
  type SamplingBody,
  toolFunctionSchema,
} from './bodies.js'
import { MAX_LOGPROBS, tooMany } from './completion-logprobs.js'
import { formatIn, strictly, textFormatOf } from './format.js'
import { chatMessages } from './messages.js'
import { refuseInChat, refuseInCompletions, refuseInResponses } from './refused.js'
import { refuseSamplers } from './samplers.js'
import { inputsOf, isSingle } from './texts.js'
import { inWords, type Words } from './words.js'

/** The one place where OpenAI's bodies become inference requests. */

/** OpenAI's own default length of a completion. */
const COMPLETION_TOKENS = 16
/** Prompts times answers of one request: each is a generation of its own. */
const MAX_GENERATIONS = 128

/** @throws MeshError BAD_REQUEST naming the parameter */
export function chatInference(body: ChatBody): InferenceRequest {
  refuseInChat(body)
  if (body.modalities?.some((one) => one !== 'text')) refuse('modalities', 'only text is supported')
  if (body.top_logprobs != null && body.logprobs !== true) refuse('top_logprobs', 'wants logprobs: true')
  const { format, param } = formatIn(body)
  const tools = chatTools(body)
  if (isForced(tools) && (param === 'grammar' || param === 'json_schema')) {
    refuse(param, 'stands beside a tool that must be called: the answer is the call, and has its form')
  }
  const request = {
    kind: 'chat' as const,
    ...common(body),
    messages: chatMessages(body.messages),
    ...tools,
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? predicted(body),
    stop: stops(body.stop),
    format,
    logprobs: body.logprobs === true ? (body.top_logprobs ?? 0) : undefined,
  }
  return inWords(chatWords(body), () => parsed(request))
}

/** One request for each prompt. @throws MeshError BAD_REQUEST naming the parameter */
export function completionInferences(body: CompletionBody): InferenceRequest[] {
  refuseInCompletions(body)
  const prompts = inputsOf(body.prompt ?? '')
  const { n, bestOf } = countsOf(body)
  if (prompts.length * bestOf > MAX_GENERATIONS) {
    refuse('prompt', `${prompts.length} prompts times ${bestOf} answers; at most ${MAX_GENERATIONS} at a time`)
  }
  const isScored = body.echo === true && body.logprobs != null
  if (isScored && body.stream !== true) refuseTooManyLogprobs(prompts, bestOf, body.logprobs ?? 0)
  const { format } = formatIn(body)
  const maxTokens = body.max_tokens ?? (body.n_predict == null ? COMPLETION_TOKENS : predicted(body))
  const words = completionWords(body)
  return prompts.map((prompt, i) =>
    inWords({ ...words, ...(!isSingle(body.prompt ?? '') && { prompt: `prompt[${i}]` }) }, () =>
      parsed({
        kind: 'completion',
        ...common(body),
        prompt,
        maxTokens,
        // A text that is not scored is known here.
        echo: body.echo === true && (isScored || typeof prompt !== 'string') ? true : undefined,
        stop: stops(body.stop),
        format,
        // The best are found by them.
        logprobs: body.logprobs ?? (bestOf > n ? 0 : undefined),
      }),
    ),
  )
}

/** In which words a chat is asked for. */
export function chatWords(body: ChatBody): Words {
  const { max_completion_tokens: newer, max_tokens: older, n_predict } = body
  const maxTokens =
    newer == null && older != null ? 'max_tokens' : newer == null && n_predict != null ? 'n_predict' : undefined
  return {
    api: 'chat',
    format: formatIn(body).param,
    isLegacy: Boolean(body.functions?.length),
    ...(maxTokens !== undefined && { maxTokens }),
  }
}

/** In which words completions are asked for. */
export function completionWords(body: CompletionBody): Words {
  const isPredicted = body.max_tokens == null && body.n_predict != null
  return { api: 'completions', format: formatIn(body).param, ...(isPredicted && { maxTokens: 'n_predict' }) }
}

/** How many answers there are to each prompt, and how many are generated. @throws MeshError BAD_REQUEST */
export function countsOf({ n: asked, best_of, stream }: CompletionBody): { n: number; bestOf: number } {
  const n = asked ?? 1
  const bestOf = best_of ?? n
  if (bestOf < n) refuse('best_of', `is ${bestOf}; expected at least n, which is ${n}`)
  if (bestOf > n && stream === true)
    refuse('best_of', 'the best of several answers are known at their end: not with stream')
  return { n, bestOf }
}

/** Refuses at once what would be refused in the end, as far as prompts tell their length. */
function refuseTooManyLogprobs(prompts: EmbeddingRequest['input'], bestOf: number, alternatives: number): void {
  const ids = prompts.reduce((sum, prompt) => sum + (typeof prompt === 'string' ? 0 : prompt.length), 0)
  const count = ids * bestOf * (1 + alternatives)
  if (count > MAX_LOGPROBS) throw tooMany(count)
}

/** llama-server's own bound on an answer; -1 is none. */
function predicted({ n_predict: tokens }: SamplingBody): number | undefined {
  return tokens == null || tokens === -1 ? undefined : tokens
}

function isForced({ toolChoice }: Tools): boolean {
  return toolChoice === 'required' || typeof toolChoice === 'object'
}

/** @param history what the earlier responses said and heard, without instructions */
export function responseInference(body: ResponseBody, messages: ChatMessage[]): InferenceRequest {
  refuseInResponses(body)
  const wantsLogprobs = body.include?.includes('message.output_text.logprobs') === true
  const instructions: ChatMessage[] = body.instructions ? [{ role: 'system', content: body.instructions }] : []
  return parsed({
    kind: 'chat',
    ...common(body),
    messages: [...instructions, ...messages],
    ...responseTools(body),
    maxTokens: body.max_output_tokens ?? undefined,
    format: textFormatOf(body.text?.format),
    logprobs: wantsLogprobs || body.top_logprobs ? (body.top_logprobs ?? 0) : undefined,
  })
}

/** The same request with the seeds of `n` answers. */
export function choicesOf(request: InferenceRequest, n: number): InferenceRequest[] {
  const { seed } = request.sampling
  return Array.from({ length: n }, (_, i) =>
    seed === undefined ? request : { ...request, sampling: { ...request.sampling, seed: (seed + i) >>> 0 } },
  )
}

function parsed(input: InferenceInput): InferenceRequest {
  return validate(inferenceRequestSchema, input, 'request')
}

function common(body: SamplingBody & { model?: string | null; [field: string]: unknown }) {
  refuseSamplers(body)
  return {
    // Clients that must name a model and know none send an empty one.
    model: body.model ? body.model : undefined,
    sampling: samplingOf(body),
    ignoreEos: body.ignore_eos === true ? true : undefined,
  }
}

function samplingOf(body: SamplingBody): Sampling {
  const sampling: Sampling = {
    temperature: body.temperature ?? undefined,
    topP: body.top_p ?? undefined,
    topK: body.top_k ?? undefined,
    minP: body.min_p ?? undefined,
    repeatPenalty: body.repeat_penalty ?? undefined,
    presencePenalty: body.presence_penalty ?? undefined,
    frequencyPenalty: body.frequency_penalty ?? undefined,
    repeatLastN: body.repeat_last_n === -1 ? MAX_PENALTY_TOKENS : (body.repeat_last_n ?? undefined),
    // In llama.cpp -1 is another one each time.
    seed: body.seed == null || body.seed === -1 ? undefined : body.seed >>> 0,
    logitBias: body.logit_bias ?? undefined,
  }
  return Object.fromEntries(Object.entries(sampling).filter(([, value]) => value !== undefined))
}

function stops(stop: ChatBody['stop']): string[] {
  if (stop == null) return []
  return typeof stop === 'string' ? [stop] : stop
}

// --- tools ---

interface Tools {
  tools?: Tool[]
  toolChoice?: ToolChoice
  parallelToolCalls?: boolean
}

function chatTools(body: ChatBody): Tools {
  if (body.functions?.length) return legacyTools(body.functions, body.function_call ?? undefined)
  const tools = (body.tools ?? []).map((tool, i) => {
    if (tool.type !== 'function') refuse(`tools[${i}].type`, 'only functions are supported')
    return toolOf(functionAt(tool.function, `tools[${i}].function`))
  })
  const choice = body.tool_choice
  if (choice != null && typeof choice === 'object' && choice.type === 'allowed_tools') {
    const { mode, tools: allowed } = choice.allowed_tools
    const names = new Set(allowed.map(({ function: { name } }) => name))
    return toolsWith(only(tools, names), mode, body.parallel_tool_calls)
  }
  return toolsWith(
    tools,
    choice != null && typeof choice === 'object' ? { name: choice.function.name } : (choice ?? undefined),
    body.parallel_tool_calls,
  )
}

/** The older way: at most one call in an answer. */
function legacyTools(functions: FunctionBody[], choice: NonNullable<ChatBody['function_call']> | undefined): Tools {
  const named = choice !== undefined && typeof choice === 'object' ? { name: choice.name } : choice
  return toolsWith(functions.map(toolOf), named, false, 'function_call')
}

function responseTools(body: ResponseBody): Tools {
  const tools = (body.tools ?? []).map((tool, i) => {
    if (tool.type !== 'function') refuse(`tools[${i}].type`, 'only functions are supported')
    return toolOf(functionAt(tool, `tools[${i}]`))
  })
  const choice = body.tool_choice
  if (choice != null && typeof choice === 'object' && choice.type === 'allowed_tools') {
    return toolsWith(only(tools, new Set(choice.tools.map(({ name }) => name))), choice.mode, body.parallel_tool_calls)
  }
  return toolsWith(
    tools,
    choice != null && typeof choice === 'object' ? { name: choice.name } : (choice ?? undefined),
    body.parallel_tool_calls,
  )
}

function toolsWith(
  tools: Tool[],
  choice: ToolChoice | undefined,
  parallel: boolean | null | undefined,
  param = 'tool_choice',
): Tools {
  if (tools.length === 0) {
    if (choice === undefined || choice === 'none' || choice === 'auto') return {}
    return refuse(param, 'wants a tool to be called, and there are no tools')
  }
  if (typeof choice === 'object' && !tools.some(({ name }) => name === choice.name)) {
    refuse(param, `there is no tool ${JSON.stringify(choice.name)}`)
  }
  return { tools, toolChoice: choice, parallelToolCalls: parallel ?? undefined }
}

function only(tools: Tool[], names: ReadonlySet<string>): Tool[] {
  for (const name of names) {
    if (!tools.some((tool) => tool.name === name)) refuse('tool_choice', `there is no tool ${JSON.stringify(name)}`)
  }
  return tools.filter(({ name }) => names.has(name))
}

function functionAt(value: unknown, where: string): FunctionBody {
  try {
    return validate(toolFunctionSchema, value, where)
  } catch (err) {
    const { code, message, details } = MeshError.from(err)
    throw new MeshError(code, message, { param: details.param === undefined ? where : `${where}.${details.param}` })
  }
}

function toolOf({ name, description, parameters, strict }: FunctionBody): Tool {
  return { name, description: description ?? undefined, parameters: parameters ?? undefined, ...strictly(strict) }
}
