import type { Dice } from './dice.js'

/** Schemas, regular expressions and grammars that are made to cost more than they look, by a seed or as they once did. */

type Schema = Record<string, unknown>
/** What is put beside a chat's messages. */
export type Constraint =
  | { format: { type: 'json_schema'; schema: Schema } | { type: 'grammar'; grammar: string } }
  | { tools: { name: string; parameters: Schema }[]; toolChoice: 'required' }

export interface Hostile {
  what: string
  constraint: Constraint
}

const STORY = 'abcdefghijklmnopqrstuvwxyz'

export function schemaFormat(schema: Schema): Constraint {
  return { format: { type: 'json_schema', schema } }
}

/** `count` properties with names that begin alike. */
export function wide(count: number, more: Schema = {}, value: Schema = { type: 'string' }): Schema {
  const properties = Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`property_${i}_${(i * 7919) % 1000}`, value]),
  )
  return { type: 'object', properties, ...more }
}

/** Definitions that each apply the next one so many times. */
export function ladder(levels: number, times: number, last: Schema = { type: 'object', properties: {} }): Schema {
  const $defs: Schema = { [`l${levels}`]: last }
  for (let i = 0; i < levels; i++)
    $defs[`l${i}`] = { allOf: Array.from({ length: times }, () => ({ $ref: `#/$defs/l${i + 1}` })) }
  return { $ref: '#/$defs/l0', $defs }
}

/** What two choices have in common leads to the same two choices again. */
function doubling(choices: number): Schema {
  const choice = (extra: Schema) => ({
    type: 'object',
    properties: { a: { $ref: '#/$defs/n' }, ...extra },
    required: ['a'],
    additionalProperties: false,
  })
  const anyOf = Array.from({ length: choices }, (_, i) => choice({ [`b${i}`]: { type: 'null' } }))
  return { $ref: '#/$defs/n', $defs: { n: { anyOf } } }
}

/** A tree of choices through references that are written out each time they are used. */
function unfolding(levels: number, choices: number): Schema {
  const $defs: Schema = { [`l${levels}`]: { properties: { z: { type: 'null' } } } }
  for (let i = 0; i < levels; i++) {
    const one = (n: number) => ({ $ref: `#/$defs/l${i + 1}`, properties: { [`p${i}_${n}`]: { type: 'null' } } })
    $defs[`l${i}`] = { anyOf: Array.from({ length: choices }, (_, n) => one(n)) }
  }
  return { $ref: '#/$defs/l0', $defs }
}

/** Spelled so that nothing takes it for a promise. */
const then = (schema: Schema): Schema => Object.fromEntries([['then', schema]])
const numbered = (count: number): Schema => ({ enum: Array.from({ length: count }, (_, i) => `value ${i}`) })

/** Choices between objects that nothing tells apart but one of their properties, which none has to have. */
function alike(choices: number, properties: number, keyword: string): Schema {
  return {
    [keyword]: Array.from({ length: choices }, (_, i) => wide(properties, {}, { type: 'integer', minimum: i })),
  }
}

const pattern = (text: string): Schema => ({ type: 'string', pattern: text })
const grammar = (text: string): Constraint => ({ format: { type: 'grammar', grammar: text } })
const tool = (parameters: Schema): Constraint => ({ tools: [{ name: 'x', parameters }], toolChoice: 'required' })

