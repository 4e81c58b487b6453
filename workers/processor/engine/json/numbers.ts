import { alphabetOf } from './automaton.js'
import {
  type Bound,
  MOST_DECIMALS,
  MOST_DIGITS,
  numberPattern,
  type Range,
  wholePattern,
  wholeWithin,
} from './bounds.js'
import { atOneScale, type Decimal, decimalOf, written } from './decimal.js'
import { dfaOf } from './determinise.js'
import { both, sizeOf } from './dfa.js'
import { asDouble, asRead } from './doubles.js'
import { oneOf, quoted, refuse } from './gbnf.js'
import type { EnforceMode } from './mode.js'
import {
  leastCommon,
  multiple,
  multiplesDfa,
  reduced,
  SIGNS_OF_NUMBERS,
  stepsWithin,
  wholeMultiple,
} from './multiples.js'
import { readRegex } from './regex.js'
import type { GrammarRules } from './rules.js'
import { writeDfa, writeRegex } from './write.js'

/** What one schema says of a number, as it stands there. */
export interface NumberLimits {
  readonly minimum?: unknown
  readonly maximum?: unknown
  /** A bound, or, as it was in earlier drafts, whether `minimum` itself is left out. */
  readonly exclusiveMinimum?: unknown
  readonly exclusiveMaximum?: unknown
  readonly multipleOf?: unknown
}

/** Multiples are written out one by one where there are no more. */
const MOST_WRITTEN_OUT = 1000
/** What a multiple is of, in units of its last decimal. Each is a state for each digit. */
const GREATEST_STEP = 5000
/** States that digits before the point may take; fewer digits are written where that does not suffice, but so many. */
const DIGIT_STATES = 20_000
const LEAST_DIGITS = 6
/** Numbers of so many digits are read exactly. */
const EXACT_DIGITS = 15
/** No number that is written here is as great. */
const TOO_GREAT: Decimal = { digits: 10n ** BigInt(MOST_DIGITS), scale: 0 }

/**
 * The expression for the numbers that satisfy every part.
 * @param path where in the request the schema stands, for errors
 * @throws MeshError BAD_REQUEST where no number fits, or it costs too much; in strict mode where a part cannot be enforced
 */
export function numberOf(
  rules: GrammarRules,
  type: 'number' | 'integer',
  parts: readonly NumberLimits[],
  path: string,
  mode: EnforceMode,
): string {
  const asked = rangeOf(parts, path)
  const steps = parts.flatMap(({ multipleOf }) => stepOf(multipleOf, path))
  if (!asked.min && !asked.max && steps.length === 0) return type
  if (asked.min && asked.max && isEmpty(asked.min, asked.max)) throw refuse(path, 'no number fits between its bounds')
  const step = stepFor(type, steps)
  const within = writable(asked)
  if (within === undefined) {
    if (mode === 'lenient') return type
    throw refuse(
      boundIn(parts, path),
      `cannot be enforced: no number of up to ${MOST_DIGITS} digits is within its bounds`,
    )
  }
  const range = asRead(within, step)
  if (range.min && range.max && isEmpty(range.min, range.max)) {
    throw refuse(path, 'no number fits between its bounds')
  }
  if (step !== undefined) {
    const key = [step, range.min?.value, range.max?.value].map((one) => one && `${one.digits}e${one.scale}`)
    const whole = ['multiples', ...key, range.min?.open, range.max?.open].join()
    const expression = rules.once(whole, () => multiples(rules, range, step, path) ?? '')
    if (expression !== '') return expression
    if (mode === 'strict') {
      const why = `only multiples of a number of up to ${GREATEST_STEP}, without its point, and of fewer than ${EXACT_DIGITS} decimals can be enforced`
      throw refuse(`${path}.multipleOf`, why, { limit: GREATEST_STEP })
    }
  }
  const pattern = type === 'integer' ? wholePattern(wholeWithin(range)) : numberPattern(range)
  if (pattern === undefined) {
    if (type === 'integer') throw refuse(path, 'no number fits between its bounds')
    // Some number is there, and has more digits than are written here.
    if (mode === 'lenient') return type
    throw refuse(
      boundIn(parts, path),
      `cannot be enforced: no number of up to ${MOST_DECIMALS} decimals is within its bounds`,
    )
  }
  const regex = readRegex(pattern, path, (steps) => rules.budget.spendOnAutomata(path, steps))
  return writeRegex(regex, rules) ?? type
}

/** What all numbers are multiples of; undefined where nothing is said of that. */
function stepFor(type: 'number' | 'integer', [first, ...others]: readonly Decimal[]): Decimal | undefined {
  if (first === undefined) return undefined
  const common = others.reduce(leastCommon, first)
  return type === 'integer' ? wholeMultiple(common) : common
}

