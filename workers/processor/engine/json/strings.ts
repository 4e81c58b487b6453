import { MeshError } from '../../../../lib/errors/index.js'
import type { Spend } from './alphabet.js'
import { alphabetOf, meetingOf, searched } from './automaton.js'
import { sizeOf } from './dfa.js'
import { FORMATS, WITHOUT_PATTERN } from './formats.js'
import { refuse } from './gbnf.js'
import { type Lengths, lesser, sized, tallyOf } from './lengths.js'
import type { EnforceMode } from './mode.js'
import { type Regex, readRegex } from './regex.js'
import type { GrammarRules } from './rules.js'
import { writeDfa, writeRegex, writeSigns } from './write.js'

/** What one schema says of a string, as it stands there. */
export interface StringLimits {
  /** A regular expression, or several that all have to match. */
  readonly pattern?: unknown
  readonly format?: unknown
  /** Code points. */
  readonly minLength?: unknown
  readonly maxLength?: unknown
  /** Texts that it may not be. */
  readonly excluded?: readonly string[]
}

/** A string may be asked to have so many code points; one that may have more still has at most so many. */
const LONGEST = 1_000_000
/** Longer runs are made of so many at a time: a grammar counts no further than 2,000. */
const AT_A_TIME = 1000

/**
 * The expression for the JSON strings that satisfy every part.
 * @param path where in the request the schema stands, for errors
 * @throws MeshError BAD_REQUEST where no string fits, or it costs too much; in strict mode where a part cannot be enforced
 */
export function stringOf(rules: GrammarRules, parts: readonly StringLimits[], path: string, mode: EnforceMode): string {
  const patterns = new Set(parts.flatMap((part) => patternsOf(part, path)))
  const formats = new Set(parts.flatMap((part) => formatOf(part, path, mode, patterns.size > 0)))
  const lengths = lengthsOf(parts, path)
  const spend = (steps: number) => rules.budget.spendOnAutomata(path, steps)
  const read = [...patterns].flatMap((pattern) => {
    const regex = readPattern(pattern, path, mode, spend)
    return regex === undefined ? [] : [{ pattern, regex }]
  })
  // Whatever the mode, what is left to enforce tells the outcome.
  const unlike = parts.flatMap(({ excluded = [] }) => (excluded.length > 0 ? [othersThan(excluded)] : []))
  const key = JSON.stringify(['string', read.map(({ pattern }) => pattern), [...formats], unlike, lengths])
  return rules.once(key, () => {
    const known = [...formats, ...unlike].map((pattern) => searched(readRegex(pattern, `${path}.format`, spend)))
    const expression = inside(rules, [...read.map(({ regex }) => regex), ...known], lengths, path, spend)
    return expression === 'char*' ? 'string' : String.raw`"\"" ${expression} "\""`
  })
}

function inside(rules: GrammarRules, regexes: readonly Regex[], asked: Lengths, path: string, spend: Spend): string {
  const [only] = regexes
  const free = asked.least === 0 && asked.most === undefined
  if (only === undefined) return free ? 'char*' : run('sign', asked, rules)
  const asItStands = free && regexes.length === 1 ? writeRegex(only, rules) : undefined
  if (asItStands !== undefined) return asItStands
  const alphabet = alphabetOf(regexes, spend)
  const { dfa: met, lengths } = meetingOf(regexes, alphabet, asked, spend)
  const tally = tallyOf(met)
  if (tally !== undefined) {
    const least = Math.max(tally.least, lengths.least)
    const most = lesser(tally.most, lengths.most)
    if (most === undefined || least <= most) {
      return run(writeSigns(alphabet.signsOf(tally.classes), rules), { least, most }, rules)
    }
  }
  const dfa = sized(met, lengths, spend)
  if (sizeOf(dfa) === 0) throw refuse(path, 'no string satisfies all that is asked of it')
  rules.budget.spendStates(path, sizeOf(dfa))
  return writeDfa(dfa, alphabet, rules)
}

