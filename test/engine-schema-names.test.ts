import { Ajv2020 } from 'ajv/dist/2020.js'
import test from 'brittle'
import { jsonSchemaToGbnf } from '../workers/processor/engine/json/grammar.js'
import { Dice } from './helpers/dice.js'
import { refusal } from './helpers/grammar.js'
import { Drawing } from './helpers/grammar-draws.js'

/** Members whose names no schema describes one by one: by which patterns they match, together and each. */

const DRAWS = 200

type Schema = Record<string, unknown>
type Mode = 'strict' | 'lenient'

const string = { type: 'string' }
const integer = { type: 'integer' }

/** Objects that a schema's grammar lets through. */
function drawn(schema: Schema, mode: Mode): Record<string, unknown>[] {
  const drawing = new Drawing(jsonSchemaToGbnf(schema, 's', { mode }))
  const dice = new Dice(11)
  return Array.from({ length: DRAWS }, () => drawing.draw(dice))
    .filter((text) => text !== undefined)
    .map((text) => JSON.parse(text))
}

/** Each with the names that have to come in some object, one in each, and that must not in any. */
const OVERLAPPING: [schema: Schema, names: RegExp[], takes: unknown[], refuses: unknown[]][] = [
  [
    {
      patternProperties: { '^[ab]$': string, '^[bc]$': integer },
      additionalProperties: false,
      minProperties: 1,
    },
    [/^a$/, /^c$/],
    [{ a: 'x', c: 1 }],
    [{}, { b: 'x' }, { b: 1 }, { a: 1 }],
  ],
  [
    { patternProperties: { '^s_': string, _n$: integer }, minProperties: 1 },
    [/^s_/, /_n$/],
    [{ s_: 'x', _n: 1, s_m: 'y' }],
    [{}, { s_n: 'x' }, { s_n: 1 }],
  ],
  [
    { patternProperties: { '^a': string, '^ab': false }, minProperties: 1, additionalProperties: false },
    [/^a/],
    [{ a: 'x' }, { ac: 'x', aab: '' }],
    [{}, { ab: 'x' }, { abc: 'x' }, { b: 'x' }],
  ],
  [
    { properties: { ab: false }, patternProperties: { '^a': string }, minProperties: 1, additionalProperties: false },
    [/^a/],
    [{ a: 'x', abc: 'y' }],
    [{}, { ab: 'x' }],
  ],
  [
    {
      patternProperties: { '^a': { type: 'integer', minimum: 5 }, b$: { type: 'integer', maximum: 3 } },
      minProperties: 1,
      additionalProperties: false,
    },
    [/^a/, /b$/],
    [{ a: 5, b: 3 }],
    [{}, { ab: 4 }, { ab: 5 }, { a: 4 }, { c: 4 }],
  ],
  [
    {
      properties: { id: integer },
      patternProperties: { '^x-': string, _at$: integer },
      required: ['id'],
      minProperties: 2,
      additionalProperties: false,
    },
    [/^x-/, /_at$/],
    [{ id: 1, 'x-a': 'x', _at: 1 }],
    [{ id: 1 }, { id: 1, 'x-_at': 1 }, { id: 1, a: 1 }],
  ],
  [
    {
      patternProperties: { '^a+$': integer },
      not: { required: ['a'] },
      minProperties: 1,
      maxProperties: 2,
      additionalProperties: false,
    },
    [/^aa+$/],
    [{ aa: 1 }, { aa: 1, aaa: 2 }],
    [{}, { a: 1 }, { aa: 1, aaa: 1, aaaa: 1 }],
  ],
  [
    {
      patternProperties: { '\\bq\\b': string, '^(?=.*z)a': { enum: ['x', 1] }, 'y|^$': integer },
      additionalProperties: { type: 'null' },
    },
    [/\bq\b/, /y|^$/],
    [{ q: '', az: 1, 'az q': 'x', y: 1, '': 2, b: null }],
    [{ 'az q': 1 }, { 'y q': 1 }, { 'y q': '' }, { az: null }, { b: 1 }],
  ],
  [
    {
      properties: { id: integer },
      propertyNames: { anyOf: [{ enum: ['xa', 'id'] }, { pattern: '^x' }] },
      patternProperties: { '^x': string, a$: { enum: ['a', 1] } },
      minProperties: 1,
    },
    [/^x/],
    [{ id: 1, xa: 'a', xb: 'b' }],
    [{ xa: 'b' }, { a: 1 }, { xba: 'b' }],
  ],
  [{ patternProperties: { '^a': false }, minProperties: 1 }, [/^[^a]/], [{ b: 1 }], [{}, { a: 1 }]],
]

