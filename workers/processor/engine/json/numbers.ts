import { oneOf, quoted, refuse } from './gbnf.js'
import type { EnforceMode } from './mode.js'
import type { GrammarRules } from './rules.js'

/** Numbers within bounds, digit by digit. */

/** So many digits before the point, as many as a double holds exactly. */
const MOST_DIGITS = 16
/** So many digits after the point, beyond those of the bounds. */
const MOST_TAIL = 16

interface Bound {
  value: number
  /** True where the number must not be the bound itself. */
  open: boolean
}

interface Range {
  min?: Bound
  max?: Bound
}

/** What one schema says of a number, as it stands there. */
export interface NumberLimits {
  readonly minimum?: unknown
  readonly maximum?: unknown
  readonly exclusiveMinimum?: unknown
  readonly exclusiveMaximum?: unknown
  readonly multipleOf?: unknown
}

/**
 * The expression for the numbers that satisfy every part.
 * @param path where in the request the schema stands, for errors
 * @throws MeshError BAD_REQUEST where no number fits, or it costs too much; in strict mode where a part cannot be enforced
 */
export function numberOf(
  _rules: GrammarRules,
  type: 'number' | 'integer',
  parts: readonly NumberLimits[],
  path: string,
  _mode: EnforceMode,
): string {
  const all = parts.map((part) => ({ ...part }))
  const schema: Record<string, unknown> = Object.assign({}, ...all)
  const range: Range = {
    min: tighter(bound(schema, 'minimum', path), bound(schema, 'exclusiveMinimum', path), Math.max),
    max: tighter(bound(schema, 'maximum', path), bound(schema, 'exclusiveMaximum', path), Math.min),
  }
  if (!range.min && !range.max) return type
  const decimals = type === 'integer' ? 0 : Math.max(decimalsOf(range.min, path), decimalsOf(range.max, path))
  const choices = type === 'integer' ? integers(range) : decimalNumbers(range, decimals)
  if (choices.length === 0) throw refuse(path, 'no number fits between its bounds')
  return oneOf(choices)
}

function bound(schema: Readonly<Record<string, unknown>>, key: string, path: string): Bound | undefined {
  const value = schema[key]
  if (value === undefined) return undefined
  if (typeof value !== 'number' || Math.abs(value) > Number.MAX_SAFE_INTEGER) {
    throw refuse(`${path}.${key}`, `expected a number of at most ${Number.MAX_SAFE_INTEGER}`)
  }
  return { value, open: key.startsWith('exclusive') }
}

function tighter(a: Bound | undefined, b: Bound | undefined, pick: (a: number, b: number) => number) {
  if (!a || !b) return a ?? b
  if (a.value === b.value) return { value: a.value, open: true }
  return pick(a.value, b.value) === a.value ? a : b
}

function decimalsOf(one: Bound | undefined, path: string): number {
  const text = String(one?.value ?? 0)
  if (text.includes('e')) throw refuse(path, `the bound ${text} has too many digits to be enforced`)
  return text.split('.')[1]?.length ?? 0
}

/** Without a sign and with one. */
function integers({ min, max }: Range): string[] {
  const low = min && (min.open ? Math.floor(min.value) + 1 : Math.ceil(min.value))
  const high = max && (max.open ? Math.ceil(max.value) - 1 : Math.floor(max.value))
  const choices: string[] = []
  if (high === undefined || high >= 0) choices.push(...wholes(Math.max(0, low ?? 0), high))
  if (low === undefined || low < 0) {
    const negative = wholes(Math.max(1, -(high ?? 0)), low === undefined ? undefined : -low)
    if (negative.length > 0) choices.push(`"-" ${oneOf(negative)}`)
  }
  return choices
}

/** Whole numbers from `low`, 0 or more, to `high`. */
function wholes(low: number, high: number | undefined): string[] {
  const choices: string[] = []
  const last = high === undefined ? String(low).length : String(high).length
  for (let length = String(low).length; length <= last; length++) {
    const from = Math.max(low, length === 1 ? 0 : 10 ** (length - 1))
    const to = Math.min(high ?? Number.POSITIVE_INFINITY, 10 ** length - 1)
    if (from <= to) choices.push(between(String(from), String(to)))
  }
  if (high === undefined && last < MOST_DIGITS) choices.push(`[1-9] [0-9]{${last},${MOST_DIGITS - 1}}`)
  return choices
}