/** What once held an engine, or is made of the same idea. */
export const ONCE_BROKEN: readonly Hostile[] = [
  ...Object.entries({
    '25 levels of allOf with six references to the next': ladder(25, 6),
    'an optional group written out 3,000 times': pattern(`^${'([a-z]?)'.repeat(3000)}$`),
    'an optional group counted to 2,000': pattern('^([a-z]?){2000}$'),
    'up to 2,000 signs beyond the first 65,536': pattern('^[\u{10000}-\u{10ffff}]{0,2000}$'),
    'optional groups counted in each other': pattern('^(((a?){0,40}){0,40}){0,40}$'),
    'stars in stars': pattern('^(((a*)*)*)*$'),
    'a choice that backtracks': pattern('^(a|aa|a|aa)*b$'),
    'a choice whose end is far from where it is known, and a length': {
      ...pattern('(a|b)*a(a|b){20}$'),
      maxLength: 900,
    },
    'an optional group counted to 2,000, and a length': { ...pattern('^([a-z]?){2000}$'), maxLength: 1999 },
    'fifty words in one text': { allOf: Array.from({ length: 50 }, (_, i) => pattern(`word ${i}`)) },
    'multiples of many sizes': wide(
      200,
      {},
      { anyOf: Array.from({ length: 20 }, (_, i) => ({ type: 'number', multipleOf: 4999 - i })) },
    ),
    '9,000 enum values': { enum: Array.from({ length: 9000 }, (_, i) => `value ${(i * 7919) % 9000}`) },
    'choices that double at each level': doubling(2),
    'fifty choices that begin alike': doubling(50),
    'a tree of choices that is written out': unfolding(30, 4),
    'a chain of 5,000 references': {
      $ref: '#/$defs/l0',
      $defs: Object.fromEntries(
        Array.from({ length: 5001 }, (_, i) => [
          `l${i}`,
          i === 5000 ? { type: 'null' } : { $ref: `#/$defs/l${i + 1}` },
        ]),
      ),
    },
    'a name of 100,000 signs beside any others': {
      properties: { ['n'.repeat(100_000)]: { type: 'null' } },
      additionalProperties: true,
    },
    'a thousand lists of up to 2,000 items': wide(
      1000,
      {},
      { type: 'array', items: { type: 'boolean' }, maxItems: 2000 },
    ),
    'a thousand named values without repetition': { type: 'array', items: numbered(1000), uniqueItems: true },
    'a thousand named values, five hundred of them without repetition': {
      type: 'array',
      items: numbered(1000),
      uniqueItems: true,
      minItems: 500,
      maxItems: 500,
    },
    'a hundred choices of a hundred properties, one of which has to fit': alike(100, 100, 'oneOf'),
    'a hundred schemas that must not fit': { not: alike(100, 20, 'anyOf') },
    'patterns of names beside described properties': wide(2000, {
      patternProperties: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`^p.*${i}$`, { minLength: i }])),
    }),
    'a hundred patterns of names': {
      type: 'object',
      patternProperties: Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`(a|b)*${i}`, { maxLength: i }])),
      additionalProperties: { type: 'string' },
    },
    'opposites within opposites': Array.from({ length: 60 }).reduce<Schema>(
      (not, _, i) => ({ not, properties: { [`p${i}`]: { type: 'string' } }, required: ['a', `b${i}`] }),
      { type: 'string' },
    ),
    'forty conditions': {
      type: 'object',
      allOf: Array.from({ length: 40 }, (_, i) => ({ if: { required: [`p${i}`] }, ...then({ required: [`q${i}`] }) })),
    },
    'a thousand properties that depend on others': {
      type: 'object',
      dependentRequired: Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`p${i}`, [`p${i + 1}`]])),
    },
    'three kinds of items that are counted': {
      type: 'array',
      items: { type: 'integer' },
      allOf: [3, 5, 7].map((minimum) => ({ contains: { minimum }, minContains: 300, maxContains: 400 })),
    },
    'two thousand optional properties that are counted': wide(2000, { minProperties: 1000, maxProperties: 1500 }),
  }).map(([what, schema]) => ({ what, constraint: schemaFormat(schema) })),
  { what: 'the same levels of allOf, for a tool', constraint: tool(ladder(25, 6)) },
  { what: 'choices that double, for a tool', constraint: tool(doubling(2)) },
  ...Object.entries({
    'a grammar of options': `root ::= ${'[a-z]? '.repeat(5000)}`,
    'a grammar that doubles': [
      'root ::= r0',
      ...Array.from({ length: 40 }, (_, i) => `r${i} ::= r${i + 1} | r${i + 1} "a"`),
      'r40 ::= "b"',
    ].join('\n'),
    'a grammar that remembers more and more before its first sign':
      'root ::= a "x"\na ::= b a "q" | "y"\nb ::= c\nc ::= "" | "z"',
    'a grammar in which all is ambiguous': 'root ::= s\ns ::= s2 s2 | "a"\ns2 ::= "a" s2? s2? s2?',
    'a literal counted, and counted, and counted': `root ::= "ab"${'{2000}'.repeat(20)}`,
    'a class of 30,000 ranges': `root ::= [${Array.from({ length: 30_000 }, (_, i) => String.fromCodePoint(0x3000 + i * 2)).join('')}]*`,
  }).map(([what, text]) => ({ what, constraint: grammar(text) })),
]

/** One that no other seed makes. */
export function hostileSchema(dice: Dice): Hostile {
  const kind = dice.one(KINDS)
  const schema = kind.make(dice)
  if (typeof schema === 'string') return { what: kind.what, constraint: grammar(schema) }
  return { what: kind.what, constraint: dice.below(5) === 0 ? tool(schema) : schemaFormat(schema) }
}

/** Mostly few, now and then very many. */
const many = (dice: Dice, most: number) => 1 + dice.below(dice.below(4) === 0 ? most : 1 + dice.below(20))

