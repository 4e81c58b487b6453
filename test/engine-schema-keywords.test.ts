import { Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import test, { type Test } from 'brittle'
import { jsonSchemaToGbnf } from '../workers/processor/engine/json/grammar.js'
import { Dice } from './helpers/dice.js'
import { refusal } from './helpers/grammar.js'
import { Drawing } from './helpers/grammar-draws.js'
import { namesIn, readPage, rowsOf, sectionsOf } from './helpers/page.js'

/**
 * The table of keywords in docs/openai.md against the grammars: what is enforced lets nothing through that another program
 * refuses, what is an annotation changes nothing, and what is beyond its condition is refused in strict mode alone.
 */

type Schema = Record<string, unknown>
/** Values that a schema refuses because of the keyword. */
type Enforced = [schema: Schema, ...wrong: unknown[]]

const DRAWS = 300
const A = { type: 'object', properties: { a: { type: 'boolean' }, b: { type: 'null' } } }
const kind = (value: unknown, more: Schema = {}) => ({
  type: 'object',
  properties: { kind: { const: value }, ...more },
  required: ['kind'],
})
const list = (items: unknown, more: Schema = {}) => ({ type: 'array', items, ...more })
/** Patterns that a name may match all of, and no value may. */
function overlapping(signs: string): Schema {
  return Object.fromEntries([...signs].map((sign) => [sign, { const: sign }]))
}
/** Spelled so that nothing takes it for a promise. */
const then = (schema: Schema): Schema => Object.fromEntries([['then', schema]])
const integer = { type: 'integer', minimum: 0, maximum: 9 }

const ENFORCED: Record<string, Enforced[]> = {
  type: [
    [{ type: ['integer', 'null'] }, 1.5, 'x'],
    [{ allOf: [{ type: 'number' }, { type: ['integer', 'string'] }] }, 1.5, 'x'],
  ],
  enum: [
    [{ enum: [1, 'a', null, { b: [1] }] }, 2, { b: [2] }],
    [{ enum: [1, 5, 'abc'], minimum: 3, maxLength: 2 }, 1, 'abc'],
    [{ allOf: [{ enum: [1, 2] }, { enum: [2, 3] }] }, 1, 3],
  ],
  const: [
    [{ const: { a: 1, b: [null] } }, { a: 1 }],
    [{ type: ['string', 'integer'], enum: ['a', 1], const: 1 }, 'a'],
  ],
  properties: [
    [A, { a: 1 }],
    [{ allOf: [A, { properties: { a: { const: true } } }] }, { a: false }],
    [{ ...A, anyOf: [{ properties: { a: { const: true } } }, { required: ['b'] }] }, { a: false }],
  ],
  required: [
    [{ ...A, required: ['a'] }, {}, { b: null }],
    [{ type: 'object', required: ['x'] }, {}],
  ],
  additionalProperties: [
    [{ ...A, additionalProperties: integer }, { c: 'x' }, { a: 1 }],
    [{ allOf: [{ ...A, additionalProperties: false }, { properties: { c: {} } }] }, { c: 1 }],
  ],
  patternProperties: [
    [
      { type: 'object', patternProperties: { '^s_': { type: 'string' }, '^i_': integer }, additionalProperties: false },
      { s_a: 1 },
      { x: 1 },
    ],
    [
      { type: 'object', properties: { ab: { type: 'integer' } }, patternProperties: { '^a': { minimum: 3 } } },
      { ab: 2 },
    ],
  ],
  propertyNames: [
    [
      {
        type: 'object',
        propertyNames: { type: 'string', enum: ['x', 'y'] },
        additionalProperties: integer,
        required: ['x'],
      },
      { x: 1, z: 1 },
      { y: 1 },
    ],
    [{ type: 'object', propertyNames: { pattern: '^[a-c]+$' }, additionalProperties: integer }, { d: 1 }],
  ],
  unevaluatedProperties: [
    [{ type: 'object', allOf: [A], unevaluatedProperties: false }, { c: 1 }],
    [
      { type: 'object', anyOf: [kind('a', { x: integer }), kind('b')], unevaluatedProperties: false },
      { kind: 'b', x: 1 },
    ],
  ],
  unevaluatedItems: [
    [{ type: 'array', allOf: [{ prefixItems: [integer] }], unevaluatedItems: { type: 'null' }, minItems: 2 }, [1, 2]],
  ],
  maxProperties: [
    [
      { ...A, additionalProperties: integer, maxProperties: 1 },
      { a: true, b: null },
    ],
  ],
  dependentRequired: [[{ ...A, dependentRequired: { a: ['b'] } }, { a: true }]],
  dependentSchemas: [[{ ...A, dependentSchemas: { a: { required: ['b'] } } }, { a: true }]],
  minProperties: [
    [{ ...A, minProperties: 2 }, { a: true }, {}],
    [{ type: 'object', additionalProperties: integer, minProperties: 1 }, {}],
  ],
  items: [
    [list(integer), ['x']],
    [{ allOf: [list({ type: 'number' }), list({ type: ['integer', 'null'] })] }, [1.5]],
  ],
  prefixItems: [
    [{ type: 'array', prefixItems: [integer, { type: 'null' }], items: { type: 'boolean' } }, [null], [1, null, 2]],
  ],
  additionalItems: [[{ type: 'array', items: [integer], additionalItems: { type: 'null' } }, [1, 2], ['x']]],
  minItems: [[list(integer, { minItems: 2 }), [1]]],
  maxItems: [[list(integer, { maxItems: 2 }), [1, 2, 3]]],
  contains: [[list(integer, { contains: { const: 7 } }), [], [1, 2]]],
  minContains: [[list(integer, { contains: { minimum: 5 }, minContains: 2, maxItems: 4 }), [1, 5, 2]]],
  maxContains: [[list(integer, { contains: { minimum: 5 }, minContains: 0, maxContains: 1 }), [5, 6]]],
  uniqueItems: [
    [list({ enum: ['a', 'b', 'c'] }, { uniqueItems: true, minItems: 2 }), ['a', 'a'], ['a']],
    [
      list({ enum: [...'abcdefghij'] }, { uniqueItems: true, minItems: 1, maxItems: 3 }),
      ['a', 'a'],
      ['a', 'b', 'c', 'd'],
    ],
    [list({ type: ['boolean', 'null'] }, { uniqueItems: true }), [true, true]],
  ],
  allOf: [[{ allOf: [{ type: 'integer', minimum: 3 }, { minimum: 5 }, { maximum: 8 }] }, 4, 9]],
  anyOf: [
    [{ anyOf: [integer, { type: 'null' }] }, 'x'],
    [{ ...A, anyOf: [{ required: ['a'] }, { required: ['b'] }], oneOf: [kind(1), kind(2)] }, { kind: 1 }, { a: true }],
  ],
  $ref: [
    [
      {
        $defs: { n: { type: 'object', properties: { v: integer, next: { $ref: '#/$defs/n' } }, required: ['v'] } },
        $ref: '#/$defs/n',
        maxProperties: 1,
      },
      { next: { v: 1 } },
      { v: 1, next: { v: 1 } },
    ],
    [{ $defs: { n: { $anchor: 'here', type: 'null' } }, items: { $ref: '#here' }, type: 'array' }, [1]],
  ],
  oneOf: [
    [{ oneOf: [kind('a', { v: integer }), kind('b')] }, { kind: 'c' }, { kind: 'a', v: 'x' }],
    [{ ...A, oneOf: [{ required: ['a'] }, { required: ['b'] }] }, { a: true, b: null }, {}],
    [{ oneOf: [{ enum: [1, 2] }, { enum: [2, 3] }] }, 2],
    [{ type: 'integer', oneOf: [{ maximum: 5 }, { minimum: 3 }] }, 4],
    [
      {
        oneOf: [
          { ...A, additionalProperties: false, required: ['a'] },
          { type: 'object', properties: { c: integer }, required: ['c'] },
        ],
      },
      {},
      { a: 1 },
    ],
  ],
  not: [
    [{ type: 'string', not: { enum: ['a', 'abc'] } }, 'a', 'abc'],
    [{ type: 'string', not: { enum: ['a', 'b.c', '(', 'ä"\n'] }, minLength: 1, maxLength: 3 }, 'a', 'b.c', '(', 'ä"\n'],
    [{ type: 'string', not: { enum: ['ab', 'ac'] }, pattern: '^a[bcd]$' }, 'ab', 'ac'],
    [{ type: 'string', not: { const: '2020-02-03' }, format: 'date', pattern: '^2020-02-0[34]$' }, '2020-02-03'],
    [
      { ...A, not: { required: ['a', 'b'] } },
      { a: true, b: null },
    ],
    [{ type: ['integer', 'string'], not: { type: 'string' } }, 'a'],
    [{ type: 'integer', not: { anyOf: [{ minimum: 5 }, { const: 3 }] } }, 3, 7],
    [{ not: { not: { type: 'null' } } }, 1],
  ],
  if: [
    [{ ...A, if: { required: ['a'] }, ...then({ required: ['b'] }) }, { a: true }],
    [
      {
        type: 'object',
        properties: { k: { enum: ['x', 'y'] }, n: integer },
        required: ['k'],
        if: { properties: { k: { const: 'x' } } },
        ...then({ required: ['n'] }),
        else: { properties: { n: false } },
      },
      { k: 'x' },
      { k: 'y', n: 1 },
    ],
  ],
  minimum: [[{ type: 'integer', minimum: 3 }, 2]],
  maximum: [[{ type: 'number', maximum: 3 }, 3.5]],
  exclusiveMinimum: [[{ type: 'number', exclusiveMinimum: 3 }, 3]],
  exclusiveMaximum: [[{ type: 'integer', exclusiveMaximum: 3 }, 3]],
  multipleOf: [[{ type: 'integer', multipleOf: 3 }, 4]],
  minLength: [[{ type: 'string', minLength: 2 }, 'a']],
  maxLength: [[{ type: 'string', maxLength: 2 }, 'abc']],
  pattern: [[{ type: 'string', pattern: '^[a-f]{2,3}$' }, 'x']],
  format: [[{ type: 'string', format: 'date' }, '2020-02-30']],
}

/** What each keyword in part is refused for in strict mode, and where. */
const BEYOND: Record<string, [schema: Schema][]> = {
  patternProperties: [[{ type: 'object', patternProperties: overlapping('abcdefg'), minProperties: 1 }]],
  minProperties: [[{ type: 'object', additionalProperties: integer, minProperties: 2 }]],
  minItems: [[list(integer, { minItems: 2001 })]],
  maxContains: [[list(integer, { contains: { multipleOf: 2 }, maxContains: 1 })]],
  uniqueItems: [[list(integer, { uniqueItems: true })]],
  oneOf: [
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }],
    [
      {
        oneOf: [
          { type: 'integer', multipleOf: 2 },
          { type: 'integer', multipleOf: 3 },
        ],
      },
    ],
  ],
  not: [[{ type: 'string', not: { pattern: '^a' } }], [{ type: 'integer', not: { multipleOf: 2 } }]],
  if: [[{ type: 'string', if: { pattern: '^a' }, else: { maxLength: 3 } }]],
  pattern: [[{ type: 'string', pattern: '(?<=a)b' }], [{ type: 'string', pattern: 'a{2001}' }]],
  minimum: [[{ type: 'number', minimum: 1e308 }], [{ type: 'number', minimum: 1e-320, maximum: 1e-310 }]],
  maximum: [[{ type: 'number', maximum: -1e300 }]],
  exclusiveMinimum: [[{ type: 'number', exclusiveMinimum: 1e16 }]],
  exclusiveMaximum: [[{ type: 'number', exclusiveMaximum: -1e16 }]],
  multipleOf: [[{ type: 'number', multipleOf: 123_456_789 }], [{ type: 'number', multipleOf: 1e-20 }]],
  unevaluatedItems: [[{ type: 'array', contains: { const: 2 }, unevaluatedItems: { enum: [3] } }]],
  format: [[{ type: 'string', format: 'regex' }]],
}

