import { refuse } from './gbnf.js'
import { patternToGbnf } from './pattern.js'
import { FORMATS } from './rules.js'
import { count, type Schema, times } from './schema.js'

/** The expression for the strings of a schema. @throws MeshError BAD_REQUEST */
export function stringOf(schema: Schema, path: string): string {
  const sized = schema.minLength !== undefined || schema.maxLength !== undefined
  const said = ['format', 'pattern'].filter((key) => schema[key] !== undefined)
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
