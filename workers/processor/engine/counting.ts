import type { LlamaModel } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'

/** So much text is tokenized at a time: some 2 ms, and not more, for what a byte makes a token of, grows with its square. */
const SLICE_CHARS = 4096
/** Texts of so many characters are counted by those that need their tokens. */
const SHORT_CHARS = 2 * SLICE_CHARS
/** A text cut into two has at most so many tokens more. */
const CUT_TOKENS = 8

/** Finds texts that are far too long without tokenizing more of them than fits, and without holding up what runs. */
export class Counting {
  readonly #model: LlamaModel
  #last: Promise<void> = Promise.resolve()

  constructor(model: LlamaModel) {
    this.#model = model
  }

  /**
   * Tokenizes texts slice by slice, all callers' slices in turn, until it is sure.
   * @returns whether together they have more than `most` tokens; false where only tokenizing all at once can tell, which
   * takes no longer than for texts that fit
   * @throws MeshError CANCELLED
   */
  async exceeds(texts: readonly string[], most: number, signal: AbortSignal): Promise<boolean> {
    if (texts.reduce((sum, text) => sum + text.length, 0) <= SHORT_CHARS) return false
    let least = 0
    let sliceChars = SLICE_CHARS
    for (const text of texts) {
      for (let at = 0; at < text.length; at += SLICE_CHARS) {
        const slice = text.slice(at, at + SLICE_CHARS)
        sliceChars += slice.length
        if (sliceChars > SLICE_CHARS) {
          sliceChars = slice.length
          await this.turn()
          if (signal.aborted) throw MeshError.CANCELLED('The request was cancelled')
        }
        least += Math.max(0, this.#model.tokenize(slice).length - CUT_TOKENS)
        if (least > most) return true
      }
    }
    return false
  }

  /** Waits for a turn of the loop of its own, whoever else waits for one: what runs goes on in between. */
  turn(): Promise<void> {
    this.#last = this.#last.then(() => new Promise((resolve) => setImmediate(resolve)))
    return this.#last
  }
}
