import { numberIn, type Part, type Type } from './schema.js'

/** True where it is clear from their bounds that no strings or numbers fit all of these; else it may still be so. */
export function noneFits(type: Type, atoms: readonly Part[]): boolean {
  const all = (keyword: string) =>
    atoms.map(({ schema }) => numberIn(schema, keyword)).filter((one) => one !== undefined)
  if (type === 'string') return Math.max(0, ...all('minLength')) > Math.min(...all('maxLength'))
  const low = Math.max(...all('minimum'))
  const high = Math.min(...all('maximum'))
  const above = Math.max(...all('exclusiveMinimum'))
  const below = Math.min(...all('exclusiveMaximum'))
  if (low > high || low >= below || above >= high || above >= below) return true
  if (type !== 'integer') return false
  const first = Math.max(Math.ceil(low), Math.floor(above) + 1)
  const last = Math.min(Math.floor(high), Math.ceil(below) - 1)
  return first > last
}
