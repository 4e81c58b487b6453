import { randomUUID } from 'node:crypto'
import type { ToolCallDelta } from '../../../../lib/protocol/index.js'
import { JsonScan } from '../json/index.js'
import { type CallSyntax, markOf, matchLoosely, middles } from './syntax.js'

export interface ReadPiece {
  /** What is no call. */
  text: string
  calls: ToolCallDelta[]
}

export interface CallReaderOptions {
  syntax: CallSyntax
  /** The tools that there are. */
  names: ReadonlySet<string>
  /** Most calls in one answer. */
  most: number
  /**
   * Told when a call's name is complete and its arguments begin.
   * @param begun the arguments so far
   * @returns true where the rest of them is sure to become a JSON object: then they are given out as they come, else when
   * they are complete and valid
   */
  onArguments: (name: string, begun: string) => boolean
  /**
   * Told when the mark of a call is complete, where the syntax has one. Given where something then makes a call follow:
   * what comes behind a mark is no text any more, whatever it is.
   * @param begun what stands behind the mark so far
   */
  onMark?: (begun: string) => void
}

type State =
  /** Text, or what may yet become a call. */
  | { at: 'text' }
  | { at: 'arguments'; name: string; scan: JsonScan; streamed: boolean; raw: string; json: string }
  /** Behind a call's arguments. */
  | { at: 'after' }
  | { at: 'end' }

const NAME = /^[a-zA-Z0-9_.-]*/

/**
 * Finds calls of tools in an answer as it comes. Text that may turn out to be the beginning of a call is held back until
 * it is clear; what only looked like one, or names no tool, or has malformed arguments, is text, unless it has the mark of
 * a call where that makes one. All text stands before the first call: it is a beginning of what the model wrote.
 */
export class CallReader {
  readonly #options: CallReaderOptions
  readonly #middles: readonly string[]
  readonly #mark: string | undefined
  #state: State = { at: 'text' }
  /** Text not yet given out or taken. */
  #held = ''
  /** How far into `held` no call can begin any more. */
  #checked = 0
  /** True from a call's mark on, until its arguments begin. */
  #marked = false
  #complete = 0

  constructor(options: CallReaderOptions) {
    this.#options = options
    this.#middles = middles(options.syntax)
    this.#mark = options.onMark && markOf(options.syntax)
  }

  /** Calls whose arguments are complete. */
  get complete(): number {
    return this.#complete
  }

