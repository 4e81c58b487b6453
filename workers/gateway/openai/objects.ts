import type {
  AnswerCollector,
  Finish,
  FinishReason,
  TokenLogprob,
  ToolCall,
  Usage,
} from '../../../lib/protocol/index.js'

/** The one place where answers become OpenAI's objects. */

/** What the chunks of one answer, and the answer, have in common. */
export interface Frame {
  id: string
  created: number
  model: string
  system_fingerprint: string
}

/** Answers with the same fingerprint came from the same model file. */
export function fingerprint(modelHash: string): string {
  return `fp_${modelHash.slice(0, 12)}`
}

export function usageObject({ promptTokens, cachedTokens, completionTokens }: Usage) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  }
}

/**
 * The usage of several answers as one.
 * @param choices answers to each prompt: a prompt counts once, whichever number of answers it has
 */
export function totalUsage(finishes: readonly Finish[], choices: number): Usage {
  const total = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 }
  for (const [i, { usage }] of finishes.entries()) {
    total.completionTokens += usage.completionTokens
    if (i % choices !== 0) continue
    total.promptTokens += usage.promptTokens
    total.cachedTokens += usage.cachedTokens
  }
  return total
}

/** What says that an answer is cut by a budget, and not by the length that was asked for. */
export function cutOf({ cutBy }: Pick<Finish, 'cutBy'>): { cut_by?: 'budget' } {
  return cutBy === undefined ? {} : { cut_by: cutBy }
}

// --- chat ---

/** How tool calls are written: as tool calls, or in the older way as the one function call. */
export type CallStyle = 'tools' | 'function'

export function chatCompletion(
  frame: Frame,
  answers: readonly { collected: AnswerCollector; finish: Finish }[],
  style: CallStyle,
  wantsLogprobs: boolean,
) {
  return {
    ...frame,
    object: 'chat.completion',
    choices: answers.map(({ collected, finish }, index) => {
      const message = chatMessage(collected, style)
      return {
        index,
        message,
        // Those of what is said, so there are none beside calls alone.
        logprobs: wantsLogprobs && message.content !== null ? chatLogprobs(collected.logprobs) : null,
        finish_reason: chatFinishReason(finish.reason, style),
        ...cutOf(finish),
      }
    }),
    usage: usageObject(
      totalUsage(
        answers.map(({ finish }) => finish),
        answers.length,
      ),
    ),
    service_tier: 'default',
  }
}

function chatMessage({ text, toolCalls }: AnswerCollector, style: CallStyle) {
  const [call] = toolCalls
  const message = { role: 'assistant', content: text === '' && call !== undefined ? null : text, refusal: null }
  if (call === undefined) return message
  if (style === 'function') return { ...message, function_call: { name: call.name, arguments: call.arguments } }
  return { ...message, tool_calls: toolCalls.map(toolCallObject) }
}

function toolCallObject({ id, name, arguments: args }: ToolCall) {
  return { id, type: 'function', function: { name, arguments: args } }
}

export function chatFinishReason(reason: FinishReason, style: CallStyle): string {
  return reason === 'tool_calls' && style === 'function' ? 'function_call' : reason
}

/** Log-probabilities that JSON can carry: a token that cannot occur has minus infinity. */
const LEAST_LOGPROB = -9999
export const written = (logprob: number): number => (Number.isFinite(logprob) ? logprob : LEAST_LOGPROB)

export function chatLogprobs(logprobs: readonly TokenLogprob[]) {
  return {
    content: logprobs.map(({ text, bytes, logprob, top }) => ({
      token: text,
      logprob: written(logprob),
      bytes,
      top_logprobs: top.map((one) => ({ token: one.text, logprob: written(one.logprob), bytes: one.bytes })),
    })),
    refusal: null,
  }
}

// --- embeddings ---

/** @param base64 vectors as base64 of little-endian 32-bit floats */
export function embeddingList(model: string, vectors: readonly number[][], promptTokens: number, base64: boolean) {
  return {
    object: 'list',
    data: vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: base64 ? floatsAsBase64(vector) : vector,
    })),
    model,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  }
}

function floatsAsBase64(vector: readonly number[]): string {
  const bytes = Buffer.allocUnsafe(vector.length * 4)
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, i * 4)
  return bytes.toString('base64')
}
