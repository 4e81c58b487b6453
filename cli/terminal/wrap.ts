import { takeBack } from '../shared/output.js'
import { charactersOf, characterWidth, widthOf } from './width.js'

const TAB_STOP = 8
const TOKENS = /\n|[ \t]|[^\s]+|\s/gu

/**
 * Breaks lines at words while a text comes in pieces. What came of a word is shown at once, and taken to the next line where
 * the word turns out too long for its own; a word that no line holds is left to the terminal, and lines of code are, too.
 */
export class Wrap {
  readonly #columnsNow: () => number
  #columns: number
  /** Where the cursor stands. */
  #column = 0
  /** What is shown of the word under way, with its styles; undefined where that cannot be moved any more. */
  #word: { shown: string; cells: number } | undefined = { shown: '', cells: 0 }

  /** @param columnsNow how wide the terminal is at the moment */
  constructor(columnsNow: () => number) {
    this.#columnsNow = columnsNow
    this.#columns = columnsNow()
  }

  /**
   * @param style how the text is shown, with what switches that on and off
   * @param isCode lines are left as they are
   * @returns what to write
   */
  write(text: string, style: (text: string) => string, isCode: boolean): string {
    const columns = this.#columnsNow()
    if (columns !== this.#columns) {
      // A terminal that was resized may have folded what was written.
      this.#columns = columns
      this.#column %= columns
      this.#word = undefined
    }
    let written = ''
    for (const [token] of text.matchAll(TOKENS)) {
      if (token === '\n') written += this.#break()
      else if (/^\s$/.test(token)) written += this.#space(token, isCode)
      else if (isCode) written += this.#unbroken(token, style)
      else for (const part of partsOf(token, columns)) written += this.#part(part, style)
    }
    return written
  }

  #break(): string {
    this.#column = 0
    this.#newWord()
    return '\n'
  }

  #newWord(): void {
    this.#word = { shown: '', cells: 0 }
  }

  /** A space that has no room in its line is the break of the line. */
  #space(space: string, isCode: boolean): string {
    if (this.#column >= this.#columns && !isCode) return this.#break()
    this.#newWord()
    if (space === '\t') {
      this.#column = Math.min(this.#columns, (Math.floor(this.#column / TAB_STOP) + 1) * TAB_STOP)
      return space
    }
    return this.#unbroken(space, (text) => text)
  }

  #part(part: string, style: (text: string) => string): string {
    const cells = widthOf(part)
    const isWide = cells > 0 && BREAKABLE.test(part)
    if (isWide) this.#newWord()
    const shown = style(part)
    const word = this.#word
    // The last column stays free: a cursor that stands behind it cannot be moved back reliably.
    const most = this.#columns - 1
    if (word === undefined || word.cells + cells > most) return this.#unbroken(part, style)
    const fits = this.#column + cells <= most
    const moved = fits ? shown : `${takeBack(word.cells)}\n${word.shown}${shown}`
    this.#column = fits ? this.#column + cells : word.cells + cells
    this.#word = { shown: word.shown + shown, cells: word.cells + cells }
    if (isWide) this.#newWord()
    return moved
  }

  /** Left to the terminal, which breaks lines at any character. */
  #unbroken(text: string, style: (text: string) => string): string {
    if (!/^\s/.test(text)) this.#word = undefined
    for (const character of charactersOf(text)) {
      const cells = characterWidth(character)
      this.#column = this.#column + cells > this.#columns ? cells : this.#column + cells
    }
    return style(text)
  }
}

/** Scripts that break a line at any character. */
const BREAKABLE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303f\uff00-\uff60]/u

/** A word by the places where it may be broken: one that no line holds, anywhere. */
function partsOf(word: string, columns: number): string[] {
  if (widthOf(word) >= columns) return charactersOf(word)
  if (!BREAKABLE.test(word)) return [word]
  const parts: string[] = []
  let joins = false
  for (const character of charactersOf(word)) {
    const isBreakable = BREAKABLE.test(character)
    if (joins && !isBreakable) parts.push(`${parts.pop() ?? ''}${character}`)
    else parts.push(character)
    joins = !isBreakable
  }
  return parts
}
