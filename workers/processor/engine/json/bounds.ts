import { type Decimal, floorOf, scaledTo, written } from './decimal.js'

/** Numbers within bounds, digit by digit, as regular expressions. */

/** So many digits before the point: more would not be held exactly. */
export const MOST_DIGITS = 16
/** So many digits in all near a bound: numbers of so many keep their order however they are read. */
const EXACT_DIGITS = 15
/** Bounds with more decimals are moved inwards to so many. */
export const MOST_DECIMALS = 20

export interface Bound {
  readonly value: Decimal
  /** True where the number must not be the bound itself. */
  readonly open: boolean
}

export interface Range {
  readonly min?: Bound
  readonly max?: Bound
}

/** A bound as a number of units of its last decimal. */
interface Edge {
  readonly at: bigint
  readonly open: boolean
}

/** The whole numbers from `low` to `high`; undefined: as many digits as there may be. */
export interface Whole {
  readonly low?: bigint
  readonly high?: bigint
}

/** The least and the greatest whole number within the bounds. */
export function wholeWithin({ min, max }: Range): Whole {
  const ceiling = (value: Decimal) => -floorOf(-value.digits, 10n ** BigInt(value.scale))
  return {
    ...(min && { low: min.open ? floorOf(min.value.digits, 10n ** BigInt(min.value.scale)) + 1n : ceiling(min.value) }),
    ...(max && {
      high: max.open ? ceiling(max.value) - 1n : floorOf(max.value.digits, 10n ** BigInt(max.value.scale)),
    }),
  }
}

/** A pattern for whole numbers, without a sign and with one; undefined where there are none. */
export function wholePattern({ low, high }: Whole): string | undefined {
  const choices: string[] = []
  if (high === undefined || high >= 0n) choices.push(...wholes(low === undefined || low < 0n ? 0n : low, high))
  if (low === undefined || low < 0n) {
    const negative = wholes(high === undefined || high >= 0n ? 1n : -high, low === undefined ? undefined : -low)
    if (negative.length > 0) choices.push(`-${oneOf(negative)}`)
  }
  return choices.length > 0 ? oneOf(choices) : undefined
}

/** A pattern for all numbers within the bounds that can be written with so many digits; undefined where there are none. */
export function numberPattern({ min, max }: Range): string | undefined {
  const decimals = Math.min(MOST_DECIMALS, Math.max(min?.value.scale ?? 0, max?.value.scale ?? 0))
  const low = min && inwards(min, decimals, 1n)
  const high = max && inwards(max, decimals, -1n)
  const choices: string[] = []
  if (!high || high.at >= 0n) {
    const from = low && low.at >= 0n ? low : { at: 0n, open: false }
    choices.push(...magnitudes(from, high, decimals))
  }
  if (!low || low.at < 0n) {
    const from = high && high.at < 0n ? mirrored(high) : { at: 0n, open: true }
    const negative = magnitudes(from, low && mirrored(low), decimals)
    if (negative.length > 0) choices.push(`-${oneOf(negative)}`)
  }
  return choices.length > 0 ? oneOf(choices) : undefined
}

function inwards({ value, open }: Bound, decimals: number, direction: bigint): Edge {
  if (value.scale <= decimals) return { at: scaledTo(value, decimals), open }
  const by = 10n ** BigInt(value.scale - decimals)
  const down = floorOf(value.digits, by)
  if (down * by === value.digits) return { at: down, open }
  return { at: direction > 0n ? down + 1n : down, open: false }
}

function mirrored({ at, open }: Edge): Edge {
  return { at: -at, open }
}

