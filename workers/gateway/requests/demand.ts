import type { EmbeddingRequest, InferenceRequest } from '../../../lib/protocol/index.js'
import { estimateTokens } from './estimate.js'
import type { Demand } from './limiter.js'

/** What a request asks of the limits, before anything of it is counted by an engine. */
export function demandOf(request: InferenceRequest | EmbeddingRequest): Demand {
  if ('input' in request) return { promptTokens: estimateTokens(request.input), maxTokens: 0 }
  return { promptTokens: estimateTokens(promptOf(request)), maxTokens: request.maxTokens }
}

/** True where a grammar is made of what a caller wrote, before the first token: what that takes, no token tells. */
export function isPrepared(request: InferenceRequest): boolean {
  const { type } = request.format
  if (type === 'json_schema' || type === 'grammar') return true
  return request.kind === 'chat' && request.tools !== undefined && request.tools.length > 0
}

/** What a chat template adds to a prompt at most, in all and for each message, in tokens. */
const TEMPLATE_TOKENS = 8192
const MESSAGE_TOKENS = 64

/** More tokens than a request's prompt can come to: no token says less than a byte. */
export function mostPromptTokens(request: InferenceRequest | EmbeddingRequest): number {
  const texts = 'input' in request ? request.input : promptOf(request)
  // A character has at most 3 bytes of UTF-8, and two of them at most 4.
  const told = texts.reduce((sum, text) => sum + MESSAGE_TOKENS + (typeof text === 'string' ? 3 : 1) * text.length, 0)
  return told + TEMPLATE_TOKENS
}

/** All that a prompt is made of, tools included. */
function promptOf(request: InferenceRequest): (string | readonly number[])[] {
  if (request.kind === 'completion') return [request.prompt]
  const texts = request.messages.map((message) =>
    message.role === 'assistant' && message.toolCalls !== undefined
      ? message.content + JSON.stringify(message.toolCalls)
      : message.content,
  )
  return request.tools === undefined ? texts : [...texts, JSON.stringify(request.tools)]
}
