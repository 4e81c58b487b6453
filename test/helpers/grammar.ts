import { Effort } from '../../workers/processor/engine/grammar/effort.js'
import { Automaton, parseGrammar, Room } from '../../workers/processor/engine/grammar/index.js'

/** The engine's own automaton at work on a grammar, without a model. */
export class Walker {
  readonly #automaton: Automaton
  readonly #random: () => number

  constructor(gbnf: string, random: () => number) {
    this.#automaton = new Automaton(parseGrammar(gbnf, 'grammar'), new Room())
    this.#random = random
  }

  /** True where the whole text fits. */
  accepts(text: string): boolean {
    const effort = new Effort('grammar')
    let state = this.#automaton.start(effort)
    for (const sign of text) {
      const next = this.#automaton.step(state, sign.codePointAt(0) ?? 0, effort)
      if (next === undefined) return false
      state = next
      effort.next()
    }
    return state.complete
  }

  /**
   * A text made up at random; undefined where it has not ended after so many signs.
   * @throws Error at a dead end
   */
  text(longest: number): string | undefined {
    const effort = new Effort('grammar')
    let state = this.#automaton.start(effort)
    let text = ''
    for (let length = 0; length < longest; length++) {
      const sets = [...state.groups.map(({ set }) => set), ...[...state.single.keys()].map((sign) => [sign, sign])]
      if (sets.length === 0 && !state.complete) throw new Error(`a dead end behind ${JSON.stringify(text)}`)
      if (state.complete && (sets.length === 0 || this.#random() < 0.3)) return text
      const set = this.#one(sets)
      const range = this.#below(set.length / 2) * 2
      const [first = 0, last = 0] = set.slice(range, range + 2)
      // Often an end of a range, where mistakes are.
      const sign = this.#random() < 0.3 ? (this.#random() < 0.5 ? first : last) : first + this.#below(last - first + 1)
      const next = this.#automaton.step(state, sign, effort)
      if (next === undefined) throw new Error(`the sign ${sign} was offered behind ${JSON.stringify(text)}`)
      effort.next()
      text += String.fromCodePoint(sign)
      state = next
    }
    return state.complete ? text : undefined
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count)
  }

  #one(sets: readonly (readonly number[])[]): readonly number[] {
    return sets[this.#below(sets.length)] ?? []
  }
}

/** Numbers from 0 up to 1 that are the same in each run: a linear congruential generator. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}
