import { type Bound, MOST_DECIMALS, type Range } from './bounds.js'
import { type Decimal, decimalOf, scaledTo } from './decimal.js'

/** What is written is read as the double that is nearest, so bounds have to hold for that one. */

/**
 * The same numbers, where what is written just beyond an open bound would be read as the bound itself: then that bound is the
 * next double, and closed. A decimal that is not beyond a double's own is never read as one beyond it.
 * @param range within 10^16
 * @param step what numbers are multiples of
 */
export function asRead({ min, max }: Range, step: Decimal | undefined): Range {
  const scales = [min, max].map((one) => one?.value.scale ?? 0)
  const finest = Math.max(Math.min(MOST_DECIMALS, Math.max(...scales)), step?.scale ?? 0)
  return { ...(min && { min: closed(min, finest, 1) }), ...(max && { max: closed(max, finest, -1) }) }
}

/** The double that a decimal is read as. */
export function asDouble({ digits, scale }: Decimal): number {
  return Number(`${digits}e-${scale}`)
}

function closed(bound: Bound, finest: number, direction: 1 | -1): Bound {
  const { value, open } = bound
  if (!open || value.scale > finest) return bound
  const next = { digits: scaledTo(value, finest) + BigInt(direction), scale: finest }
  const at = asDouble(value)
  return asDouble(next) === at ? { value: decimalOf(neighbour(at, direction)), open: false } : bound
}

/** The next double above, or below; for numbers that are not 0. */
function neighbour(value: number, direction: 1 | -1): number {
  const double = new Float64Array([value])
  const bits = new BigInt64Array(double.buffer)
  bits[0] = (bits[0] ?? 0n) + BigInt(value > 0 ? direction : -direction)
  return double[0] ?? value
}
