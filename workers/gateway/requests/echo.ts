import { MeshError, type TokenBatch } from '../../../lib/protocol/index.js'

type Piece = NonNullable<TokenBatch['echo']>

/** How far a prompt has been told. */
export interface EchoedSoFar {
  ids: number
  chars: number
}

/**
 * The prompt as one processor tells it. Where another has told a part of it before, that part is left out: the same model
 * says the same of the same prompt, so that a list goes on where it was.
 */
export class EchoReader {
  readonly #told: EchoedSoFar
  readonly #most: number
  readonly #scored: boolean
  readonly #seen: EchoedSoFar = { ids: 0, chars: 0 }

  /** @param told what the caller has been told; it is added to @param most tokens that the prompt can come to */
  constructor(told: EchoedSoFar, most: number, scored: boolean) {
    this.#told = told
    this.#most = most
    this.#scored = scored
  }

  /** What of a piece is new; undefined where nothing is. @throws MeshError PROCESSOR_LOST where it does not fit */
  take({ index, ids, text, logprobs }: Piece): Piece | undefined {
    const seen = this.#seen
    const fits = index === seen.ids && index + ids.length <= this.#most
    if (!fits || (this.#scored ? logprobs?.length !== ids.length : logprobs !== undefined)) {
      throw MeshError.PROCESSOR_LOST('A processor told a prompt in pieces that do not fit together')
    }
    const known = Math.max(0, this.#told.ids - seen.ids)
    const knownChars = Math.max(0, this.#told.chars - seen.chars)
    seen.ids += ids.length
    seen.chars += text.length
    if (known >= ids.length) return undefined
    this.#told.ids = seen.ids
    this.#told.chars = Math.max(this.#told.chars, seen.chars)
    return {
      index: index + known,
      ids: ids.slice(known),
      text: text.slice(knownChars),
      ...(logprobs !== undefined && { logprobs: logprobs.slice(known) }),
    }
  }
}