/** @returns undefined where there are too many to be written one by one, and what they are multiples of is too great */
function multiples(rules: GrammarRules, range: Range, step: Decimal, path: string): string | undefined {
  const { first, last } = stepsWithin(range, step)
  if (first !== undefined && last !== undefined) {
    if (first > last) throw refuse(`${path}.multipleOf`, 'no multiple fits between the bounds')
    const count = Number(last - first) + 1
    if (count <= MOST_WRITTEN_OUT) {
      rules.budget.spend(path, count)
      const all = Array.from({ length: count }, (_, i) => multiple(step, first + BigInt(i)))
      const exact = all.filter(isExact)
      return exact.length > 0 ? oneOf(exact.map((one) => quoted(written(one)))) : undefined
    }
  }
  // A double has not enough digits for more decimals than that and one before the point.
  if (step.scale >= EXACT_DIGITS) return undefined
  if (step.digits * BigInt(step.scale + 1) > BigInt(GREATEST_STEP)) return undefined
  const most = Math.floor(DIGIT_STATES / (Number(step.digits) * (step.scale + 1)))
  const digits = Math.min(EXACT_DIGITS - step.scale, Math.max(LEAST_DIGITS, most))
  const times = (by: bigint): Bound => ({ value: reduced({ ...step, digits: step.digits * by }), open: false })
  const within = { ...(first !== undefined && { min: times(first) }), ...(last !== undefined && { max: times(last) }) }
  const exact = narrowed(within, digits)
  const whole = step.scale === 0 ? wholePattern(wholeWithin(exact)) : numberPattern(exact)
  if (whole === undefined) return undefined
  const spend = (steps: number) => rules.budget.spendOnAutomata(path, steps)
  const bounds = readRegex(whole, path, spend)
  const alphabet = alphabetOf([bounds, ...SIGNS_OF_NUMBERS], spend)
  const dfa = both(dfaOf(bounds, alphabet, spend), multiplesDfa(step, alphabet, spend), spend)
  if (sizeOf(dfa) === 0) return undefined
  rules.budget.spendStates(path, sizeOf(dfa))
  return writeDfa(dfa, alphabet, rules)
}

/** True where the number that is read is the one that is written, or at least its shortest name. */
function isExact(value: Decimal): boolean {
  return isSame(decimalOf(asDouble(value)), value)
}

/** The range with no number of more digits, unless its bounds have as many themselves. */
function narrowed({ min, max }: Range, digits: number): Range {
  const greatest: Bound = { value: { digits: 10n ** BigInt(digits) - 1n, scale: 0 }, open: false }
  const least: Bound = { value: { digits: -greatest.value.digits, scale: 0 }, open: false }
  return {
    min: !min || isLess(min.value, least.value) ? least : min,
    max: !max || isLess(greatest.value, max.value) ? greatest : max,
  }
}

/** The range without bounds that no number here can go beyond; undefined where none can be within. */
function writable({ min, max }: Range): Range | undefined {
  const least = { ...TOO_GREAT, digits: -TOO_GREAT.digits }
  if ((min && !isLess(min.value, TOO_GREAT)) || (max && !isLess(least, max.value))) return undefined
  return {
    ...(min && isLess(least, min.value) && { min }),
    ...(max && isLess(max.value, TOO_GREAT) && { max }),
  }
}

/** Where the first bound stands. */
function boundIn(parts: readonly NumberLimits[], path: string): string {
  const keywords = ['minimum', 'exclusiveMinimum', 'maximum', 'exclusiveMaximum'] as const
  const named = keywords.find((keyword) => parts.some((part) => typeof part[keyword] === 'number'))
  return named === undefined ? path : `${path}.${named}`
}

function rangeOf(parts: readonly NumberLimits[], path: string): Range {
  let min: Bound | undefined
  let max: Bound | undefined
  for (const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } of parts) {
    const low = bound(minimum, exclusiveMinimum === true, `${path}.minimum`)
    const high = bound(maximum, exclusiveMaximum === true, `${path}.maximum`)
    const above =
      typeof exclusiveMinimum === 'boolean' ? undefined : bound(exclusiveMinimum, true, `${path}.exclusiveMinimum`)
    const below =
      typeof exclusiveMaximum === 'boolean' ? undefined : bound(exclusiveMaximum, true, `${path}.exclusiveMaximum`)
    for (const one of [low, above]) if (one && (!min || isTighter(one, min, isLess(min.value, one.value)))) min = one
    for (const one of [high, below]) if (one && (!max || isTighter(one, max, isLess(one.value, max.value)))) max = one
  }
  return { ...(min && { min }), ...(max && { max }) }
}

function bound(value: unknown, open: boolean, path: string): Bound | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'number' || !Number.isFinite(value)) throw refuse(path, 'expected a number')
  return { value: decimalOf(value), open }
}

function stepOf(value: unknown, path: string): Decimal[] {
  if (value === undefined) return []
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw refuse(`${path}.multipleOf`, 'expected a number greater than 0')
  }
  return [reduced(decimalOf(value))]
}

/** @param further whether the bound is further within */
function isTighter(one: Bound, other: Bound, further: boolean): boolean {
  return further || (one.open && !other.open && isSame(one.value, other.value))
}

function isEmpty(min: Bound, max: Bound): boolean {
  return isLess(max.value, min.value) || (isSame(min.value, max.value) && (min.open || max.open))
}

function isLess(a: Decimal, b: Decimal): boolean {
  const [one, other] = atOneScale(a, b)
  return one < other
}

function isSame(a: Decimal, b: Decimal): boolean {
  return !isLess(a, b) && !isLess(b, a)
}