function decimalNumbers({ min, max }: Range, decimals: number): string[] {
  const choices: string[] = []
  const zero: Bound = { value: 0, open: false }
  if (!max || max.value >= 0) choices.push(...magnitudes(min && min.value > 0 ? min : positiveZero(min), max, decimals))
  if (!min || min.value < 0) {
    const low = max && max.value < 0 ? mirrored(max) : { ...zero, open: true }
    const negative = magnitudes(low, min && mirrored(min), decimals)
    if (negative.length > 0) choices.push(`"-" ${oneOf(negative)}`)
  }
  return choices
}

function positiveZero(min: Bound | undefined): Bound {
  return { value: 0, open: min?.value === 0 && min.open }
}

function mirrored({ value, open }: Bound): Bound {
  return { value: -value, open }
}

/** Numbers without a sign: so many decimals as the bounds have, and then any more, where these stay below the upper one. */
function magnitudes(low: Bound, high: Bound | undefined, decimals: number): string[] {
  const scale = 10 ** decimals
  const from = Math.round(low.value * scale)
  const to = high && Math.round(high.value * scale)
  const tail = decimals === 0 ? `("." [0-9]{1,${MOST_TAIL}})?` : `[0-9]{0,${MOST_TAIL}}`
  const choices: string[] = []
  if (low.open && (to === undefined || from < to)) {
    const more = `[0-9]{0,${MOST_TAIL - 1}} [1-9]`
    choices.push(`${quoted(pointed(from, decimals))} ${decimals === 0 ? '"." ' : ''}${more}`)
  }
  for (const whole of scaled(low.open ? from + 1 : from, to === undefined ? undefined : to - 1, decimals)) {
    choices.push(`${whole} ${tail}`)
  }
  if (high && to !== undefined && !high.open && (to > from || (to === from && !low.open))) {
    choices.push(quoted(pointed(to, decimals)))
  }
  return choices
}

/** Numbers with exactly so many decimals, given and bounded as multiples of the last one. */
function scaled(low: number, high: number | undefined, decimals: number): string[] {
  if (high !== undefined && high < low) return []
  if (decimals === 0) return wholes(low, high)
  const choices: string[] = []
  const last = high === undefined ? pointed(low, decimals).length : pointed(high, decimals).length
  for (let length = pointed(low, decimals).length; length <= last; length++) {
    const digits = length - 1
    const from = Math.max(low, digits === decimals + 1 ? 0 : 10 ** (digits - 1))
    const to = Math.min(high ?? Number.POSITIVE_INFINITY, 10 ** digits - 1)
    if (from <= to) choices.push(between(pointed(from, decimals), pointed(to, decimals)))
  }
  const whole = last - 1 - decimals
  if (high === undefined && whole < MOST_DIGITS) {
    choices.push(`[1-9] [0-9]{${whole},${MOST_DIGITS - 1}} "." [0-9]{${decimals}}`)
  }
  return choices
}

function pointed(value: number, decimals: number): string {
  if (decimals === 0) return String(value)
  const digits = String(value).padStart(decimals + 1, '0')
  return `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`
}

/** All texts of digits from one to another of the same length, with the point, if any, in the same place. */
function between(low: string, high: string): string {
  if (low === high) return quoted(low)
  let same = 0
  while (low[same] === high[same]) same++
  const parts = same > 0 ? [quoted(low.slice(0, same))] : []
  const [a, b] = [Number(low[same]), Number(high[same])]
  const [lowRest, highRest] = [low.slice(same + 1), high.slice(same + 1)]
  const choices: string[] = []
  const lowest = /^[0.]*$/.test(lowRest)
  const highest = /^[9.]*$/.test(highRest)
  if (!lowest) choices.push(`"${a}" ${between(lowRest, lowRest.replace(/\d/g, '9'))}`)
  const from = lowest ? a : a + 1
  const to = highest ? b : b - 1
  if (from <= to) choices.push([from === to ? `"${from}"` : `[${from}-${to}]`, ...anyDigits(lowRest)].join(' '))
  if (!highest) choices.push(`"${b}" ${between(highRest.replace(/\d/g, '0'), highRest)}`)
  return [...parts, oneOf(choices)].join(' ')
}

/** Any digits in the places of these. */
function anyDigits(shape: string): string[] {
  return shape.split(/(\.)/).flatMap((part) => (part === '' ? [] : part === '.' ? ['"."'] : [`[0-9]{${part.length}}`]))
}
