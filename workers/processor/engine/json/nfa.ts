import type { Alphabet, Spend } from './alphabet.js'
import { ANY, WORD } from './classes.js'
import type { Regex } from './regex.js'

/** What stands before a place in a text, as bits. */
export const AT_START = 1
export const AFTER_OTHER = 2
export const AFTER_WORD = 4

/** Any signs, which is what stands around a match. */
export const ANYTHING: Regex = { is: 'times', body: { is: 'signs', set: ANY }, least: 0, most: undefined }

/** What must, or must not, follow: an expression for all that does. */
export interface Ahead {
  readonly regex: Regex
  readonly not: boolean
}

/** A place in an expression. */
export type NfaState =
  | { readonly is: 'signs'; readonly classes: readonly number[]; readonly to: number }
  /** On without a sign. */
  | { readonly is: 'split'; readonly to: number[] }
  /** On without a sign behind certain things, as the bits say. */
  | { readonly is: 'behind'; readonly what: number; readonly to: number }
  | { readonly is: 'ahead'; readonly ahead: Ahead; readonly to: number }
  | { readonly is: 'accept' }

export interface Nfa {
  readonly states: readonly NfaState[]
  readonly start: number
}

/** Steps that one more state counts for. */
const STATE_STEPS = 4
const NOTHING_AHEAD: Ahead = { regex: { is: 'signs', set: ANY }, not: true }
const WORD_AHEAD: Regex = { is: 'signs', set: WORD }

/** The automaton of an expression: each state is made for what follows it, from the end to the beginning. */
export function nfaOf(regex: Regex, alphabet: Alphabet, spend: Spend): Nfa {
  const states: NfaState[] = [{ is: 'accept' }]
  const add = (state: NfaState) => {
    spend(STATE_STEPS)
    return states.push(state) - 1
  }
  const build = (one: Regex, to: number): number => {
    switch (one.is) {
      case 'signs':
        return add({ is: 'signs', classes: alphabet.classesOf(one.set), to })
      case 'sequence':
        return one.parts.reduceRight((next, part) => build(part, next), to)
      case 'choice':
        return add({ is: 'split', to: one.choices.map((choice) => build(choice, to)) })
      case 'times':
        return buildTimes(one, to)
      case 'start':
        return add({ is: 'behind', what: AT_START, to })
      case 'end':
        return add({ is: 'ahead', ahead: NOTHING_AHEAD, to })
      case 'ahead':
        return add({ is: 'ahead', ahead: { regex: one.body, not: one.not }, to })
      case 'border': {
        const ways = [
          { what: AFTER_WORD, not: !one.not },
          { what: AT_START | AFTER_OTHER, not: one.not },
        ]
        const starts = ways.map(({ what, not }) =>
          add({ is: 'behind', what, to: add({ is: 'ahead', ahead: { regex: WORD_AHEAD, not }, to }) }),
        )
        return add({ is: 'split', to: starts })
      }
    }
  }
  const buildTimes = ({ body, least, most }: Regex & { is: 'times' }, to: number): number => {
    let next = to
    if (most === undefined) {
      const again: number[] = []
      next = add({ is: 'split', to: again })
      again.push(build(body, next), to)
    } else {
      for (let i = least; i < most; i++) next = add({ is: 'split', to: [build(body, next), to] })
    }
    for (let i = 0; i < least; i++) next = build(body, next)
    return next
  }
  const start = build(regex, 0)
  return { states, start }
}

/** True where an expression asks what stands before a place. */
export function looksBehind(regex: Regex): boolean {
  switch (regex.is) {
    case 'start':
    case 'border':
      return true
    case 'sequence':
      return regex.parts.some(looksBehind)
    case 'choice':
      return regex.choices.some(looksBehind)
    case 'times':
    case 'ahead':
      return looksBehind(regex.body)
    default:
      return false
  }
}
