import type { Alphabet, Spend } from './alphabet.js'
import type { Bound, Range } from './bounds.js'
import { atOneScale, type Decimal, floorOf, timesIn } from './decimal.js'
import { type Dfa, DfaRows } from './dfa.js'
import type { Regex } from './regex.js'

/** Numbers that are a whole number of times another, digit by digit. */

/** Each sign that numbers are told apart by. */
export const SIGNS_OF_NUMBERS: readonly Regex[] = [...'0123456789-.'].map((sign) => ({
  is: 'signs',
  set: [sign.charCodeAt(0), sign.charCodeAt(0)],
}))

/** The least number that is a multiple of both. */
export function leastCommon(a: Decimal, b: Decimal): Decimal {
  const [one, other, scale] = atOneScale(a, b)
  return reduced({ digits: (one / commonDivisor(one, other)) * other, scale })
}

/** The least whole number that is a multiple. */
export function wholeMultiple(step: Decimal): Decimal {
  return leastCommon(step, { digits: 1n, scale: 0 })
}

function commonDivisor(a: bigint, b: bigint): bigint {
  return b === 0n ? a : commonDivisor(b, a % b)
}

/** The same number with the fewest decimals. */
export function reduced({ digits, scale }: Decimal): Decimal {
  let [shorter, left] = [digits, scale]
  while (left > 0 && shorter % 10n === 0n) {
    shorter /= 10n
    left--
  }
  return { digits: shorter, scale: left }
}

/** Which multiples, counted in steps, are within bounds; undefined where there is no bound. */
export function stepsWithin({ min, max }: Range, step: Decimal): { first?: bigint; last?: bigint } {
  const isOn = ({ value }: Bound) => {
    const [a, b] = atOneScale(value, step)
    return a - floorOf(a, b) * b === 0n
  }
  return {
    ...(min && { first: timesIn(min.value, step) + (isOn(min) && !min.open ? 0n : 1n) }),
    ...(max && { last: timesIn(max.value, step) - (isOn(max) && max.open ? 1n : 0n) }),
  }
}

/** So many times a step. */
export function multiple(step: Decimal, times: bigint): Decimal {
  return reduced({ digits: step.digits * times, scale: step.scale })
}

/**
 * All multiples that have no exponent, as an automaton: what is left over after each digit is its state.
 * @param alphabet made with `SIGNS_OF_NUMBERS`
 */
export function multiplesDfa(step: Decimal, alphabet: Alphabet, spend: Spend): Dfa {
  const rows = new DfaRows(alphabet.size)
  const by = (sign: string) => alphabet.classesOf([sign.charCodeAt(0), sign.charCodeAt(0)])[0] ?? 0
  const digits = Array.from({ length: 10 }, (_, digit) => by(String(digit)))
  const of = Number(step.digits)
  const { scale } = step
  const after = (left: number, digit: number) => (left * 10 + digit) % of
  const isWhole = (left: number, places: number) => {
    let rest = left
    for (let i = 0; i < places; i++) rest = after(rest, 0)
    return rest === 0
  }
  spend(of * (scale + 2) * alphabet.size)
  const start = rows.add(false)
  const signed = rows.add(false)
  const zero = rows.add(true)
  const each = <T>(make: (left: number) => T) => Array.from({ length: of }, (_, left) => make(left))
  const wholes = each((left) => rows.add(isWhole(left, scale)))
  rows.lead(start, by('-'), signed)
  for (const from of [start, signed]) {
    for (const [digit, sign] of digits.entries()) rows.lead(from, sign, digit === 0 ? zero : (wholes[digit % of] ?? 0))
  }
  let before = wholes
  for (const [left, from] of wholes.entries()) {
    for (const [digit, sign] of digits.entries()) rows.lead(from, sign, wholes[after(left, digit)] ?? 0)
  }
  for (let place = 0; place <= scale && scale > 0; place++) {
    const here = each((left) => rows.add(place > 0 && isWhole(left, scale - place)))
    for (const [left, from] of before.entries()) {
      if (place === 0) rows.lead(from, by('.'), here[left] ?? 0)
      else for (const [digit, sign] of digits.entries()) rows.lead(from, sign, here[after(left, digit)] ?? 0)
    }
    if (place === 0) rows.lead(zero, by('.'), here[0] ?? 0)
    before = here
  }
  return rows.dfa()
}