const ANNOTATIONS: Record<string, unknown> = {
  title: 'x',
  description: 'x',
  default: 3,
  examples: ['x'],
  deprecated: true,
  readOnly: true,
  writeOnly: true,
  nullable: true,
  discriminator: { propertyName: 'a' },
  contentEncoding: 'base64',
  contentMediaType: 'application/json',
  $comment: 'x',
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  $defs: { a: { type: 'null' } },
  definitions: { a: { type: 'banana' } },
}

const ROWS = rowsOf(sectionsOf(readPage('openai.md')), 'JSON Schema keywords').map(([names, state = '']) => ({
  names: namesIn(names),
  state,
}))
const namesOf = (...states: string[]) =>
  ROWS.filter(({ state }) => states.includes(state))
    .flatMap(({ names }) => names)
    .sort()

function fitting(schema: Schema): (value: unknown) => boolean {
  const options = { strict: false, validateFormats: false, ownProperties: true }
  const ajv = Array.isArray(schema.items) ? new Ajv(options) : new Ajv2020(options)
  const validate = ajv.compile(schema)
  return (value) => validate(value) === true
}

test('each keyword of the table has samples, and each sample a row', (t) => {
  t.alike(namesOf('enforced', 'in part'), Object.keys(ENFORCED).sort())
  t.alike(namesOf('in part'), Object.keys(BEYOND).sort())
  t.alike(namesOf('annotation'), Object.keys(ANNOTATIONS).sort())
  t.is(ROWS.filter(({ state }) => !['enforced', 'in part', 'annotation'].includes(state)).length, 0)
})

