import type { Call } from '../http/index.js'
import { refuse } from './bodies.js'
import { embeddingList } from './objects.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'
import { inOpenAiWords } from './words.js'

/** `POST /v1/embeddings`. */
export async function embeddings(
  { requests }: DoorOptions,
  { model, input, dimensions, words, inBase64 }: PreparedBody<'embeddings'>,
  call: Call,
): Promise<unknown> {
  const result = await requests.embed({ model, input }, call).catch((err: unknown) => {
    throw inOpenAiWords(err, words)
  })
  const size = result.embeddings[0]?.length ?? 0
  if (dimensions !== undefined && dimensions !== size) {
    refuse('dimensions', `the vectors of ${result.model} have ${size} dimensions and cannot be cut to ${dimensions}`)
  }
  return embeddingList(result.model, result.embeddings, result.usage.promptTokens, inBase64)
}
