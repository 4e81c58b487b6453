import { refuse } from './gbnf.js'
import type { EnforceMode } from './mode.js'
import { patternToGbnf } from './pattern.js'
import { FORMATS, type GrammarRules } from './rules.js'
import { count, times } from './schema.js'

/** What one schema says of a string, as it stands there. */
export interface StringLimits {
  /** A regular expression, or several that all have to match. */
  readonly pattern?: unknown
  readonly format?: unknown
  /** Code points. */
  readonly minLength?: unknown
  readonly maxLength?: unknown
}

/**
 * The expression for the JSON strings that satisfy every part.
 * @param path where in the request the schema stands, for errors
 * @throws MeshError BAD_REQUEST where no string fits, or it costs too much; in strict mode where a part cannot be enforced
 */
export function stringOf(
  _rules: GrammarRules,
  parts: readonly StringLimits[],
  path: string,
  _mode: EnforceMode,
): string {
  const all = parts.map((part) => ({ ...part }))
  const schema: StringLimits = Object.assign({}, ...all)
  const sized = schema.minLength !== undefined || schema.maxLength !== undefined
  const said = (['format', 'pattern'] as const).filter((key) => schema[key] !== undefined)
  if (said.length + (sized ? 1 : 0) > 1) {
    throw refuse(`${path}.${said[0]}`, 'cannot be enforced beside another limit on the same string')
  }
  if (schema.pattern !== undefined) {
    if (typeof schema.pattern !== 'string') throw refuse(`${path}.pattern`, 'expected a string')
    return String.raw`"\"" ${patternToGbnf(schema.pattern, `${path}.pattern`)} "\""`
  }
  if (schema.format !== undefined) {
    const format = Object.hasOwn(FORMATS, String(schema.format)) ? FORMATS[String(schema.format)] : undefined
    if (!format) throw refuse(`${path}.format`, `cannot be enforced; known are ${Object.keys(FORMATS).join(', ')}`)
    return String.raw`"\"" ${format} "\""`
  }
  const least = count(schema.minLength, `${path}.minLength`) ?? 0
  const most = count(schema.maxLength, `${path}.maxLength`)
  if (most !== undefined && most < least) throw refuse(`${path}.maxLength`, 'is less than minLength')
  const chars = times('char', least, most)
  return chars === 'char*' ? 'string' : String.raw`"\"" ${chars} "\""`
}
