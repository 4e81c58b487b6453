import { Effort } from '../../workers/processor/engine/grammar/effort.js'
import { Automaton, parseGrammar, Room } from '../../workers/processor/engine/grammar/index.js'
import type { Dice } from './dice.js'
import { accepts } from './grammar.js'

/** Texts by chance that a grammar lets through, found with the engine's own automaton. */

/** From here on a text is brought to its end. */
const CLOSING_AFTER = 60
const LONGEST = 3000
/** The sooner one of these ends a value, the earlier it stands here. */
const CLOSING = [...'}]"', ...'nutrelsfa', ...'0123456789']
const SPACE = new Set([...' \n\t'])

export class Drawing {
  readonly #automaton: Automaton

  /** @throws MeshError BAD_REQUEST where the grammar is malformed or too large */
  constructor(grammar: string) {
    this.#automaton = new Automaton(parseGrammar(grammar, 'g'), new Room())
  }

  /** @returns undefined where no end has been found */
  draw(dice: Dice, closingAfter = dice.below(CLOSING_AFTER)): string | undefined {
    const effort = new Effort('g')
    let state = this.#automaton.start(effort)
    let text = ''
    for (let length = 0; length < LONGEST; length++) {
      const isClosing = length > closingAfter
      if (state.complete && (isClosing || dice.below(4) === 0)) return text
      const choices: string[] = [...state.single.keys()].map((code) => String.fromCodePoint(code))
      for (const { set } of state.groups) for (let i = 0; i < 2; i++) choices.push(signOf(set, dice))
      if (choices.length === 0) return state.complete ? text : undefined
      const sign = isClosing ? closing(choices, dice) : spoken(choices, dice)
      const next = this.#automaton.step(state, sign.codePointAt(0) ?? 0, effort)
      if (next === undefined) throw new Error(`the sign ${JSON.stringify(sign)} may come and leads nowhere`)
      text += sign
      state = next
      effort.next()
    }
    return undefined
  }

  /** True where the grammar lets exactly this text through. */
  takes(text: string): boolean {
    return accepts(this.#automaton, text)
  }
}

function closing(choices: readonly string[], dice: Dice): string {
  // Now and then another one: what closes soonest may lead in a circle.
  const soonest = dice.below(12) > 0 ? CLOSING.find((sign) => choices.includes(sign)) : undefined
  return soonest ?? spoken(choices, dice)
}

function spoken(choices: readonly string[], dice: Dice): string {
  const signs = dice.below(10) > 0 ? choices.filter((sign) => !SPACE.has(sign)) : choices
  return dice.one(signs.length > 0 ? signs : choices)
}

/** A sign of a set of ranges; mostly an early one of a range, where ASCII is. */
function signOf(set: readonly number[] | Uint32Array, dice: Dice): string {
  const range = dice.below(set.length / 2) * 2
  const [first = 0, last = 0] = [set[range], set[range + 1]]
  const code = first + dice.below(Math.min(last - first + 1, dice.below(4) > 0 ? 60 : 0x11_0000))
  return code >= 0xd800 && code <= 0xdfff ? 'x' : String.fromCodePoint(code)
}
