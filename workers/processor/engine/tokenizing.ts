import type { LlamaModel, Token } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'
import type { TokenPiece } from '../../../lib/protocol/index.js'
import type { Counting } from './counting.js'
import { type Cuts, cutsOf } from './cutting.js'
import { piecesOf } from './spelling.js'
import { asTokens } from './vocabulary.js'

/** So much text is tokenized at a time, in some 2 ms, where it can be cut there. */
const PART_CHARS = 4096
/** So much where it cannot: what a byte makes a token of grows with its square. */
const MOST_PART_CHARS = 8192
/** Most tokens that are told at a time, and most of which it is told what each says: a gateway passes them on in one go. */
const MOST_TOKENS = 100_000
const MOST_PIECES = 20_000
/** So many tokens are spelled at a time. */
const PART_TOKENS = 4096

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Turns texts into tokens and tokens into texts, part by part: what runs goes on in between. */
export class Tokenizing {
  readonly #model: LlamaModel
  readonly #counting: Counting
  readonly #bytesOf: (id: Token) => Uint8Array
  readonly #cuts: Cuts | undefined

  constructor(model: LlamaModel, counting: Counting) {
    this.#model = model
    this.#counting = counting
    this.#bytesOf = piecesOf(model)
    const count = model.fileInfo.metadata.tokenizer?.ggml?.tokens?.length ?? 0
    const ids = asTokens(model, [...Array(count).keys()], 'tokens')
    this.#cuts = cutsOf(model, this.#bytesOf, ids)
  }

  /**
   * The same tokens as the whole text has at once.
   * @param special whether names of special tokens are those tokens
   * @param pieces whether it will be asked what each says
   * @param ends whether to add what the model's texts begin and end with
   * @param onPart called with each part
   * @throws MeshError BAD_REQUEST for a text of too many tokens, or one that cannot be cut; CANCELLED
   */
  async tokens(
    text: string,
    { special, ends, pieces }: { special: boolean; ends: boolean; pieces: boolean },
    signal: AbortSignal,
    onPart: () => void,
  ): Promise<Token[]> {
    const { bos, eos, shouldPrependBosToken, shouldAppendEosToken } = this.#model.tokens
    const most = pieces ? MOST_PIECES : MOST_TOKENS
    const tokens: Token[] = ends && shouldPrependBosToken && bos !== null ? [bos] : []
    for (let at = 0; at < text.length; ) {
      const end = this.#partEnd(text, at)
      const drops = at > 0 && this.#cuts?.addsSpace === true
      for (const token of this.#model.tokenize(text.slice(drops ? at + 1 : at, end), special)) tokens.push(token)
      if (tokens.length > most) throw tooMany(`has more than ${most} tokens`)
      at = end
      onPart()
      await this.#turn(signal)
    }
    if (ends && shouldAppendEosToken && eos !== null) tokens.push(eos)
    return tokens
  }

  /** What tokens say one behind the other. @throws MeshError BAD_REQUEST for a token that there is not, CANCELLED */
  async text(ids: readonly number[], signal: AbortSignal, onPart: () => void): Promise<string> {
    const tokens = asTokens(this.#model, ids, 'tokens')
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    let text = ''
    for (let at = 0; at < tokens.length; at += PART_TOKENS) {
      text += decoder.decode(Buffer.concat(tokens.slice(at, at + PART_TOKENS).map(this.#bytesOf)), { stream: true })
      onPart()
      await this.#turn(signal)
    }
    return text + decoder.decode()
  }

  /** What each token says. @throws MeshError CANCELLED */
  async pieces(tokens: readonly Token[], signal: AbortSignal, onPart: () => void): Promise<TokenPiece[]> {
    const pieces: TokenPiece[] = []
    for (let at = 0; at < tokens.length; at += PART_TOKENS) {
      for (const token of tokens.slice(at, at + PART_TOKENS)) pieces.push(pieceOf(this.#bytesOf(token)))
      onPart()
      await this.#turn(signal)
    }
    return pieces
  }

  /** @throws MeshError BAD_REQUEST */
  #partEnd(text: string, from: number): number {
    if (text.length - from <= PART_CHARS) return text.length
    const near = this.#cuts?.last(text, from, from + PART_CHARS) ?? -1
    if (near !== -1) return near
    const far = this.#cuts?.first(text, from + PART_CHARS, from + MOST_PART_CHARS) ?? -1
    if (far !== -1) return far
    if (text.length - from <= MOST_PART_CHARS) return text.length
    throw tooMany(
      `has more than ${MOST_PART_CHARS} characters from character ${from} on in which it cannot be cut between two words`,
    )
  }

  async #turn(signal: AbortSignal): Promise<void> {
    await this.#counting.turn()
    if (signal.aborted) throw MeshError.CANCELLED('The request was cancelled')
  }
}

function pieceOf(bytes: Uint8Array): TokenPiece {
  try {
    return utf8.decode(bytes)
  } catch {
    return [...bytes]
  }
}

function tooMany(why: string): MeshError {
  return MeshError.BAD_REQUEST(`The text ${why}; send less at a time`, { param: 'text' })
}
