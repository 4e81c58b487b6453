import test from 'brittle'
import { MeshError } from '../lib/protocol/index.js'
import { jsonSchemaToGbnf } from '../workers/processor/engine/json/grammar.js'
import { Engine } from '../workers/processor/index.js'
import { answer, chat, engineOptions, failure } from './engine-kit.js'

const engine = new Engine(engineOptions())

/** Values that the model makes up for a schema, wildly. */
async function values(schema: Record<string, unknown>, count = 5): Promise<unknown[]> {
  const format = { type: 'json_schema' as const, schema }
  const all: unknown[] = []
  for (let seed = 0; seed < count; seed++) {
    const sampling = { temperature: 4, topK: 0, topP: 1, minP: 0, seed }
    const { text, finish } = await answer(engine, chat('x', { format, sampling, maxTokens: 400 }))
    if (finish.reason === 'stop') all.push(JSON.parse(text))
  }
  return all
}

const isNumber = (value: unknown): value is number => typeof value === 'number'

test('numbers keep to their bounds', async (t) => {
  await engine.load()
  const ranges: [Record<string, unknown>, (n: number) => boolean][] = [
    [{ type: 'integer', minimum: 3, maximum: 17 }, (n) => n >= 3 && n <= 17],
    [{ type: 'integer', minimum: -25, maximum: 140 }, (n) => n >= -25 && n <= 140],
    [{ type: 'integer', exclusiveMinimum: 99 }, (n) => n > 99],
    [{ type: 'integer', maximum: -5 }, (n) => n <= -5],
    [{ type: 'number', minimum: 0, maximum: 1 }, (n) => n >= 0 && n <= 1],
    [{ type: 'number', minimum: -1.5, exclusiveMaximum: -0.25 }, (n) => n >= -1.5 && n < -0.25],
    [{ type: 'number', exclusiveMinimum: 1, exclusiveMaximum: 2 }, (n) => n > 1 && n < 2],
    [{ type: 'number', minimum: 99.9, maximum: 100.1 }, (n) => n >= 99.9 && n <= 100.1],
  ]
  for (const [schema, fits] of ranges) {
    const made = await values(schema)
    t.ok(made.length > 0 && made.every((n) => isNumber(n) && fits(n)), `${JSON.stringify(schema)}: ${made.join(' ')}`)
    if (schema.type === 'integer') t.ok(made.every(Number.isInteger))
  }
})