  /** True where the answer could end here: its calls are complete, and no other has begun behind them. */
  get whole(): boolean {
    if (this.#complete === 0 || this.#state.at === 'arguments') return false
    const from = matchLoosely(this.#held, 0, this.#options.syntax.suffix)
    return typeof from === 'string' || this.#held.slice(from).trim() === ''
  }

  /** True once nothing that comes can belong to the answer. */
  get ended(): boolean {
    return this.#state.at === 'end'
  }

  /** True behind a call's mark, where its name is to come. */
  get inHead(): boolean {
    return this.#marked
  }

  /** True within a call's arguments. */
  get inArguments(): boolean {
    return this.#state.at === 'arguments'
  }

  push(text: string): ReadPiece {
    this.#held += text
    const piece: ReadPiece = { text: '', calls: [] }
    while (this.#step(piece)) {}
    return piece
  }

  /**
   * What was held back, once it is known that no more comes.
   * @param cut true where the model would have gone on: then what may be the beginning of a call is no text
   */
  end(cut = false): string {
    const rest = cut || this.#marked ? '' : this.#unread()
    this.#state = { at: 'end' }
    this.#held = ''
    return rest
  }

  /** What may have been text all along. */
  #unread(): string {
    const state = this.#state
    if (state.at === 'text') return this.#held
    return state.at === 'arguments' && !state.streamed && this.#mark === undefined ? state.raw + this.#held : ''
  }

  /** @returns false when it needs more text */
  #step(piece: ReadPiece): boolean {
    switch (this.#state.at) {
      case 'text':
        return this.#readText(piece)
      case 'arguments':
        return this.#readArguments(piece, this.#state)
      case 'after':
        return this.#readAfter(piece)
      case 'end':
        this.#held = ''
        return false
    }
  }

  #readText(piece: ReadPiece): boolean {
    const { open, prefix } = this.#options.syntax
    for (let i = this.#checked; i < this.#held.length; i++) {
      if (/\s/.test(this.#held.charAt(i))) continue
      const head = this.#matchHead(i, open + prefix)
      const marked = this.#mark !== undefined ? matchLoosely(this.#held, i, this.#mark) : 'no'
      if (head === 'no' && typeof marked === 'string') {
        this.#checked = i + 1
        continue
      }
      // White space in front of a call belongs to neither.
      const { length } = this.#held.slice(0, i).trimEnd()
      this.#checked = i
      this.#emit(piece, length)
      if (head === 'no') {
        this.#state = { at: 'end' }
        return true
      }
      if (head === 'partial') {
        if (typeof marked === 'number' && !this.#marked) {
          this.#marked = true
          this.#options.onMark?.(this.#held.slice(marked - length))
        }
        return false
      }
      this.#begin(piece, head.name, this.#held.slice(0, head.end - length), head.end - length)
      return true
    }
    this.#checked = this.#held.length
    this.#emit(piece, this.#held.trimEnd().length)
    return false
  }

  /** Gives the first so many characters of what is held out as text. */
  #emit(piece: ReadPiece, length: number): void {
    piece.text += this.#held.slice(0, length)
    this.#held = this.#held.slice(length)
    this.#checked = Math.max(0, this.#checked - length)
  }

  /** A call's beginning up to the brace that opens its arguments, which must be in the text as well. */
  #matchHead(from: number, prefix: string): 'no' | 'partial' | { name: string; end: number } {
    const nameAt = matchLoosely(this.#held, from, prefix)
    if (typeof nameAt === 'string') return nameAt
    const name = NAME.exec(this.#held.slice(nameAt))?.[0] ?? ''
    const { names } = this.#options
    if (nameAt + name.length === this.#held.length) {
      return [...names].some((one) => one.startsWith(name)) ? 'partial' : 'no'
    }
    if (!names.has(name)) return 'no'
    let partial = false
    for (const middle of this.#middles) {
      const end = matchLoosely(this.#held, nameAt + name.length, `${middle}{`)
      if (typeof end === 'number') return { name, end: end - 1 }
      if (end === 'partial') partial = true
    }
    return partial ? 'partial' : 'no'
  }

  #begin(piece: ReadPiece, name: string, head: string, end: number): void {
    this.#held = this.#held.slice(end)
    this.#checked = 0
    this.#marked = false
    const streamed = this.#options.onArguments(name, this.#held)
    if (streamed) piece.calls.push(this.#firstPiece(name, ''))
    this.#state = { at: 'arguments', name, scan: new JsonScan(), streamed, raw: head, json: '' }
  }

  #firstPiece(name: string, json: string): ToolCallDelta {
    return { call: this.#complete, id: `call_${randomUUID().replaceAll('-', '').slice(0, 24)}`, name, arguments: json }
  }

  #readArguments(piece: ReadPiece, state: Extract<State, { at: 'arguments' }>): boolean {
    const { length, ended } = state.scan.push(this.#held)
    const json = this.#held.slice(0, length)
    this.#held = this.#held.slice(length)
    if (state.streamed) {
      if (json !== '') piece.calls.push({ call: this.#complete, arguments: json })
    } else {
      state.json += json
      state.raw += json
    }
    if (!ended) return false
    if (!state.streamed) {
      if (!isObject(state.json)) return this.#giveUp(piece, state.raw)
      piece.calls.push(this.#firstPiece(state.name, state.json))
    }
    this.#complete++
    this.#state = { at: this.#complete < this.#options.most ? 'after' : 'end' }
    return true
  }

  /** A malformed call is text; behind other calls or a mark, where text has no place, it ends the answer. */
  #giveUp(piece: ReadPiece, raw: string): boolean {
    if (this.#complete > 0 || this.#mark !== undefined) this.#state = { at: 'end' }
    else {
      piece.text += raw
      this.#state = { at: 'text' }
      this.#checked = 0
    }
    return true
  }

  #readAfter(piece: ReadPiece): boolean {
    const { suffix, between = '', prefix } = this.#options.syntax
    const from = matchLoosely(this.#held, 0, suffix)
    const head = typeof from === 'number' ? this.#matchHead(from, between + prefix) : from
    if (head === 'partial') return false
    if (head === 'no') this.#state = { at: 'end' }
    else this.#begin(piece, head.name, this.#held.slice(0, head.end), head.end)
    return true
  }
}

function isObject(json: string): boolean {
  try {
    const value: unknown = JSON.parse(json)
    return value !== null && typeof value === 'object' && !Array.isArray(value)
  } catch {
    return false
  }
}
