import { type LlamaModel, type Token, TokenBias } from 'node-llama-cpp'
import { MeshError } from '../../../lib/protocol/index.js'

/** How many token ids the model has. */
export function vocabularySize(model: LlamaModel): number {
  return model.fileInfo.metadata.tokenizer?.ggml?.tokens?.length ?? Number.POSITIVE_INFINITY
}

/**
 * Token ids that a caller sent, as tokens of this model.
 * @param param where they stand in the request
 * @throws MeshError BAD_REQUEST where one is not in the vocabulary
 */
export function asTokens(model: LlamaModel, ids: readonly number[], param: string): Token[] {
  const size = vocabularySize(model)
  const wrong = ids.findIndex((id) => id >= size)
  if (wrong >= 0) throw unknownToken(`${param}[${wrong}]`, ids[wrong] as number, size)
  return ids as Token[]
}

/** The library's own setter leaves out the tokens that end an answer, whose bias is the one most often asked for. */
class LogitBias extends TokenBias {
  add(token: Token, logit: number): void {
    const { _biases } = this as unknown as { _biases: Map<Token, number> }
    _biases.set(token, logit)
  }
}

/**
 * @param bias added to logits, by token id
 * @throws MeshError BAD_REQUEST where an id is not in the vocabulary
 */
export function logitBiasFor(model: LlamaModel, bias: Readonly<Record<string, number>>): TokenBias {
  const size = vocabularySize(model)
  const result = new LogitBias(model.tokenizer)
  for (const [key, logit] of Object.entries(bias)) {
    const id = Number(key)
    if (id >= size) throw unknownToken(`sampling.logitBias.${key}`, id, size)
    result.add(id as Token, logit)
  }
  return result
}

function unknownToken(param: string, id: number, size: number): MeshError {
  return MeshError.BAD_REQUEST(
    `${param} is the token ${id}, and this model's vocabulary has ${size} tokens, from 0 to ${size - 1}`,
    { param, vocabularySize: size },
  )
}
