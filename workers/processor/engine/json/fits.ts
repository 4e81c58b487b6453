import { MeshError } from '../../../../lib/errors/index.js'
import { alphabetOf, searched } from './automaton.js'
import { decimalOf, isMultiple } from './decimal.js'
import { matchesWhole } from './determinise.js'
import { refuse } from './gbnf.js'
import type { NumberLimits } from './numbers.js'
import { readRegex } from './regex.js'
import type { StringLimits } from './strings.js'

/** Steps that matching one text may take. */
const MOST_STEPS = 200_000

/**
 * True where a text has the length and matches the patterns that every part asks for. Neither formats are looked at nor
 * patterns that cannot be followed. A text that takes too many steps does not fit.
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
  let steps = 0
  const spend = (more: number) => {
    steps += more
    if (steps > MOST_STEPS) throw refuse('pattern', `takes more than ${MOST_STEPS} steps`, { limit: MOST_STEPS })
  }
  try {
    const regex = searched(readRegex(pattern, 'pattern', spend))
    return matchesWhole(regex, text, alphabetOf([regex], spend), spend)
  } catch (err) {
    if (err instanceof MeshError) return err.details.limit === undefined
    throw err
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