/** The pattern of all texts but these. */
function othersThan(texts: readonly string[]): string {
  return `^(?!(?:${texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|')})$)`
}

function patternsOf({ pattern }: StringLimits, path: string): string[] {
  if (pattern === undefined) return []
  return [pattern].flat().map((one) => {
    if (typeof one !== 'string') throw refuse(`${path}.pattern`, 'expected a string')
    return one
  })
}

/** A pattern's expression; undefined in lenient mode where it has what cannot be followed. */
function readPattern(pattern: string, path: string, mode: EnforceMode, spend: Spend): Regex | undefined {
  try {
    return searched(readRegex(pattern, `${path}.pattern`, spend))
  } catch (err) {
    if (!(err instanceof MeshError) || err.details.limit !== undefined) throw err
    // It may be of another language, which writes more: nobody is refused for that who does not ask for it.
    if (mode === 'lenient') return undefined
    throw err
  }
}

/** A format's pattern; none where it says nothing, or in lenient mode where nobody knows it. */
function formatOf({ format }: StringLimits, path: string, mode: EnforceMode, hasPattern: boolean): string[] {
  if (format === undefined) return []
  const pattern = typeof format === 'string' ? FORMATS.get(format) : undefined
  if (pattern === undefined && (mode === 'strict' || typeof format !== 'string')) {
    throw refuse(`${path}.format`, `cannot be enforced; known are ${[...FORMATS.keys()].join(', ')}`)
  }
  if (!pattern) return []
  return [(hasPattern ? undefined : WITHOUT_PATTERN.get(String(format))) ?? pattern]
}

function lengthsOf(parts: readonly StringLimits[], path: string): Lengths {
  let least = 0
  let most: number | undefined
  for (const { minLength, maxLength } of parts) {
    least = Math.max(least, length(minLength, `${path}.minLength`) ?? 0)
    const one = length(maxLength, `${path}.maxLength`)
    most = lesser(most, one === undefined ? undefined : Math.min(one, LONGEST))
  }
  if (least > LONGEST) throw refuse(`${path}.minLength`, `at most ${LONGEST} can be enforced`, { limit: LONGEST })
  if (most !== undefined && most < least) throw refuse(`${path}.maxLength`, 'is less than minLength')
  return { least, most }
}

function length(value: unknown, path: string): number | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0)
    throw refuse(path, 'expected a whole number, 0 or more')
  return value
}

/** So many of the same. Whatever the numbers are, there are two ways on at most from any place. */
function run(what: string, { least, most }: Lengths, rules: GrammarRules): string {
  if (most === 0) return '""'
  const one = what.includes(' ') ? rules.rule(what) : what
  const first = exactly(one, least, rules)
  const more = most === undefined ? `${one}*` : upTo(one, most - least, rules)
  return [first, more].filter((part) => part !== '').join(' ') || '""'
}

function exactly(one: string, times: number, rules: GrammarRules): string {
  const [whole, rest] = [Math.floor(times / AT_A_TIME), times % AT_A_TIME]
  const many = whole > 0 ? [`${rules.rule(`${one}{${AT_A_TIME}}`)}{${whole}}`] : []
  return [...many, ...(rest > 0 ? [`${one}{${rest}}`] : [])].join(' ')
}

function upTo(one: string, times: number, rules: GrammarRules): string {
  const [whole, rest] = [Math.floor(times / AT_A_TIME), times % AT_A_TIME]
  let more = rest > 0 ? `${one}{0,${rest}}` : ''
  if (whole === 0) return more
  const many = rules.rule(`${one}{${AT_A_TIME}}`)
  const fewer = `${one}{0,${AT_A_TIME - 1}}`
  for (let i = 0; i < whole; i++) more = rules.rule(`${fewer} | ${many}${more === '' ? '' : ` ${more}`}`)
  return more
}
