import { MeshError } from '../../../../lib/errors/index.js'
import type { Automaton, State } from './automaton.js'
import { Effort } from './effort.js'
import { type HalfSign, rangeOf, setBit, type Tokens } from './tokens.js'

/** A grammar that is made ready. */
export interface Grammar {
  readonly automaton: Automaton
  /** What in the request it comes from. */
  readonly param: string
}

/** Follows one answer, token by token, and says which may come next. */
export class Matcher {
  readonly #automaton: Automaton
  readonly #tokens: Tokens
  readonly #param: string
  readonly #effort: Effort
  #state: State
  #half: HalfSign | undefined

  /** @throws MeshError BAD_REQUEST where the grammar is too complex to begin with */
  constructor({ automaton, param }: Grammar, tokens: Tokens) {
    this.#automaton = automaton
    this.#tokens = tokens
    this.#param = param
    this.#effort = new Effort(param)
    this.#state = automaton.start(this.#effort)
  }

  /** How many tokens there are. */
  get tokenCount(): number {
    return this.#tokens.count
  }

  /** True where the answer may end here. */
  get complete(): boolean {
    return this.#state.complete && this.#half === undefined
  }

  /** Goes on behind a text that is there already. @returns false where it does not fit; @throws MeshError BAD_REQUEST */
  takeText(text: string): boolean {
    let state: State | undefined = this.#state
    for (const sign of text) {
      state = this.#automaton.step(state, sign.codePointAt(0) ?? 0, this.#effort)
      if (state === undefined) return false
    }
    this.#state = state
    return true
  }

  /** Goes on behind a token, where it may come. @returns false where it may not; @throws MeshError BAD_REQUEST */
  take(token: number): boolean {
    if (this.#tokens.ends.has(token)) return this.complete
    const read = this.#tokens.read(token, this.#half)
    const state = read && this.#behind(read.signs)
    if (state === undefined || !this.#fits(state, read?.rest)) return false
    this.#state = state
    this.#half = read?.rest
    this.#effort.next()
    return true
  }

  /**
   * A bit for each token, 1 where it may come next.
   * @throws MeshError BAD_REQUEST where none may, or to find out takes too long
   */
  allowed(): Uint8Array {
    const bits = Uint8Array.from(this.#fitting())
    if (this.complete) for (const token of this.#tokens.ends) setBit(bits, token)
    if (!bits.some((byte) => byte !== 0)) {
      throw MeshError.BAD_REQUEST('The grammar came to a dead end: no token of this model can follow the text so far', {
        param: this.#param,
      })
    }
    return bits
  }

  #fitting(): Uint8Array {
    const half = this.#half
    if (half !== undefined) {
      return this.#tokens.fittingMiddles(({ signs, rest }) => {
        const state = this.#behind(signs)
        return state !== undefined && this.#fits(state, rest)
      }, half)
    }
    const state = this.#state
    if (state.kept) return state.kept
    const bits = this.#tokens.fitting(
      state,
      (from, sign) => this.#automaton.step(from, sign, this.#effort),
      (last, rest) => this.#fits(last, rest),
    )
    this.#automaton.keep(state, bits)
    return bits
  }

  #behind(signs: readonly number[]): State | undefined {
    let state: State | undefined = this.#state
    for (const sign of signs) {
      state = this.#automaton.step(state, sign, this.#effort)
      if (state === undefined) return undefined
    }
    return state
  }

  #fits(state: State, rest: HalfSign | undefined): boolean {
    if (rest === undefined) return true
    const range = rangeOf(rest)
    return range !== undefined && this.#automaton.allows(state, range.first, range.last, this.#effort)
  }
}