const KINDS: readonly { what: string; make: (dice: Dice) => Schema | string }[] = [
  { what: 'nested', make: (dice) => nested(dice, 1 + dice.below(12)) },
  {
    what: 'wide',
    make: (dice) => wide(many(dice, 12_000), dice.one([{}, { additionalProperties: true }]), nested(dice, 2)),
  },
  {
    what: 'enum',
    make: (dice) => ({ enum: Array.from({ length: many(dice, 12_000) }, () => word(dice, many(dice, 60))) }),
  },
  { what: 'ladder', make: (dice) => ladder(many(dice, 80), many(dice, 12), nested(dice, 2)) },
  { what: 'doubling', make: (dice) => doubling(many(dice, 200)) },
  { what: 'unfolding', make: (dice) => unfolding(many(dice, 40), many(dice, 6)) },
  {
    what: 'recursive',
    make: (dice) => ({
      $ref: '#/$defs/d0',
      $defs: Object.fromEntries([0, 1, 2].map((i) => [`d${i}`, nested(dice, 4)])),
    }),
  },
  { what: 'pattern', make: (dice) => pattern(`^${expression(dice, 1 + dice.below(6))}$`) },
  { what: 'patterns', make: (dice) => wide(many(dice, 60), {}, pattern(`^${expression(dice, 3)}$`)) },
  {
    what: 'patterns, formats and lengths together',
    make: (dice) =>
      wide(
        many(dice, 60),
        {},
        {
          ...pattern(expression(dice, 3)),
          ...(dice.below(2) === 0 && { format: dice.one(['email', 'uri', 'hostname', 'date-time', 'uuid']) }),
          maxLength: many(dice, 5000),
        },
      ),
  },
  { what: 'broken pattern', make: (dice) => pattern(broken(dice, `^${expression(dice, 3)}$`)) },
  { what: 'grammar', make: (dice) => rules(dice) },
  { what: 'broken grammar', make: (dice) => broken(dice, rules(dice)) },
]

function nested(dice: Dice, depth: number): Schema {
  const inner = () => nested(dice, depth - 1)
  const some = (most: number) => Array.from({ length: 1 + dice.below(most) }, inner)
  switch (depth <= 0 ? dice.below(4) : dice.below(12)) {
    case 0:
      return { type: dice.one(['string', 'number', 'integer', 'boolean', 'null']) }
    case 1:
      return { type: 'string', minLength: dice.below(50), maxLength: 50 + dice.below(2000) }
    case 2:
      return { type: 'integer', minimum: dice.below(1e6) - 5e5, maximum: 5e5 + dice.below(1e9) }
    case 3:
      return { enum: Array.from({ length: 1 + dice.below(8) }, () => word(dice, 6)) }
    case 4:
      return { type: 'array', items: inner(), minItems: dice.below(4), maxItems: 4 + dice.below(1996) }
    case 5:
      return { type: 'array', prefixItems: some(5) }
    case 6:
      return { anyOf: some(6) }
    case 7:
      return { allOf: some(3) }
    case 8:
      return { $ref: dice.one(['#', '#/$defs/d0', '#/$defs/d1', '#/$defs/d2', '#/anyOf/0']) }
    default: {
      const entries = some(6).map((one) => [word(dice, 5), one] as const)
      const required = entries.map(([name]) => name).filter(() => dice.below(2) === 0)
      return {
        type: 'object',
        properties: Object.fromEntries(entries),
        required,
        additionalProperties: dice.below(3) === 0,
      }
    }
  }
}

function word(dice: Dice, length: number): string {
  const signs = dice.below(5) === 0 ? ['ä', '漢', '字', '🦊', '"', '\\', '\n', ' '] : [...STORY]
  return Array.from({ length }, () => dice.one(signs)).join('')
}

function expression(dice: Dice, depth: number): string {
  const inner = () => expression(dice, depth - 1)
  const count = () =>
    dice.one(['*', '+', '?', '{0,40}', '{3}', `{0,${dice.below(2000)}}`, `{${dice.below(2000)},}`, ''])
  switch (depth <= 0 ? dice.below(3) : dice.below(7)) {
    case 0:
      return word(dice, 1).replace(/[\\"\n]/, 'a') + count()
    case 1:
      return dice.one(['[a-z]', '.', '\\d', '\\w', '[^a]', '[\u{10000}-\u{10ffff}]', '[ -~äß]', '[一-龥]']) + count()
    case 2:
      return dice.one(['a?', 'a*', 'ab|a', '(a|a)*'])
    case 3:
      return `(${inner()}|${inner()}|${inner()})${count()}`
    case 4:
      return `(?:${inner()})${count()}`
    case 5:
      return `(${inner()}?)`.repeat(1 + dice.below(200))
    default:
      return inner() + inner() + inner()
  }
}

function rules(dice: Dice): string {
  const count = 1 + dice.below(30)
  const atom = () =>
    dice.one([`r${dice.below(count)}`, '"a"', '"ab"', '[a-c]', '.', `(r${dice.below(count)} | "x")`, '[^a]'])
  const repeated = () => atom() + dice.one(['', '', '*', '+', '?', '{0,100}', `{${dice.below(2100)}}`])
  const sequence = () => Array.from({ length: dice.below(6) }, repeated).join(' ')
  const choices = () => Array.from({ length: 1 + dice.below(4) }, sequence).join(' | ') || '""'
  return ['root ::= r0', ...Array.from({ length: count }, (_, i) => `r${i} ::= ${choices()}`)].join('\n')
}

function broken(dice: Dice, text: string): string {
  const at = dice.below(text.length)
  return (
    text.slice(0, at) + dice.one(['', '(', ')', '[', '{', '\\', '"', '|', '{9999}']) + text.slice(at + dice.below(2))
  )
}
