import { decimalOf, isMultiple } from './decimal.js'
import type { NumberLimits } from './numbers.js'
import type { StringLimits } from './strings.js'

/**
 * True where a text has the length and matches the patterns that every part asks for. Formats are not looked at, nor is
 * what is malformed.
 */
export function stringFits(text: string, parts: readonly StringLimits[]): boolean {
  return parts.every(({ pattern, minLength, maxLength }) => {
    const length = [...text].length
    if (typeof minLength === 'number' && length < minLength) return false
    if (typeof maxLength === 'number' && length > maxLength) return false
    return [pattern].flat().every((one) => typeof one !== 'string' || matches(text, one))
  })
}

function matches(text: string, pattern: string): boolean {
  try {
    return new RegExp(pattern, 'u').test(text)
  } catch {
    return true
  }
}

/** True where a number is within the bounds and a multiple of what every part asks for, exactly. */
export function numberFits(value: number, parts: readonly NumberLimits[]): boolean {
  const exact = decimalOf(value)
  return parts.every(({ minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf }) => {
    if (typeof minimum === 'number' && value < minimum) return false
    if (typeof maximum === 'number' && value > maximum) return false
    if (typeof exclusiveMinimum === 'number' && value <= exclusiveMinimum) return false
    if (typeof exclusiveMaximum === 'number' && value >= exclusiveMaximum) return false
    return typeof multipleOf !== 'number' || multipleOf <= 0 || isMultiple(exact, decimalOf(multipleOf))
  })
}
