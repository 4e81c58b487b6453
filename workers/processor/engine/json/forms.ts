import { refuse } from './gbnf.js'
import { isObject, isText, type Schema, TYPES } from './schema.js'

/** What the keywords of a schema have to be, and which of them hold schemas. */

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

function isSchema(value: unknown): boolean {
  return isObject(value) || typeof value === 'boolean'
}

function isListOf<T>(value: unknown, is: (one: unknown) => boolean): value is T[] {
  return Array.isArray(value) && value.every(is)
}
