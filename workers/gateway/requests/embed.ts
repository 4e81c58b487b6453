import { type EmbeddingRequest, MeshError } from '../../../lib/protocol/index.js'
import { mostPromptTokens } from './demand.js'
import { estimateTokens } from './estimate.js'
import type { Processor } from './ports.js'
import { NO_TOKENS, type RequestState } from './state.js'

/** Texts embedded by one call to a processor: their vectors must fit into one message, whatever their length. */
const BATCH_TEXTS = 32
const BATCH_CHARS = 1024 * 1024

/**
 * Has a processor embed texts, batch by batch, and keeps in the request's state what that used. Goes on after a batch
 * while what is left fits into the limits.
 * @returns one vector for each text
 * @throws MeshError
 */
export async function embed(
  state: RequestState,
  processor: Processor,
  input: EmbeddingRequest['input'],
): Promise<number[][]> {
  const { context, model, reservation } = state
  const { requestId, signal } = context
  const embeddings: number[][] = []
  const usage = { ...NO_TOKENS }
  state.usage = usage
  for (const batch of batches(input)) {
    /** As for answers, no more is believed than the texts can come to. */
    const used = (tokens: number) => {
      const most = Math.min(mostPromptTokens({ input: batch }), batch.length * model.contextLength)
      usage.promptTokens += Math.min(tokens, most)
    }
    const asked = { model: model.name, input: batch }
    const part = await processor.embed(asked, { requestId, signal }).catch((err: unknown) => {
      used(tokensBefore(err))
      throw inPlace(err, embeddings.length)
    })
    // One by one: a large answer spread as arguments overflows the stack.
    for (const vector of part.embeddings) embeddings.push(vector)
    used(part.usage.promptTokens)
    const rest = input.slice(embeddings.length)
    if (rest.length > 0) reservation.correct(usage.promptTokens + estimateTokens(rest))
  }
  return embeddings
}

/** An error about a text of a batch as one about the text where it was asked for. */
function inPlace(err: unknown, before: number): unknown {
  if (before === 0 || !(err instanceof MeshError) || typeof err.details.param !== 'string') return err
  const placed = (text: string) => text.replace(/^input\[(\d+)\]/, (_, i) => `input[${Number(i) + before}]`)
  return new MeshError(
    err.code,
    placed(err.message),
    { ...err.details, param: placed(err.details.param) },
    { cause: err },
  )
}

/** What a processor evaluated before it was cancelled, where it says so. */
function tokensBefore(err: unknown): number {
  if (!(err instanceof MeshError) || err.code !== 'CANCELLED') return 0
  const { promptTokens } = err.details
  return typeof promptTokens === 'number' && promptTokens > 0 ? Math.trunc(promptTokens) : 0
}

/** The texts in their order, in groups that one call can carry. */
function batches(input: EmbeddingRequest['input']): EmbeddingRequest['input'][] {
  const all: EmbeddingRequest['input'][] = []
  let batch: EmbeddingRequest['input'] = []
  let chars = 0
  for (const text of input) {
    if (batch.length > 0 && (batch.length >= BATCH_TEXTS || chars + text.length > BATCH_CHARS)) {
      all.push(batch)
      batch = []
      chars = 0
    }
    batch.push(text)
    chars += text.length
  }
  return [...all, batch]
}
