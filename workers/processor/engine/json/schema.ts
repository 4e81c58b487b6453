import { refuse } from './gbnf.js'

/** Reading schemas: their keywords, and the values these may have. */

export type Schema = Record<string, unknown>

/** Keywords that say nothing about which values fit. */
export const ANNOTATIONS = words(
  '$defs definitions title description default examples example deprecated readOnly writeOnly nullable $schema $id ' +
    '$anchor $comment strict contentEncoding contentMediaType',
)
/** Keywords that are enforced. */
export const CONSTRAINTS = words(
  'type properties required additionalProperties items prefixItems minItems maxItems enum const anyOf oneOf allOf $ref ' +
    'minLength maxLength format pattern minimum maximum exclusiveMinimum exclusiveMaximum',
)

const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null']
const MOST_REPEATS = 2000

function words(text: string): ReadonlySet<string> {
  return new Set(text.split(' '))
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

export function asSchema(value: unknown, path: string): Schema {
  if (!isObject(value)) throw refuse(path, 'expected an object')
  const entries = Object.entries(value)
  // What is set to undefined is not set. What is as it should be stays the same object, by which it is known again.
  return entries.every(([, one]) => one !== undefined)
    ? value
    : Object.fromEntries(entries.filter(([, one]) => one !== undefined))
}

export function asList(value: unknown, path: string): unknown[] {
  if (!Array.isArray(value)) throw refuse(path, 'expected an array')
  return value
}

export function listOf(value: unknown, path: string): unknown[] {
  return value === undefined ? [] : asList(value, path)
}

export function typesOf(schema: Schema, path: string): string[] {
  if (schema.type === undefined) {
    if (schema.properties !== undefined || schema.required !== undefined) return ['object']
    if (schema.items !== undefined || schema.prefixItems !== undefined) return ['array']
    if (['minLength', 'maxLength', 'pattern', 'format'].some((key) => schema[key] !== undefined)) return ['string']
    return TYPES.filter((type) => type !== 'integer')
  }
  const types = Array.isArray(schema.type) ? schema.type : [schema.type]
  const wrong = types.find((type) => !TYPES.includes(type))
  if (types.length === 0 || wrong !== undefined) {
    throw refuse(`${path}.type`, `${JSON.stringify(wrong)} is no type; known are ${TYPES.join(', ')}`)
  }
  return types
}

export function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case 'null':
      return value === null
    case 'array':
      return Array.isArray(value)
    case 'object':
      return isObject(value)
    case 'integer':
      return Number.isInteger(value)
    default:
      return typeof value === type
  }
}

export function count(value: unknown, path: string): number | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0)
    throw refuse(path, 'expected a whole number, 0 or more')
  if (value > MOST_REPEATS) throw refuse(path, `at most ${MOST_REPEATS} can be enforced`)
  return value
}

export function times(what: string, least: number, most: number | undefined): string {
  return least === 0 && most === undefined ? `${what}*` : `${what}{${least},${most ?? ''}}`
}
