import type { ToolCallDelta } from '../../../lib/protocol/index.js'
import type { CallReader } from './tools/index.js'

/** Text of some tokens, given the tokens before them. Bytes that are no whole character come out as U+FFFD. */
export type Detokenize<T> = (ids: readonly T[], before: readonly T[]) => string

const INCOMPLETE = '\ufffd'
/** A character has at most 4 bytes, so a window this long that still ends in U+FFFD holds bytes that are simply wrong. */
const LONGEST_WINDOW = 8
const CONTEXT_TOKENS = 4

export interface Piece {
  text: string
  /** True when a stop string was met: `text` is what stood before it, and nothing may follow. */
  stopped: boolean
  /** Pieces of calls of tools, behind the text. */
  calls: ToolCallDelta[]
}

/**
 * Turns tokens into text as they come. Half a character is held back until its bytes are complete, and so is text that
 * may turn out to be the beginning of a stop string.
 */
export class TextStream<T> {
  readonly #detokenize: Detokenize<T>
  readonly #stops: readonly string[]
  readonly #calls: CallReader | undefined
  /** Tokens whose text is out already: some tokenizers put a space in front depending on what stood before. */
  #before: readonly T[]
  #window: T[] = []
  /** Characters of the window's text that are out already. */
  #taken = 0
  #chars = 0
  #reach = 0
  #held = ''

  /**
   * @param before the end of the prompt, where the answer continues its text; empty where the answer is a new turn
   * @param calls finds calls of tools in the text, in which stop strings do not count
   */
  constructor(
    detokenize: Detokenize<T>,
    stops: readonly string[],
    before: readonly T[] = [],
    calls: CallReader | undefined = undefined,
  ) {
    this.#detokenize = detokenize
    this.#stops = stops
    this.#calls = calls
    this.#before = before.slice(-CONTEXT_TOKENS)
  }

  push(id: T): Piece {
    const text = this.#decode(id)
    if (!this.#calls) return { ...this.#takeText(text), calls: [] }
    const read = this.#calls.push(text)
    const piece = this.#takeText(read.text)
    if (piece.stopped) return { ...piece, calls: [] }
    // A call ends the text before it.
    return { ...piece, text: read.calls.length > 0 ? piece.text + this.#flush() : piece.text, calls: read.calls }
  }

  /**
   * How many characters of the answer hold all of the last token's text. All that `push` and `end` give as text is a
   * beginning of these. Infinity where the token has none.
   */
  get reach(): number {
    return this.#reach
  }

  /**
   * What was held back, once it is known that no more tokens come. Half a character is dropped.
   * @param cut true where the model would have gone on
   */
  end(cut = false): string {
    if (!this.#calls) return this.#flush()
    const { text, stopped } = this.#takeText(this.#calls.end(cut))
    return stopped ? text : text + this.#flush()
  }

  #flush(): string {
    const text = this.#held
    this.#held = ''
    return text
  }

  #decode(id: T): string {
    this.#window.push(id)
    const whole = this.#detokenize(this.#window, this.#before)
    const complete = !whole.endsWith(INCOMPLETE) || this.#window.length >= LONGEST_WINDOW
    const end = complete ? whole.length : whole.length - INCOMPLETE.length
    const text = whole.slice(this.#taken, end)
    this.#chars += text.length
    // Half a character is told when it is whole.
    if (!complete) this.#reach = this.#chars + 1
    else this.#reach = text === '' ? Number.POSITIVE_INFINITY : this.#chars
    if (complete) {
      this.#before = [...this.#before, ...this.#window].slice(-CONTEXT_TOKENS)
      this.#window = []
      this.#taken = 0
    } else {
      this.#taken = Math.max(this.#taken, end)
    }
    return text
  }

  #takeText(text: string): Omit<Piece, 'calls'> {
    if (this.#stops.length === 0) return { text, stopped: false }
    this.#held += text
    const found = this.#stops.map((stop) => this.#held.indexOf(stop)).filter((at) => at >= 0)
    if (found.length > 0) {
      const before = this.#held.slice(0, Math.min(...found))
      this.#held = ''
      return { text: before, stopped: true }
    }
    const keep = Math.max(...this.#stops.map((stop) => overlap(this.#held, stop)))
    const out = this.#held.slice(0, this.#held.length - keep)
    this.#held = this.#held.slice(this.#held.length - keep)
    return { text: out, stopped: false }
  }
}

/** Length of the longest end of `text` that is a beginning of `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length
  }
  return 0
}
