import type { TokenLogprob } from '../../../lib/protocol/index.js'

/**
 * Log-probabilities that wait until the whole text of their tokens is told. So what is never told, a stop string or the
 * markup of a call, has none either, and neither has a token of which a stop string cuts the end off.
 */
export class ToldLogprobs {
  #told = 0
  #waiting: { reach: number; logprob: TokenLogprob }[] = []

  /** @param reach how many characters of the answer hold all of the token's text */
  push(reach: number, logprob: TokenLogprob): void {
    if (Number.isFinite(reach)) this.#waiting.push({ reach, logprob })
  }

  /** Those that can be told beside so many more characters. */
  take(chars: number): TokenLogprob[] {
    this.#told += chars
    const later = this.#waiting.findIndex(({ reach }) => reach > this.#told)
    const ready = this.#waiting.splice(0, later < 0 ? this.#waiting.length : later)
    return ready.map(({ logprob }) => logprob)
  }
}
