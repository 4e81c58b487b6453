/** Reading schemas: their keywords, and the values these may have. */

export type Schema = Record<string, unknown>

/** A schema that applies to a value, beside others. */
export interface Part {
  readonly schema: Schema
  readonly path: string
  /** Schemas that look at what others left unevaluated, and of which this is a part that applies in place. */
  readonly owners?: readonly Schema[]
  /** Texts that a string may not be. */
  readonly excluded?: ReadonlySet<string>
}

/** Fits nothing. */
export const NEVER: Schema = Object.freeze({ not: Object.freeze({}) })
/** Fits everything. */
export const ANYTHING: Schema = Object.freeze({})

export const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const
export type Type = (typeof TYPES)[number]

/** Keywords that only look at values of one type. */
export const KEYWORDS_OF: Readonly<Record<'object' | 'array' | 'string' | 'number', readonly string[]>> = {
  object: [
    'properties',
    'patternProperties',
    'additionalProperties',
    'propertyNames',
    'unevaluatedProperties',
    'required',
    'minProperties',
    'maxProperties',
    'dependentSchemas',
    'dependentRequired',
    'dependencies',
  ],
  array: [
    'items',
    'prefixItems',
    'additionalItems',
    'unevaluatedItems',
    'contains',
    'minContains',
    'maxContains',
    'minItems',
    'maxItems',
    'uniqueItems',
  ],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

/** A schema as a part of what applies; `true` and `false` are schemas, too. */
export function partOf(given: unknown, path: string): Part {
  return { schema: isObject(given) ? given : given === false ? NEVER : ANYTHING, path }
}

/** The schemas of a list or a single one, as parts. */
export function partsOf(given: unknown, path: string): Part[] {
  return listOf(given).map((one, i) => partOf(one, `${path}[${i}]`))
}

/** The entry of an object that a keyword holds; undefined where there is none. */
export function entryOf(schema: Schema, keyword: string, name: string): unknown {
  const entries = schema[keyword]
  return isObject(entries) && Object.hasOwn(entries, name) ? entries[name] : undefined
}

export function entriesOf(schema: Schema, keyword: string): [string, unknown][] {
  const entries = schema[keyword]
  return isObject(entries) ? Object.entries(entries) : []
}

export function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

export function textsOf(value: unknown): string[] {
  return listOf(value).filter(isText)
}

export function numberIn(schema: Schema, keyword: string): number | undefined {
  const value = schema[keyword]
  return typeof value === 'number' ? value : undefined
}

/** The types that a schema names; undefined where it names none. */
export function namedTypes({ type }: Schema): Type[] | undefined {
  if (type === undefined) return undefined
  const named = [type].flat()
  return TYPES.filter((one) => named.includes(one))
}

/** The type of a JSON value; that of a whole number is integer. */
export function typeOf(value: unknown): Type {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value === 'string' ? 'string' : typeof value === 'boolean' ? 'boolean' : 'object'
}

/** True where values of a type are among these. */
export function includesType(types: readonly Type[], type: Type): boolean {
  return types.includes(type) || (type === 'integer' && types.includes('number'))
}

/** A value as text that is the same for all that JSON Schema calls equal. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`
  if (!isObject(value)) return JSON.stringify(value)
  const names = Object.keys(value).sort()
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join()}}`
}

export function isText(value: unknown): value is string {
  return typeof value === 'string'
}

export function times(what: string, least: number, most: number | undefined): string {
  return least === 0 && most === undefined ? `${what}*` : `${what}{${least},${most ?? ''}}`
}