test('names that may match several patterns have values that fit those they match, and no others', (t) => {
  for (const [keywords, names, takes, refuses] of OVERLAPPING) {
    const schema = { type: 'object', ...keywords }
    const said = JSON.stringify(schema)
    const fits = new Ajv2020({ strict: false }).compile(schema)
    for (const mode of ['strict', 'lenient'] as const) {
      const objects = drawn(schema, mode)
      t.ok(objects.length > DRAWS / 2, `${objects.length} objects of ${said}`)
      t.alike(objects.filter((one) => !fits(one)).slice(0, 3), [], said)
      for (const name of names)
        t.ok(
          objects.some((one) => Object.keys(one).some((key) => name.test(key))),
          `${name}`,
        )
      const drawing = new Drawing(jsonSchemaToGbnf(schema, 's', { mode }))
      for (const one of takes)
        t.ok(fits(one) && drawing.takes(JSON.stringify(one)), `${JSON.stringify(one)} of ${said}`)
      for (const one of refuses) t.absent(fits(one) || drawing.takes(JSON.stringify(one)), JSON.stringify(one))
    }
  }
})

test('a name that is described does not come a second time for a pattern that it matches', (t) => {
  const schema = { type: 'object', properties: { ab: integer }, patternProperties: { '^a': {} } }
  const drawing = new Drawing(jsonSchemaToGbnf(schema))
  t.ok(drawing.takes('{"ab":1,"abc":"x"}'))
  for (const text of ['{"ab":1,"ab":2}', '{"ab":1,"a\\u0062":2}', '{"ab":"x"}', '{"b":1}'])
    t.absent(drawing.takes(text), text)
})

test('where too many patterns overlap, nothing is said to fit nothing', (t) => {
  const patterns = (value: (sign: string) => unknown) =>
    Object.fromEntries([...'abcdefgh'].map((one) => [one, value(one)]))
  const closed = { type: 'object', minProperties: 1, additionalProperties: false }
  const schema = { ...closed, patternProperties: patterns((one) => ({ const: one })) }
  t.is(refusal(schema), 's.patternProperties')
  const leftOut: string[] = []
  jsonSchemaToGbnf(schema, 's', { mode: 'lenient', onLeftOut: ({ keyword }) => leftOut.push(keyword) })
  t.alike(leftOut.sort(), ['additionalProperties', 'patternProperties'])
  t.is(
    refusal({ ...closed, patternProperties: patterns(() => integer) }),
    'accepted',
    'they do not contradict each other',
  )
  t.is(refusal({ ...closed, patternProperties: patterns(() => false) }), 's', 'nothing fits, in any case')
  const long = { '^a.{1,1900}z$': string, '^.{1,1999}b.{1900}$': integer, 'c.{1800}$': { type: 'null' } }
  t.is(refusal({ ...closed, patternProperties: long }), 's.patternProperties', 'too many states')
  t.is(refusal({ ...closed, patternProperties: long }, 'lenient'), 'accepted')
  const unread = { '(?<=a)b': string, '^x': integer }
  t.is(refusal({ ...closed, patternProperties: unread }, 'lenient'), 'accepted', 'a pattern that cannot be followed')
})

test('a required name that no property may have is refused by the place that requires it', (t) => {
  const properties = { name: string }
  const closed = { type: 'object', properties, required: ['nmae'], additionalProperties: false }
  const cases: [Schema, string][] = [
    [closed, 's.required'],
    [{ type: 'object', properties: { o: closed }, required: ['o'] }, 's.properties.o.required'],
    [{ type: 'object', properties, required: ['nmae'], propertyNames: { maxLength: 2 } }, 's.required'],
    [
      { allOf: [{ required: ['nmae'] }, { type: 'object', properties, unevaluatedProperties: false }] },
      's.allOf[0].required',
    ],
    [{ ...closed, additionalProperties: integer }, 'accepted'],
  ]
  for (const [schema, at] of cases) t.is(refusal(schema), at, JSON.stringify(schema))
  t.exception(() => jsonSchemaToGbnf(closed), /"nmae" is required, but no property may have that name/)
})
