import type { EmbeddingRequest } from '../../../lib/protocol/index.js'
import type { Processor } from './ports.js'
import type { RequestState } from './state.js'

/** Texts embedded by one call to a processor: their vectors must fit into one message, whatever their length. */
const BATCH_TEXTS = 32
const BATCH_CHARS = 1024 * 1024

/**
 * Has a processor embed texts, batch by batch, and keeps in the request's state what that used.
 * @returns one vector for each text
 * @throws MeshError
 */
export async function embed(
  state: RequestState,
  processor: Processor,
  input: EmbeddingRequest['input'],
): Promise<number[][]> {
  const { requestId, signal } = state.context
  const embeddings: number[][] = []
  const usage = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 }
  for (const batch of batches(input)) {
    const part = await processor.embed({ model: state.model.name, input: batch }, { requestId, signal })
    // One by one: a large answer spread as arguments overflows the stack.
    for (const vector of part.embeddings) embeddings.push(vector)
    usage.promptTokens += part.usage.promptTokens
    state.usage = usage
  }
  return embeddings
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
