import { MeshError } from '../../lib/protocol/index.js'
import { Effort } from '../../workers/processor/engine/grammar/effort.js'
import { Automaton, parseGrammar, Room } from '../../workers/processor/engine/grammar/index.js'
import { jsonSchemaToGbnf } from '../../workers/processor/engine/json/grammar.js'
import type { EnforceMode } from '../../workers/processor/engine/json/mode.js'
import type { Dice } from './dice.js'

/** True where a grammar lets exactly this text through. */
export function accepts(automaton: Automaton, text: string): boolean {
  const effort = new Effort('grammar')
  let state = automaton.start(effort)
  for (const sign of text) {
    const next = automaton.step(state, sign.codePointAt(0) ?? 0, effort)
    if (next === undefined) return false
    state = next
    effort.next()
  }
  return state.complete
}

/** Where a schema is refused, or that it is not. */
export function refusal(schema: Record<string, unknown>, mode: EnforceMode = 'strict'): string {
  try {
    jsonSchemaToGbnf(schema, 's', { mode })
  } catch (err) {
    if (err instanceof MeshError && err.code === 'BAD_REQUEST') return String(err.details.param)
    throw err
  }
  return 'accepted'
}

/** The engine's own automaton at work on a grammar, without a model. */
export class Walker {
  readonly #automaton: Automaton
  readonly #dice: Dice

  constructor(gbnf: string, dice: Dice) {
    this.#automaton = new Automaton(parseGrammar(gbnf, 'grammar'), new Room())
    this.#dice = dice
  }

  /** True where the whole text fits. */
  accepts(text: string): boolean {
    return accepts(this.#automaton, text)
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
      if (state.complete && (sets.length === 0 || this.#dice.below(3) === 0)) return text
      const set = this.#dice.one(sets)
      const range = this.#dice.below(set.length / 2) * 2
      const [first = 0, last = 0] = set.slice(range, range + 2)
      // Often an end of a range, where mistakes are.
      const sign = this.#dice.one([first, last, first + this.#dice.below(last - first + 1)])
      const next = this.#automaton.step(state, sign, effort)
      if (next === undefined) throw new Error(`the sign ${sign} was offered behind ${JSON.stringify(text)}`)
      effort.next()
      text += String.fromCodePoint(sign)
      state = next
    }
    return state.complete ? text : undefined
  }
}