/** Numbers without a sign: so many decimals as the bounds have, and then any more, where these stay below the upper one. */
function magnitudes(low: Edge, high: Edge | undefined, decimals: number): string[] {
  const to = high?.at
  const most = to !== undefined && to > low.at ? to : low.at
  const more = Math.max(0, EXACT_DIGITS - Math.max(String(most).length, decimals + 1))
  const tail = more === 0 ? '' : decimals === 0 ? `(?:[.]\\d{1,${more}})?` : `\\d{0,${more}}`
  const choices: string[] = []
  if (low.open && more > 0 && (to === undefined || low.at < to)) {
    choices.push(`${pointed(low.at, decimals)}${decimals === 0 ? '[.]' : ''}\\d{0,${more - 1}}[1-9]`)
  }
  // As well with fewer decimals: nobody writes 3.0 for 3.
  for (let fewer = 0; fewer < decimals; fewer++) {
    const by = 10n ** BigInt(decimals - fewer)
    const from = floorOf(low.open ? low.at : low.at - 1n, by) + 1n
    const last = high && floorOf(high.open ? high.at - 1n : high.at, by)
    choices.push(...scaled(from, last, fewer))
  }
  for (const whole of scaled(low.open ? low.at + 1n : low.at, to === undefined ? undefined : to - 1n, decimals)) {
    choices.push(`${whole}${tail}`)
  }
  if (high && to !== undefined && !high.open && (to > low.at || (to === low.at && !low.open))) {
    choices.push(pointed(to, decimals))
  }
  return choices
}

/** Whole numbers from `low`, 0 or more, to `high`. */
function wholes(low: bigint, high: bigint | undefined): string[] {
  return scaled(low, high, 0)
}

/** Numbers with exactly so many decimals, given and bounded as multiples of the last one. */
function scaled(low: bigint, high: bigint | undefined, decimals: number): string[] {
  const choices: string[] = []
  const first = Math.max(String(low).length, decimals + 1)
  const last = high === undefined ? first : String(high).length
  for (let digits = first; digits <= Math.max(last, first); digits++) {
    const least = digits === decimals + 1 ? 0n : 10n ** BigInt(digits - 1)
    const greatest = 10n ** BigInt(digits) - 1n
    const from = low > least ? low : least
    const to = high !== undefined && high < greatest ? high : greatest
    if (from <= to) choices.push(between(plain(from, decimals), plain(to, decimals)))
  }
  const whole = first - decimals
  if (high === undefined && whole < MOST_DIGITS) {
    choices.push(`[1-9]\\d{${whole},${MOST_DIGITS - 1}}${decimals > 0 ? `[.]\\d{${decimals}}` : ''}`)
  }
  return choices
}

function plain(digits: bigint, scale: number): string {
  return written({ digits, scale })
}

function pointed(digits: bigint, scale: number): string {
  return plain(digits, scale).replace('.', '[.]')
}

/** All texts of digits from one to another of the same length, with the point, if any, in the same place. */
function between(low: string, high: string): string {
  if (low === high) return low.replace('.', '[.]')
  let same = 0
  while (low[same] === high[same]) same++
  const before = low.slice(0, same).replace('.', '[.]')
  const [a, b] = [Number(low[same]), Number(high[same])]
  const [lowRest, highRest] = [low.slice(same + 1), high.slice(same + 1)]
  const choices: string[] = []
  const lowest = /^[0.]*$/.test(lowRest)
  const highest = /^[9.]*$/.test(highRest)
  if (!lowest) choices.push(`${a}${between(lowRest, lowRest.replace(/\d/g, '9'))}`)
  const from = lowest ? a : a + 1
  const to = highest ? b : b - 1
  if (from <= to) choices.push(`${from === to ? from : `[${from}-${to}]`}${anyDigits(lowRest)}`)
  if (!highest) choices.push(`${b}${between(highRest.replace(/\d/g, '0'), highRest)}`)
  return before + oneOf(choices)
}

/** Any digits in the places of these. */
function anyDigits(shape: string): string {
  return shape
    .split('.')
    .map((part) => (part === '' ? '' : `\\d{${part.length}}`))
    .join('[.]')
}

function oneOf(choices: readonly string[]): string {
  return choices.length === 1 ? choices.join('') : `(?:${choices.join('|')})`
}
