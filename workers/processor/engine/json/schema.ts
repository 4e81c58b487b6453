import { refuse } from './gbnf.js'

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

const SCHEMA = 'a schema'
const SCHEMAS = 'a list of schemas'
const CHOICES = 'a list of schemas, not an empty one'
const NAMED = 'schemas by name'
const ITEMS = 'a schema, or a list of schemas'
const DEPENDENCIES = 'lists of names, or schemas, by name'
const COUNT = 'a whole number, 0 or more'
const NUMBER = 'a number'
const POSITIVE = 'a number above 0'
const TEXT = 'a text'
const TEXTS = 'a list of texts'
const NAMED_TEXTS = 'lists of names by name'
const FLAG = 'true or false'
const VALUES = 'a list of values, not an empty one'
const KINDS = 'a type, or a list of types'
const ANY = 'any value'

/** What each keyword that asserts something has to be. All other keywords are annotations. */
const FORMS: ReadonlyMap<string, string> = new Map([
  ['type', KINDS],
  ['const', ANY],
  ['enum', VALUES],
  ['$ref', TEXT],
  ['$dynamicRef', TEXT],
  ['allOf', SCHEMAS],
  ['anyOf', CHOICES],
  ['oneOf', CHOICES],
  ['not', SCHEMA],
  ['if', SCHEMA],
  ['then', SCHEMA],
  ['else', SCHEMA],
  ['dependentSchemas', NAMED],
  ['dependentRequired', NAMED_TEXTS],
  ['dependencies', DEPENDENCIES],
  ['properties', NAMED],
  ['patternProperties', NAMED],
  ['additionalProperties', SCHEMA],
  ['propertyNames', SCHEMA],
  ['unevaluatedProperties', SCHEMA],
  ['required', TEXTS],
  ['minProperties', COUNT],
  ['maxProperties', COUNT],
  ['items', ITEMS],
  ['prefixItems', SCHEMAS],
  ['additionalItems', SCHEMA],
  ['unevaluatedItems', SCHEMA],
  ['contains', SCHEMA],
  ['minContains', COUNT],
  ['maxContains', COUNT],
  ['minItems', COUNT],
  ['maxItems', COUNT],
  ['uniqueItems', FLAG],
  ['minLength', COUNT],
  ['maxLength', COUNT],
  ['pattern', TEXT],
  ['format', TEXT],
  ['minimum', NUMBER],
  ['maximum', NUMBER],
  ['exclusiveMinimum', NUMBER],
  ['exclusiveMaximum', NUMBER],
  ['multipleOf', POSITIVE],
])

/** Keywords that apply their schemas to the same value, and not to what it holds. */
const IN_PLACE = new Set(['allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', 'dependentSchemas', 'dependencies'])

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

/** True where the keyword says something about which values fit. */
export function isAssertion(keyword: string): boolean {
  return FORMS.has(keyword)
}

/** The keywords of a schema that say something about which values fit. */
export function assertionsOf(schema: Schema): string[] {
  return Object.keys(schema).filter((key) => FORMS.has(key) && schema[key] !== undefined)
}

/** @throws MeshError BAD_REQUEST where a keyword has a value that JSON Schema does not give it */
export function checkForms(schema: Schema, path: string): void {
  for (const [key, value] of Object.entries(schema)) {
    const form = FORMS.get(key)
    if (form === undefined || value === undefined || hasForm(value, form)) continue
    if (form === KINDS) {
      const wrong = [value].flat().find((type) => !TYPES.some((one) => one === type))
      throw refuse(`${path}.type`, `${JSON.stringify(wrong)} is no type; known are ${TYPES.join(', ')}`)
    }
    throw refuse(`${path}.${key}`, `expected ${form}`)
  }
}

function hasForm(value: unknown, form: string): boolean {
  switch (form) {
    case SCHEMA:
      return isSchema(value)
    case SCHEMAS:
      return isListOf(value, isSchema)
    case CHOICES:
      return isListOf(value, isSchema) && value.length > 0
    case NAMED:
      return isObject(value) && Object.values(value).every(isSchema)
    case ITEMS:
      return isSchema(value) || isListOf(value, isSchema)
    case DEPENDENCIES:
      return isObject(value) && Object.values(value).every((one) => isSchema(one) || isListOf(one, isText))
    case COUNT:
      return Number.isInteger(value) && Number(value) >= 0
    case NUMBER:
      return typeof value === 'number' && Number.isFinite(value)
    case POSITIVE:
      return typeof value === 'number' && Number.isFinite(value) && value > 0
    case TEXT:
      return isText(value)
    case TEXTS:
      return isListOf(value, isText)
    case NAMED_TEXTS:
      return isObject(value) && Object.values(value).every((one) => isListOf(one, isText))
    case FLAG:
      return typeof value === 'boolean'
    case VALUES:
      return Array.isArray(value) && value.length > 0
    case KINDS:
      return isListOf([value].flat(), (one) => TYPES.some((type) => type === one)) && [value].flat().length > 0
    default:
      return true
  }
}

/** A part of a schema that is a schema itself. */
export interface Subschema {
  readonly given: unknown
  readonly path: string
  readonly keyword: string
  /** True where it applies to the same value. */
  readonly inPlace: boolean
}

/** All schemas that stand in one, without those that it only refers to. */
export function* subschemas(schema: Schema, path: string): Generator<Subschema> {
  for (const [keyword, value] of Object.entries(schema)) {
    const inPlace = IN_PLACE.has(keyword)
    const at = `${path}.${keyword}`
    switch (FORMS.get(keyword)) {
      case SCHEMA:
      case SCHEMAS:
      case CHOICES:
      case ITEMS:
        if (!Array.isArray(value)) yield { given: value, path: at, keyword, inPlace }
        else for (const [i, given] of value.entries()) yield { given, path: `${at}[${i}]`, keyword, inPlace }
        break
      case NAMED:
      case DEPENDENCIES:
        for (const [name, given] of Object.entries(value ?? {}))
          yield { given, path: `${at}.${name}`, keyword, inPlace }
        break
    }
  }
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

function isSchema(value: unknown): boolean {
  return isObject(value) || typeof value === 'boolean'
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isListOf<T>(value: unknown, is: (one: unknown) => boolean): value is T[] {
  return Array.isArray(value) && value.every(is)
}

const MOST_REPEATS = 2000

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
