import type { Dice } from './dice.js'

/** Schemas by a seed: all keywords, within each other and beside each other. */

export type Schema = Record<string, unknown>

/** Without those that the validator reads wrongly: the empty name, one with a backslash, and `constructor` in values. */
const NAMES = ['a', 'b', 'c', 'ab', 'ä', '"', '漢字', '🦊', 'isPrototypeOf', 'x y', '$ref', 'a/b', 'a~b', '\n', '%41']
const TEXTS = [...NAMES, '', 'a\\b', 'abc', 'aaaa', 'b1', '7']
const NUMBERS = [0, 1, -1, 2, 3, 5, 10, 2.5, -7, 100]
const PATTERNS = ['^[a-c]{1,3}$', '^a.{0,2}$', '^[a-z]+\\d$', '^(ab|b){1,2}$', '^x-[a-z]{0,3}$']
const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null']
const MOST_REFS = 3

/** A schema with what it refers to. */
export function makeSchema(dice: Dice): Schema {
  const depth = 1 + dice.below(4)
  const schema = anySchema(dice, depth)
  const $defs = Object.fromEntries(
    Array.from({ length: MOST_REFS }, (_, i) => [`d${i}`, anySchema(dice, 1 + dice.below(2), false)]),
  )
  return { ...schema, $defs }
}

/** @param refersInPlace false where what refers to itself would apply to itself */
function anySchema(dice: Dice, depth: number, refersInPlace = true): Schema {
  if (depth <= 0) return leaf(dice)
  const schema: Schema = dice.below(8) === 0 ? {} : leafOrHolder(dice, depth)
  if (dice.below(6) > 0) return schema
  return Object.assign(schema, combined(dice, depth, refersInPlace))
}

function leafOrHolder(dice: Dice, depth: number): Schema {
  switch (dice.below(7)) {
    case 0:
    case 1:
      return leaf(dice)
    case 2:
    case 3:
      return array(dice, depth)
    case 4:
      return { ...object(dice, depth), ...(dice.below(4) === 0 && array(dice, depth)), ...types(dice) }
    default:
      return object(dice, depth)
  }
}

function types(dice: Dice): Schema {
  const few = TYPES.filter(() => dice.below(3) === 0)
  return dice.below(3) === 0 || few.length === 0 ? {} : { type: few }
}

function leaf(dice: Dice): Schema {
  const schema: Schema = leafOf(dice)
  if (dice.below(12) === 0) schema.title = 'x'
  if (dice.below(20) === 0) schema['x-unknown'] = { type: 3 }
  return schema
}

function leafOf(dice: Dice): Schema {
  switch (dice.below(11)) {
    case 0:
      return { type: dice.one(TYPES) }
    case 1:
      return { const: value(dice, 2) }
    case 2:
      return { enum: Array.from({ length: 1 + dice.below(5) }, () => value(dice, 1)) }
    case 3:
      return {
        ...(dice.below(3) > 0 && { type: dice.one(['number', 'integer']) }),
        ...some(dice, 'minimum', () => dice.one(NUMBERS)),
        ...some(dice, 'maximum', () => dice.one(NUMBERS) + dice.below(20)),
        ...(dice.below(4) === 0 && { exclusiveMinimum: dice.one(NUMBERS) }),
      }
    case 4:
      return { ...(dice.below(3) > 0 && { type: 'string' }), pattern: dice.one(PATTERNS) }
    case 5:
      return { ...some(dice, 'minLength', () => dice.below(4)), ...some(dice, 'maxLength', () => 2 + dice.below(4)) }
    case 6:
      return types(dice)
    case 7:
      return { type: 'string', enum: Array.from({ length: 1 + dice.below(4) }, () => dice.one(TEXTS)) }
    case 8:
      return { type: 'boolean' }
    case 9:
      return { type: 'integer', minimum: dice.below(5), maximum: 3 + dice.below(20) }
    default:
      return { type: 'string' }
  }
}