test('strings keep to their format or pattern', async (t) => {
  const isTime = (text: string) => !Number.isNaN(Date.parse(text))
  const kinds: [Record<string, unknown>, (text: string) => boolean][] = [
    [{ format: 'date' }, (text) => new Date(text).toISOString().startsWith(text)],
    [{ format: 'date-time' }, isTime],
    [{ format: 'uuid' }, (text) => /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(text)],
    [{ format: 'ipv4' }, (text) => text.split('.').every((part) => Number(part) <= 255)],
    [{ pattern: '^[A-Z]{2}-\\d{3,5}(x|y)?$' }, (text) => /^[A-Z]{2}-\d{3,5}(x|y)?$/.test(text)],
    [{ pattern: '^[ -~]{3,9}$' }, (text) => /^[ -~]{3,9}$/.test(text)],
    [{ pattern: '^[^a-z"]+?[\\w.\\-]$' }, (text) => /^[^a-z"]+?[\w.-]$/.test(text)],
    [{ pattern: '^(?:\\+\\d{1,2} )?\\("\\d{3}"\\)$' }, (text) => /^(?:\+\d{1,2} )?\("\d{3}"\)$/.test(text)],
  ]
  for (const [schema, fits] of kinds) {
    const made = await values({ type: 'string', ...schema })
    t.ok(
      made.length > 0 && made.every((text) => typeof text === 'string' && fits(text)),
      `${JSON.stringify(schema)}: ${made.join(' ')}`,
    )
  }
})

test('an additional property never takes the name of one that is described', (t) => {
  const schema = { type: 'object', properties: { id: { type: 'null' } }, additionalProperties: { type: 'string' } }
  t.ok(jsonSchemaToGbnf(schema).includes('[^"\\\\\\x7F\\x00-\\x1F\\x69] char*'))
})

test('what stands beside a choice applies to each of its parts', async (t) => {
  const schema = {
    type: 'object',
    properties: { a: { type: 'boolean' }, b: { type: 'null' } },
    anyOf: [{ required: ['a'] }, { required: ['b'] }],
  }
  const made = (await values(schema)) as { a?: unknown; b?: unknown }[]
  t.ok(made.length > 0, `${made.length} values were made`)
  for (const value of made) {
    t.ok(typeof value.a === 'boolean' || value.b === null, JSON.stringify(value))
  }
})

test('lists, choices and references keep to their schema', async (t) => {
  const kinds: [Record<string, unknown>, (value: unknown) => boolean][] = [
    [
      { type: 'array', prefixItems: [{ const: 'a' }, { type: 'null' }] },
      (value) => JSON.stringify(value) === '["a",null]',
    ],
    [{ type: 'array', items: false }, (value) => JSON.stringify(value) === '[]'],
    [{ items: { type: 'boolean' }, minItems: 2, maxItems: 3 }, (value) => isList(value, 2, 3, 'boolean')],
    [{ enum: ['a', 1, 2.5, null, {}, []], type: ['integer', 'null'] }, (value) => value === 1 || value === null],
    [{ type: 'string', enum: ['a', 1] }, (value) => value === 'a'],
    [{ const: { a: ['"\n'] } }, (value) => JSON.stringify(value) === '{"a":["\\"\\n"]}'],
    [
      {
        $defs: { 'a/b': { properties: { x: { type: 'null' } }, required: ['x'] } },
        allOf: [{ $ref: '#/$defs/a~1b' }, { allOf: [{ required: ['y'] }] }],
        properties: { y: { type: 'boolean' } },
        unevaluatedProperties: false,
      },
      (value) => isRecord(value) && value.x === null && typeof value.y === 'boolean',
    ],
    [
      { $ref: '#/anyOf/0', required: ['x'], anyOf: [{ properties: { x: { const: 1 } } }], $defs: {} },
      (value) => isRecord(value) && value.x === 1,
    ],
    [
      { type: 'object', properties: { ab: { const: 1 }, ac: { const: 2 } }, additionalProperties: { const: 3 } },
      (value) => isRecord(value) && Object.entries(value).every(([key, one]) => one === ({ ab: 1, ac: 2 }[key] ?? 3)),
    ],
  ]
  for (const [schema, fits] of kinds) {
    const made = await values(schema, 3)
    t.ok(made.length > 0 && made.every(fits), `${JSON.stringify(schema)}: ${JSON.stringify(made)}`)
  }
})

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isList(value: unknown, least: number, most: number, of: string): boolean {
  return (
    Array.isArray(value) && value.length >= least && value.length <= most && value.every((one) => typeof one === of)
  )
}

test('a JSON answer is one value with white space that comes to an end', async (t) => {
  const ask = chat('Describe a city.', {
    format: { type: 'json_object' },
    maxTokens: 400,
    sampling: { temperature: 0 },
  })
  const { text } = await answer(engine, ask)
  t.ok(text.startsWith('{'))
  t.absent(/\s{23}/.test(text))
  t.is(typeof JSON.parse(text), 'object')
})

test('a schema that cannot be enforced is refused by the place in it', async (t) => {
  const refusal = (schema: Record<string, unknown>) => {
    try {
      jsonSchemaToGbnf(schema, undefined, { mode: 'strict' })
    } catch (err) {
      if (err instanceof MeshError && err.code === 'BAD_REQUEST') return err.details.param
    }
    return 'accepted'
  }
  const at = (x: Record<string, unknown>) => refusal({ type: 'object', properties: { x }, required: ['x'] })
  t.is(at({ type: 'string', pattern: '(?<=a)b' }), 'format.schema.properties.x.pattern')
  t.is(at({ type: 'string', pattern: '^(?=a)$' }), 'format.schema.properties.x')
  t.is(at({ type: 'string', format: 'regex' }), 'format.schema.properties.x.format')
  t.is(at({ type: 'string', format: 'date', minLength: 11 }), 'format.schema.properties.x')
  t.is(at({ type: 'integer', minimum: 3.2, maximum: 3.8 }), 'format.schema.properties.x')
  t.is(
    at({ type: 'array', minItems: 1, items: { type: 'integer', not: { multipleOf: 2 } } }),
    'format.schema.properties.x.items.not',
  )
  t.is(at({ type: 'array', uniqueItems: true }), 'format.schema.properties.x.uniqueItems')
  t.is(refusal({ $ref: '#/$defs/x', $defs: { x: { type: 'x' } } }), 'format.schema.$defs.x.type')
  t.is(refusal({ allOf: [{ type: 'string' }, { type: 'null' }] }), 'format.schema')
  const format = { type: 'json_schema' as const, schema: { type: 'array', uniqueItems: true }, strict: true }
  t.is((await failure(answer(engine, chat('x', { format })))).details.param, 'format.schema.uniqueItems')
  await engine.stop()
})
