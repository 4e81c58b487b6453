export type Style = 'heading' | 'bold' | 'italic' | 'code' | 'mark'

/** Text that is shown in one way. */
export interface Piece {
  text: string
  styles: Style[]
  /** Not to be wrapped at words: lines of code. */
  isCode: boolean
}

/** A line that may still become a heading, an item, a quotation or a fence. */
const UNDECIDED = /^ {0,12}(?:#{0,6}|[-*+>]|\d{1,9}[.)]?|`+|~+)?$/
const FENCE = /^ {0,12}(`{3,}|~{3,})/
const HEADING = /^ {0,3}#{1,6}(?=[ \n])/
/** The mark of an item or a quotation. */
const ITEM = /^ {0,12}(?:[-*+](?= )|\d{1,9}[.)](?= )|>)/
/** The longest mark that is waited for. */
const MAX_MARK = 64
const WORD = /[\p{L}\p{N}]/u

/**
 * Says how to show Markdown while it comes in pieces. Every character is given, the marks too, in its order: what stands
 * between two marks is styled, and at the end of a line every style ends. A mark is held back until what follows decides it.
 */
export class Markdown {
  #held = ''
  #atStart = true
  #isHeading = false
  #isBold = false
  #isItalic = false
  /** The backticks that opened code within a line. */
  #ticks = ''
  /** The fence that opened a block of code. */
  #fence = ''
  #before = '\n'
  #pieces: Piece[] = []

  /** @returns what can be shown now */
  write(text: string): Piece[] {
    this.#held += text
    return this.#read(false)
  }

  /** @returns the rest */
  end(): Piece[] {
    return this.#read(true)
  }

  #read(isLast: boolean): Piece[] {
    this.#pieces = []
    while (this.#held !== '') {
      const length = this.#atStart ? this.#startLine(isLast) : this.#goOn(isLast)
      if (length === undefined) break
      this.#held = this.#held.slice(length)
    }
    return this.#pieces
  }

  #give(text: string, styles: Style[]): number {
    const last = this.#pieces.at(-1)
    const isCode = this.#fence !== ''
    if (last !== undefined && last.isCode === isCode && last.styles.join() === styles.join()) last.text += text
    else if (text !== '') this.#pieces.push({ text, styles, isCode })
    this.#before = text.at(-1) ?? this.#before
    return text.length
  }

  /** @returns how much of what is held was given; undefined: it takes more to tell */
  #startLine(isLast: boolean): number | undefined {
    const held = this.#held
    if (this.#fence !== '') return this.#startCode(isLast)
    if (!isLast && UNDECIDED.test(held) && held.length < MAX_MARK) return undefined
    this.#atStart = false
    const fence = FENCE.exec(held)
    if (fence !== null) {
      this.#fence = fence[1] ?? ''
      return this.#give(fence[0], ['mark'])
    }
    const heading = HEADING.exec(held)
    if (heading !== null) {
      this.#isHeading = true
      return this.#give(heading[0], ['mark'])
    }
    const item = ITEM.exec(held)
    return item === null ? 0 : this.#give(item[0], ['bold'])
  }

  /** In a block of code: looks for the fence that closes it. */
  #startCode(isLast: boolean): number | undefined {
    const tick = this.#fence.charAt(0)
    const closing = new RegExp(`^ {0,12}${tick}{${this.#fence.length},}[ \\t]*(?=\\n|$)`)
    const opening = new RegExp(`^ {0,12}${tick}*[ \\t]*$`)
    if (!isLast && opening.test(this.#held) && this.#held.length < MAX_MARK) return undefined
    this.#atStart = false
    const found = closing.exec(this.#held)
    if (found === null) return 0
    this.#fence = ''
    return this.#give(found[0], ['mark'])
  }

  #goOn(isLast: boolean): number | undefined {
    const held = this.#held
    if (held.startsWith('\n')) {
      this.#isHeading = false
      this.#isBold = false
      this.#isItalic = false
      this.#ticks = ''
      this.#atStart = true
      return this.#give('\n', [])
    }
    const isPlain = this.#fence !== '' || this.#isHeading
    const plain = (isPlain ? /^[^\n]+/ : /^[^\n*`]+/).exec(held)?.[0]
    if (plain !== undefined) return this.#give(plain, this.#styles())
    const run = /^(?:\*+|`+)/.exec(held)?.[0] ?? ''
    if (run.length === held.length && !isLast && run.length < MAX_MARK) return undefined
    return run.startsWith('`') ? this.#tick(run) : this.#star(run, held.charAt(run.length))
  }

  #styles(): Style[] {
    if (this.#fence !== '' || this.#ticks !== '') return ['code']
    if (this.#isHeading) return ['heading']
    return [...(this.#isBold ? ['bold' as const] : []), ...(this.#isItalic ? ['italic' as const] : [])]
  }

  #tick(run: string): number {
    if (this.#ticks === run) this.#ticks = ''
    else if (this.#ticks === '' && this.#before !== '\\') this.#ticks = run
    else return this.#give(run, this.#styles())
    return this.#give(run, ['mark'])
  }

  #star(run: string, next: string): number {
    const isLiteral = this.#ticks !== '' || run.length > 3 || this.#before === '\\'
    const wantsBold = run.length >= 2
    const wantsItalic = run.length !== 2
    const isOpen = (!wantsBold || this.#isBold) && (!wantsItalic || this.#isItalic)
    const isClosed = (!wantsBold || !this.#isBold) && (!wantsItalic || !this.#isItalic)
    const closes = isOpen && !/\s/.test(this.#before)
    const opens = isClosed && next !== '' && !/\s/.test(next) && !WORD.test(this.#before)
    if (isLiteral || (!closes && !opens)) return this.#give(run, this.#styles())
    if (wantsBold) this.#isBold = opens
    if (wantsItalic) this.#isItalic = opens
    return this.#give(run, ['mark'])
  }
}