function object(dice: Dice, depth: number): Schema {
  const inner = () => inside(dice, depth)
  const names = [...new Set(Array.from({ length: dice.below(5) }, () => dice.one(NAMES)))]
  const named = <T>(make: (name: string) => T) => Object.fromEntries(names.map((name) => [name, make(name)]))
  return {
    ...(dice.below(4) > 0 && { type: 'object' }),
    ...(names.length > 0 && { properties: named(inner) }),
    ...(dice.below(2) === 0 && {
      required: [...names, dice.one(NAMES)].filter(
        (_, i, all) => dice.below(2) === 0 && all.indexOf(all[i] ?? '') === i,
      ),
    }),
    ...(dice.below(3) === 0 && { additionalProperties: dice.one([true, false, false, inner()]) }),
    ...(dice.below(12) === 0 && {
      patternProperties: { [dice.one(PATTERNS)]: inner(), [dice.one(PATTERNS)]: inner() },
    }),
    ...(dice.below(12) === 0 && { propertyNames: dice.one([leaf(dice), { enum: names.length > 0 ? names : ['z'] }]) }),
    ...(dice.below(10) === 0 && { minProperties: dice.below(4) }),
    ...(dice.below(10) === 0 && { maxProperties: dice.below(4) }),
    ...(dice.below(14) === 0 && { dependentRequired: { [dice.one(NAMES)]: [dice.one(NAMES)] } }),
    // The two beside each other are one of the validator's mistakes.
    ...(dice.below(7) === 0 &&
      dice.one([
        { dependentSchemas: { [dice.one(NAMES)]: inner() } },
        { unevaluatedProperties: dice.one([false, inner()]) },
      ])),
  }
}

function array(dice: Dice, depth: number): Schema {
  const inner = () => inside(dice, depth)
  return {
    ...(dice.below(4) > 0 && { type: 'array' }),
    ...(dice.below(4) > 0 && { items: inner() }),
    ...(dice.below(4) === 0 && { prefixItems: Array.from({ length: 1 + dice.below(3) }, inner) }),
    ...some(dice, 'minItems', () => dice.below(4)),
    ...some(dice, 'maxItems', () => dice.below(6)),
    ...(dice.below(8) === 0 && { uniqueItems: true }),
    ...(dice.below(10) === 0 && {
      contains: leaf(dice),
      ...some(dice, 'minContains', () => dice.below(3)),
      ...some(dice, 'maxContains', () => 1 + dice.below(3)),
    }),
    ...(dice.below(16) === 0 && { unevaluatedItems: dice.one([false, inner()]) }),
  }
}

function inside(dice: Dice, depth: number): unknown {
  switch (dice.below(20)) {
    case 0:
      return true
    case 1:
      return false
    case 2:
      return { $ref: `#/$defs/d${dice.below(MOST_REFS)}` }
    default:
      return anySchema(dice, depth - 1)
  }
}

function combined(dice: Dice, depth: number, refersInPlace: boolean): Schema {
  const inner = () => anySchema(dice, depth - 1, refersInPlace)
  const list = () => Array.from({ length: 1 + dice.below(3) }, inner)
  switch (dice.below(refersInPlace ? 10 : 8)) {
    case 0:
    case 1:
      return { allOf: list() }
    case 2:
      return { anyOf: list(), ...(dice.below(3) === 0 && { oneOf: list() }) }
    case 3:
      return { oneOf: list() }
    case 4:
      return { oneOf: tagged(dice, depth) }
    case 5:
      return { not: inner() }
    case 6:
      return { if: inner(), ...implied(dice, inner) }
    case 7:
      return { anyOf: tagged(dice, depth), oneOf: tagged(dice, depth) }
    case 8:
      return { $ref: `#/$defs/d${dice.below(MOST_REFS)}` }
    default:
      return { allOf: [{ $ref: `#/$defs/d${dice.below(MOST_REFS)}` }, inner()] }
  }
}

function implied(dice: Dice, inner: () => Schema): Schema {
  return Object.fromEntries(['then', 'else'].filter(() => dice.below(3) > 0).map((key) => [key, inner()]))
}

/** As unions of tagged objects come from libraries. */
function tagged(dice: Dice, depth: number): Schema[] {
  return Array.from({ length: 1 + dice.below(3) }, (_, i) => ({
    type: 'object',
    properties: { kind: { const: `k${i}` }, [dice.one(NAMES)]: inside(dice, depth) },
    required: ['kind'],
    ...(dice.below(2) === 0 && { additionalProperties: false }),
  }))
}

function value(dice: Dice, depth: number): unknown {
  switch (dice.below(depth > 0 ? 8 : 6)) {
    case 0:
      return null
    case 1:
      return dice.below(2) === 0
    case 2:
    case 3:
      return dice.one(NUMBERS)
    case 4:
    case 5:
      return dice.one(TEXTS)
    case 6:
      return Array.from({ length: dice.below(3) }, () => value(dice, depth - 1))
    default:
      return Object.fromEntries(Array.from({ length: dice.below(3) }, () => [dice.one(NAMES), value(dice, depth - 1)]))
  }
}

function some(dice: Dice, keyword: string, make: () => unknown): Schema {
  return dice.below(3) === 0 ? { [keyword]: make() } : {}
}
