import { type Derived, record } from './expand.js'
import { assertionsOf } from './forms.js'
import {
  entriesOf,
  includesType,
  KEYWORDS_OF,
  listOf,
  NEVER,
  namedTypes,
  numberIn,
  type Part,
  partOf,
  partsOf,
  type Schema,
  type Type,
  textsOf,
  typeOf,
} from './schema.js'
import type { Source } from './source.js'
import { firstItems } from './validate.js'

/** Texts, and numbers, that are left out one by one, at most. */
const MOST_TEXTS = 1000
const MOST_NUMBERS = 16
/** Opposites of which some could not be found. */
const INCOMPLETE = new WeakSet<readonly (readonly Part[])[]>()

/**
 * What values of a type that do not fit a schema are like: some ways, and on each what applies together. There may be more
 * such values; where there may be and no way could be found, undefined.
 */
export function opposites(
  part: Part,
  type: Type,
  source: Source,
  derived: Derived,
): readonly (readonly Part[])[] | undefined {
  const { schema, path } = part
  if (schema === NEVER) return [[]]
  const ways: (readonly Part[])[] = []
  let isMissing = false
  const say = (label: string, make: () => Schema) => derived.part(part, label, make)
  const not = (one: Part, label: string) => say(`not ${label}`, () => ({ not: one.schema }))
  const add = (...parts: readonly Part[]) => ways.push(parts)
  const types = namedTypes(schema)
  if (types !== undefined && !includesType(types, type)) {
    if (type !== 'number' || !types.includes('integer')) return [[]]
    isMissing = true
  }
  const named =
    schema.const !== undefined ? [schema.const] : schema.enum !== undefined ? listOf(schema.enum) : undefined
  if (named !== undefined) {
    const values = named.filter((one) => includesType([type], typeOf(one)))
    const others = otherValues(part, type, values, derived)
    if (values.length === 0) return [[]]
    if (others === undefined) isMissing = true
    else ways.push(...others)
  }
  const target = source.target(schema)
  if (target !== undefined) add(not(target, '$ref'))
  for (const [i, one] of partsOf(schema.allOf, path).entries()) add(not(one, `allOf ${i}`))
  if (schema.anyOf !== undefined) add(...partsOf(schema.anyOf, path).map((one, i) => not(one, `anyOf ${i}`)))
  if (schema.oneOf !== undefined) add(...partsOf(schema.oneOf, path).map((one, i) => not(one, `oneOf ${i}`)))
  if (schema.not !== undefined) add(partOf(schema.not, `${path}.not`))
  if (schema.if !== undefined) {
    const condition = partOf(schema.if, `${path}.if`)
    if (schema.then !== undefined) add(condition, not(partOf(schema.then, path), 'then'))
    if (schema.else !== undefined) add(not(condition, 'if'), not(partOf(schema.else, path), 'else'))
  }
  for (const key of keywordsFor(type)) {
    if (schema[key] === undefined) continue
    const size = numberIn(schema, key) ?? 0
    switch (key) {
      case 'minLength':
      case 'minItems':
      case 'minProperties':
        if (size > 0) add(say(key, () => ({ [key.replace('min', 'max')]: size - 1 })))
        break
      case 'maxLength':
      case 'maxItems':
      case 'maxProperties':
        add(say(key, () => ({ [key.replace('max', 'min')]: size + 1 })))
        break
      case 'minimum':
        add(say(key, () => ({ exclusiveMaximum: size })))
        break
      case 'maximum':
        add(say(key, () => ({ exclusiveMinimum: size })))
        break
      case 'exclusiveMinimum':
        add(say(key, () => ({ maximum: size })))
        break
      case 'exclusiveMaximum':
        add(say(key, () => ({ minimum: size })))
        break
      case 'required':
        for (const name of textsOf(schema.required))
          add(say(`without ${name}`, () => ({ properties: record(name, false) })))
        break
      case 'properties':
        for (const [name, one] of entriesOf(schema, key)) {
          if (one === true) continue
          const other = not(partOf(one, path), `properties ${name}`).schema
          add(say(`other ${name}`, () => ({ required: [name], properties: record(name, other) })))
        }
        break
      case 'dependentRequired':
        for (const [name, needed] of entriesOf(schema, key)) {
          for (const one of textsOf(needed)) {
            add(say(`${name} without ${one}`, () => ({ required: [name], properties: record(one, false) })))
          }
        }
        break
      case 'dependentSchemas':
        for (const [name, one] of entriesOf(schema, key)) {
          add(
            say(`with ${name}`, () => ({ required: [name] })),
            not(partOf(one, path), `${key} ${name}`),
          )
        }
        break
      case 'items':
        if (firstItems(schema) > 0) isMissing = true
        else add(say(key, () => ({ contains: not(partOf(schema.items, path), key).schema })))
        break
      case 'contains':
        if ((numberIn(schema, 'minContains') ?? 1) > 0) {
          add(say(key, () => ({ items: not(partOf(schema.contains, path), key).schema })))
        }
        break
      case 'minContains':
        break
      default:
        if (schema[key] !== true || key === 'uniqueItems') isMissing = true
    }
  }
  if (ways.length === 0) return isMissing ? undefined : ways
  if (isMissing) INCOMPLETE.add(ways)
  return ways
}

/** True where there may be more opposites than these, so that nothing is said where none of them fits. */
export function isIncomplete(ways: readonly (readonly Part[])[]): boolean {
  return INCOMPLETE.has(ways)
}

function keywordsFor(type: Type): readonly string[] {
  if (type === 'integer') return KEYWORDS_OF.number
  return type === 'object' || type === 'array' || type === 'string' || type === 'number' ? KEYWORDS_OF[type] : []
}

/** All values of a type but these, of which there is one or more; undefined where that cannot be said. */
function otherValues(
  part: Part,
  type: Type,
  values: unknown[],
  derived: Derived,
): readonly (readonly Part[])[] | undefined {
  switch (type) {
    case 'null':
      return []
    case 'boolean': {
      const others = [true, false].filter((one) => !values.includes(one))
      return others.map((one) => [derived.part(part, `only ${one}`, () => ({ const: one }))])
    }
    case 'string':
      if (values.length > MOST_TEXTS) return undefined
      return [[derived.part(part, 'other texts', () => ({}), new Set(values.map(String)))]]
    case 'number':
    case 'integer': {
      if (values.length > MOST_NUMBERS) return undefined
      const sorted = [...new Set(values.map(Number))].sort((a, b) => a - b)
      return [undefined, ...sorted].map((low, i) => [
        derived.part(part, `numbers from ${low}`, () => ({
          ...(low !== undefined && { exclusiveMinimum: low }),
          ...(sorted[i] !== undefined && { exclusiveMaximum: sorted[i] }),
        })),
      ])
    }
    default:
      return undefined
  }
}

/** True where a way is open without anything more to apply. */
export function isAlways(ways: readonly (readonly Part[])[] | undefined): boolean {
  return ways?.some((parts) => parts.length === 0) ?? false
}

/** True where a schema asserts nothing. */
export function isEverything({ schema }: Part): boolean {
  return assertionsOf(schema).length === 0
}
