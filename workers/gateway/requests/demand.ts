import type { EmbeddingRequest, InferenceRequest } from '../../../lib/protocol/index.js'
import { type Demand, estimateTokens } from './limiter.js'

/** What a request asks of the limits, before anything of it is counted by an engine. */
export function demandOf(request: InferenceRequest | EmbeddingRequest): Demand {
  if ('input' in request) return { promptTokens: estimateTokens(request.input), maxTokens: 0 }
  return { promptTokens: estimateTokens(promptOf(request)), maxTokens: request.maxTokens }
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
