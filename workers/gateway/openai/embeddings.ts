import { validate } from '../../../lib/protocol/index.js'
import type { Call } from '../http/index.js'
import { embeddingBodySchema, refuse } from './bodies.js'
import { embeddingList } from './objects.js'
import type { DoorOptions } from './options.js'
import { inputsOf } from './to-inference.js'

const MAX_INPUTS = 2048

/** `POST /v1/embeddings`. */
export async function embeddings({ requests }: DoorOptions, given: unknown, call: Call): Promise<unknown> {
  const body = validate(embeddingBodySchema, given, 'body')
  const input = inputsOf(body.input)
  if (input.length > MAX_INPUTS) refuse('input', `has ${input.length} members; at most ${MAX_INPUTS} at a time`)
  const result = await requests.embed({ model: body.model ? body.model : undefined, input }, call)
  const size = result.embeddings[0]?.length ?? 0
  if (body.dimensions != null && body.dimensions !== size) {
    refuse(
      'dimensions',
      `the vectors of ${result.model} have ${size} dimensions and cannot be cut to ${body.dimensions}`,
    )
  }
  return embeddingList(result.model, result.embeddings, result.usage.promptTokens, body.encoding_format === 'base64')
}
