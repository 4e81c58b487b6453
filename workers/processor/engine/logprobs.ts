import type { LlamaModel, Token } from 'node-llama-cpp'
import type { TokenLogprob } from '../../../lib/protocol/index.js'
import { BYTE_OF_SIGN } from './vocabulary.js'

/** Most alternatives that a request may ask for. */
export const MOST_ALTERNATIVES = 20
/** Told in place of minus infinity, which JSON cannot say. */
const LEAST_LOGPROB = -9999
const INCOMPLETE = '\ufffd'

type Piece = Pick<TokenLogprob, 'text' | 'bytes'>

/** Log-probabilities as an answer has them: each token with its text and bytes. */
export class LogprobFormatter {
  readonly #model: LlamaModel
  readonly #pieces = new Map<number, Piece>()

  constructor(model: LlamaModel) {
    this.#model = model
  }

  /**
   * One token's log-probability and those of its likeliest alternatives.
   * @param logprobs by token, most likely first, with at least the token itself
   */
  format(token: Token, logprobs: ReadonlyMap<Token, number>, alternatives: number): TokenLogprob {
    const top = []
    for (const [id, logprob] of logprobs) {
      if (top.length === alternatives) break
      top.push(this.#entry(id, logprob))
    }
    return { ...this.#entry(token, logprobs.get(token) ?? LEAST_LOGPROB), top }
  }

  /** A token's id, text and bytes. @param silent it is no part of the text */
  piece(id: Token, silent: boolean): Pick<TokenLogprob, 'id' | 'text' | 'bytes'> {
    const { text, bytes } = this.#piece(id)
    return { id, text, bytes: silent ? [] : bytes }
  }

  #entry(id: Token, logprob: number): Omit<TokenLogprob, 'top'> {
    // Rounding can lift a certain token's just above 0.
    return { id, ...this.#piece(id), logprob: Math.max(LEAST_LOGPROB, Math.min(0, logprob)) }
  }

  #piece(id: Token): Piece {
    const known = this.#pieces.get(id)
    if (known) return known
    // With a token before it, so that its own leading space is kept.
    const text = this.#model.detokenize([id], true, [id])
    const bytes = (text.includes(INCOMPLETE) && this.#partBytes(id)) || [...Buffer.from(text)]
    const piece = { text, bytes }
    this.#pieces.set(id, piece)
    return piece
  }

  /** The bytes of a token that is part of a character. */
  #partBytes(id: Token): number[] | undefined {
    const name = this.#model.fileInfo.metadata.tokenizer?.ggml?.tokens?.[id]
    if (typeof name !== 'string') return undefined
    const single = /^<0x([0-9A-F]{2})>$/i.exec(name)?.[1]
    if (single !== undefined) return [Number.parseInt(single, 16)]
    const bytes = [...name].map((sign) => BYTE_OF_SIGN.get(sign))
    return bytes.every((byte) => byte !== undefined) ? bytes : undefined
  }
}
