import { type LlamaModel, type Token, TokenBias } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'
import { biasesOf } from './llama-internals.js'

/** How many token ids the model has. */
export function vocabularySize(model: LlamaModel): number {
  return model.fileInfo.metadata.tokenizer?.ggml?.tokens?.length ?? Number.POSITIVE_INFINITY
}

/** What makes a number a token. */
function isToken(id: number, size: number): id is Token {
  return id < size
}

/**
 * Token ids that a caller sent, as tokens of this model: the one place where numbers become tokens.
 * @param param where they stand in the request
 * @throws MeshError BAD_REQUEST where one is not in the vocabulary
 */
export function asTokens(model: LlamaModel, ids: readonly number[], param: string): Token[] {
  const size = vocabularySize(model)
  const tokens: Token[] = []
  for (const [i, id] of ids.entries()) {
    if (!isToken(id, size)) throw unknownToken(`${param}[${i}]`, id, size)
    tokens.push(id)
  }
  return tokens
}

/** So many tokens are looked at in a turn of the loop. */
const TOKENS_A_TURN = 8192
const endTokens = new WeakMap<LlamaModel, Token[]>()

/** The tokens with which a model ends what it says. */
export async function endTokensOf(model: LlamaModel): Promise<readonly Token[]> {
  const known = endTokens.get(model)
  if (known) return known
  const found: Token[] = []
  const size = vocabularySize(model)
  for (let id = 0; id < size && Number.isFinite(size); id++) {
    if (id % TOKENS_A_TURN === 0) await new Promise((resolve) => setImmediate(resolve))
    if (isToken(id, size) && model.isEogToken(id)) found.push(id)
  }
  endTokens.set(model, found)
  return found
}

/**
 * @param bias added to logits, by token id
 * @param never tokens that may not be chosen
 * @throws MeshError BAD_REQUEST where an id is not in the vocabulary
 */
export function logitBiasFor(
  model: LlamaModel,
  bias: Readonly<Record<string, number>>,
  never: Iterable<Token> = [],
): TokenBias {
  const size = vocabularySize(model)
  const result = new TokenBias(model.tokenizer)
  const biases = biasesOf(result)
  for (const [key, logit] of Object.entries(bias)) {
    const id = Number(key)
    if (!isToken(id, size)) throw unknownToken(`sampling.logitBias.${key}`, id, size)
    biases.set(id, logit)
  }
  for (const id of never) biases.set(id, Number.NEGATIVE_INFINITY)
  return result
}

function unknownToken(param: string, id: number, size: number): MeshError {
  return MeshError.BAD_REQUEST(
    `${param} is the token ${id}, and this model's vocabulary has ${size} tokens, from 0 to ${size - 1}`,
    { param, vocabularySize: size },
  )
}

/** How byte-level BPE vocabularies write bytes: printable Latin-1 as itself, the others from U+0100 on, in order. */
export const BYTE_OF_SIGN: ReadonlyMap<string, number> = byteLevelSigns()

function byteLevelSigns(): Map<string, number> {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)
  const signs = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) signs.set(String.fromCharCode(printable(byte) ? byte : next++), byte)
  return signs
}
