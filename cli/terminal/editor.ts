import type { History } from './history.js'
import type { Key } from './keys.js'
import { continued } from './messages.js'
import { characterAfter, characterBefore } from './width.js'

/** Steps that undo goes back. */
const MAX_UNDO = 100
/** As far as the end of a word is looked for. */
const WORD_CHARS = 1000
const WORD_BEFORE = /[\p{L}\p{N}_]*[^\p{L}\p{N}_]*$/u
const WORD_AFTER = /^[^\p{L}\p{N}_]*[\p{L}\p{N}_]*/u

interface State {
  text: string
  cursor: number
}

/** A text of one line or several under a person's keys. Places are counted in UTF-16 code units. */
export class Editor {
  text = ''
  cursor = 0
  readonly #history: History
  /** Which entry of the history is shown; -1: what is being written. */
  #age = -1
  #draft = ''
  #killed = ''
  readonly #before: State[] = []

  constructor(history: History) {
    this.#history = history
  }

  /** Replaces what stands between two places. */
  replace(from: number, to: number, text: string): void {
    this.#remember()
    this.text = this.text.slice(0, from) + text + this.text.slice(to)
    this.cursor = from + text.length
  }

  /** Forgets the text, and gives it. */
  take(): string {
    const { text } = this
    this.text = ''
    this.cursor = 0
    this.#age = -1
    this.#draft = ''
    this.#before.length = 0
    return text
  }

  /** @returns true where Enter ends a message; what other keys do is in the text and the cursor */
  press({ name, text }: Key): boolean {
    const { cursor } = this
    switch (name) {
      case 'text':
      case 'paste':
        this.replace(cursor, cursor, text)
        break
      case 'newline':
        this.replace(cursor, cursor, '\n')
        break
      case 'enter': {
        const more = continued(this.text)
        if (more === undefined) return true
        this.replace(0, this.text.length, more)
        break
      }
      case 'left':
        this.cursor = characterBefore(this.text, cursor)
        break
      case 'right':
        this.cursor = characterAfter(this.text, cursor)
        break
      case 'word-left':
        this.cursor = this.#wordBefore()
        break
      case 'word-right':
        this.cursor = this.#wordAfter()
        break
      case 'home':
        this.cursor = this.#lineStart()
        break
      case 'end':
        this.cursor = this.#lineEnd()
        break
      case 'up':
        this.#up()
        break
      case 'down':
        this.#down()
        break
      case 'erase':
        if (cursor > 0) this.replace(characterBefore(this.text, cursor), cursor, '')
        break
      case 'delete':
        this.#delete(characterAfter(this.text, cursor))
        break
      case 'erase-word':
        this.#kill(this.#wordBefore(), cursor)
        break
      case 'delete-word':
        this.#kill(cursor, this.#wordAfter())
        break
      case 'kill-left':
        this.#kill(this.#lineStart(), cursor)
        break
      case 'kill-right':
        // At the end of a line the break itself goes, as elsewhere.
        this.#kill(cursor, Math.max(this.#lineEnd(), characterAfter(this.text, cursor)))
        break
      case 'yank':
        this.replace(cursor, cursor, this.#killed)
        break
      case 'undo':
        Object.assign(this, this.#before.pop())
        break
    }
    return false
  }

  #remember(): void {
    this.#before.push({ text: this.text, cursor: this.cursor })
    if (this.#before.length > MAX_UNDO) this.#before.shift()
  }

  #kill(from: number, to: number): void {
    if (from === to) return
    this.#killed = this.text.slice(from, to)
    this.replace(from, to, '')
  }

  #delete(to: number): void {
    if (to > this.cursor) this.replace(this.cursor, to, '')
  }

  #wordBefore(): number {
    const before = this.text.slice(Math.max(0, this.cursor - WORD_CHARS), this.cursor)
    return this.cursor - (WORD_BEFORE.exec(before)?.[0].length ?? 0)
  }

  #wordAfter(): number {
    const after = this.text.slice(this.cursor, this.cursor + WORD_CHARS)
    return this.cursor + (WORD_AFTER.exec(after)?.[0].length ?? 0)
  }

  #lineStart(): number {
    return this.cursor === 0 ? 0 : this.text.lastIndexOf('\n', this.cursor - 1) + 1
  }

  #lineEnd(): number {
    const end = this.text.indexOf('\n', this.cursor)
    return end === -1 ? this.text.length : end
  }

  /** To the line above, and from the first one into the history. */
  #up(): void {
    const start = this.#lineStart()
    if (start === 0) {
      this.#show(this.#age + 1)
      return
    }
    const above = start === 1 ? 0 : this.text.lastIndexOf('\n', start - 2) + 1
    this.cursor = Math.min(above + (this.cursor - start), start - 1)
  }

  #down(): void {
    const end = this.#lineEnd()
    if (end === this.text.length) {
      if (this.#age >= 0) this.#show(this.#age - 1)
      return
    }
    const column = this.cursor - this.#lineStart()
    const below = this.text.indexOf('\n', end + 1)
    this.cursor = Math.min(end + 1 + column, below === -1 ? this.text.length : below)
  }

  #show(age: number): void {
    const entry = age < 0 ? this.#draft : this.#history.at(age)
    if (entry === undefined) return
    if (this.#age < 0) this.#draft = this.text
    this.#age = age
    this.text = entry
    this.cursor = entry.length
    this.#before.length = 0
  }
}