test('what is enforced lets nothing else through', { timeout: 120_000 }, (t) => {
  let texts = 0
  for (const [keyword, samples] of Object.entries(ENFORCED)) {
    for (const [schema, ...wrong] of samples) texts += drawAll(t, keyword, schema, wrong)
  }
  t.comment(`${texts} texts`)
})

function drawAll(t: Test, keyword: string, schema: Schema, wrong: readonly unknown[]): number {
  const said = `${keyword}: ${JSON.stringify(schema)}`
  const drawing = new Drawing(jsonSchemaToGbnf(schema, 's', { mode: 'strict' }))
  const fits = fitting(schema)
  const dice = new Dice(7)
  const texts = Array.from({ length: DRAWS }, () => drawing.draw(dice)).filter((text) => text !== undefined)
  t.alike(texts.filter((text) => !fits(JSON.parse(text))).slice(0, 3), [], said)
  t.ok(texts.length > DRAWS / 2 && new Set(texts).size > 0, `${texts.length} texts of ${said}`)
  for (const value of wrong) {
    if (keyword !== 'format') t.absent(fits(value), `${JSON.stringify(value)} does not fit ${said}`)
    t.absent(drawing.takes(JSON.stringify(value)), `${JSON.stringify(value)} does not come of ${said}`)
  }
  return texts.length
}

test('what is enforced in part is refused beyond that in strict mode, and else left out', (t) => {
  for (const [keyword, samples] of Object.entries(BEYOND)) {
    for (const [schema] of samples) {
      t.is(refusal(schema, 'strict'), `s.${keyword}`, JSON.stringify(schema))
      t.is(refusal(schema, 'lenient'), 'accepted', JSON.stringify(schema))
    }
  }
})

test('annotations, and keywords that nobody knows, change nothing', (t) => {
  const schema = { ...A, required: ['a'] }
  const plain = jsonSchemaToGbnf(schema)
  for (const [keyword, value] of [
    ...Object.entries(ANNOTATIONS),
    ['x-order', 3],
    ['whatever', { type: 'null' }],
  ] as const) {
    for (const mode of ['strict', 'lenient'] as const) {
      const annotated = {
        ...schema,
        [String(keyword)]: value,
        properties: { ...A.properties, a: { type: 'boolean', [String(keyword)]: value } },
      }
      t.is(jsonSchemaToGbnf(annotated, 's', { mode }), plain, String(keyword))
    }
  }
})
