import type { SignSet } from '../grammar/index.js'
import { Alphabet, type Spend } from './alphabet.js'
import { WORD } from './classes.js'
import { dfaOf } from './determinise.js'
import { both, type Dfa, NONE, sizeOf } from './dfa.js'
import { type Lengths, lesser, tallyOf } from './lengths.js'
import { ANYTHING } from './nfa.js'
import type { Regex } from './regex.js'

/**
 * Expressions that say the same together. What looks ahead from the beginning of the text is one of its own: alone it is
 * often simple, and beside the others it may add nothing.
 */
export function apart(regex: Regex): Regex[] {
  if (regex.is !== 'sequence') return [regex]
  const at = regex.parts.findIndex(({ is }) => is !== 'ahead')
  const [aheads, rest] = at < 0 ? [regex.parts, []] : [regex.parts.slice(0, at), regex.parts.slice(at)]
  if (aheads.length === 0) return [regex]
  const each = aheads.map((ahead): Regex => ({ is: 'sequence', parts: [ahead, ANYTHING] }))
  return [...each, { is: 'sequence', parts: rest }]
}

/** A pattern matches a text that it matches a part of: what may stand around that part is made explicit here. */
export function searched(regex: Regex): Regex {
  if (regex.is === 'choice') return { is: 'choice', choices: regex.choices.map(searched) }
  const parts = regex.is === 'sequence' ? [...regex.parts] : [regex]
  if (parts[0]?.is === 'start') parts.shift()
  else parts.unshift(ANYTHING)
  if (parts.at(-1)?.is === 'end') parts.pop()
  else parts.push(ANYTHING)
  const [only] = parts
  return only !== undefined && parts.length === 1 ? only : { is: 'sequence', parts }
}

/** The alphabet in which these expressions can be followed. */
export function alphabetOf(regexes: readonly Regex[], spend: Spend): Alphabet {
  const sets: SignSet[] = []
  for (const regex of regexes) addSets(regex, sets)
  return new Alphabet(sets, spend)
}

function addSets(regex: Regex, sets: SignSet[]): void {
  switch (regex.is) {
    case 'signs':
      sets.push(regex.set)
      break
    case 'sequence':
      for (const part of regex.parts) addSets(part, sets)
      break
    case 'choice':
      for (const choice of regex.choices) addSets(choice, sets)
      break
    case 'border':
      sets.push(WORD)
      break
    case 'times':
    case 'ahead':
      addSets(regex.body, sets)
  }
}

/** What several expressions have in common. */
export interface Meeting {
  readonly dfa: Dfa
  readonly lengths: Lengths
}

/**
 * The texts that all of these match, the smallest automata first. Those that say no more than how long a text is are put
 * together as lengths, which may turn out to say nothing new.
 */
export function meetingOf(regexes: readonly Regex[], alphabet: Alphabet, lengths: Lengths, spend: Spend): Meeting {
  const dfas = regexes.flatMap(apart).map((regex) => dfaOf(regex, alphabet, spend))
  const [first, ...others] = dfas.sort((a, b) => sizeOf(a) - sizeOf(b))
  let met = first ?? dfaOf(ANYTHING, alphabet, spend)
  let { least, most } = lengths
  for (const dfa of others) {
    const tally = tallyOf(dfa)
    if (tally !== undefined && usesOnly(met, tally.classes)) {
      least = Math.max(least, tally.least)
      most = lesser(most, tally.most)
    } else met = both(met, dfa, spend)
  }
  return { dfa: met, lengths: { least, most } }
}

function usesOnly({ next, width }: Dfa, classes: readonly number[]): boolean {
  const known = new Set(classes)
  return next.every((to, at) => to === NONE || known.has(at % width))
}
