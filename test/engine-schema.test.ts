import test from 'brittle'
import { jsonSchemaToGbnf } from '../workers/processor/engine/json/grammar.js'
import { JsonScan } from '../workers/processor/engine/json/scan.js'
import { argumentsGrammar } from '../workers/processor/engine/tools/grammar.js'
import { Dice } from './helpers/dice.js'
import { refusal, Walker } from './helpers/grammar.js'

/** What of JSON schemas becomes a grammar and what is refused; no model is needed for that. */

test('a list whose limits contradict each other is refused', (t) => {
  const item = { type: 'null' }
  const cases: [Record<string, unknown>, string][] = [
    [{ type: 'array', prefixItems: [item], items: item }, 'accepted'],
    [{ type: 'array', prefixItems: [item], items: false }, 'accepted'],
    [{ type: 'array', prefixItems: [item], minItems: 2 }, 'accepted'],
    [{ type: 'array', prefixItems: [item], items: false, minItems: 2 }, 's.items'],
    [{ type: 'array', prefixItems: [item, item], maxItems: 1 }, 'accepted'],
    [{ type: 'array', maxItems: 0, minItems: 1 }, 's'],
    [{ type: 'array', items: false, minItems: 1 }, 's.items'],
    [{ type: 'array', minItems: -1 }, 's.minItems'],
    [{ type: 'array', minItems: 1.5 }, 's.minItems'],
    [{ type: 'array', minItems: '2' }, 's.minItems'],
    [{ type: 'array', maxItems: 2001 }, 'accepted'],
    [{ type: 'array', minItems: 2001 }, 's.minItems'],
    [{ type: 'array', prefixItems: item }, 's.prefixItems'],
  ]
  for (const [schema, at] of cases) t.is(refusal(schema), at, JSON.stringify(schema))
})

test('a choice of nothing, and what is no schema, are refused', (t) => {
  const cases: [Record<string, unknown>, string][] = [
    [{ anyOf: [] }, 's.anyOf'],
    [{ oneOf: [] }, 's.oneOf'],
    [{ oneOf: [{ type: 'null' }] }, 'accepted'],
    [{ enum: [] }, 's.enum'],
    [{ enum: ['a'], type: 'object' }, 's'],
    [{ enum: [true], type: 'boolean' }, 'accepted'],
    [{ enum: [[1], {}, null], type: ['array', 'object', 'null'] }, 'accepted'],
    [{ type: [] }, 's.type'],
    [{ properties: [] }, 's.properties'],
    [{ properties: { a: false } }, 'accepted'],
    [{ type: 'object', properties: { a: false }, required: ['a'] }, 's.properties.a'],
    [{ properties: { a: false }, required: ['a'] }, 'accepted'],
    [{ properties: { a: true } }, 'accepted'],
    [{ additionalProperties: { type: 'x' } }, 's.additionalProperties.type'],
    [{}, 'accepted'],
    [{ title: undefined, minLength: undefined }, 'accepted'],
  ]
  for (const [schema, at] of cases) t.is(refusal(schema), at, JSON.stringify(schema))
})

test('references and parts that apply together are followed into the schema, and nowhere else', (t) => {
  const cases: [Record<string, unknown>, string][] = [
    [{ $ref: 'https://example.com/schema' }, 's.$ref'],
    [{ $ref: 3 }, 's.$ref'],
    [{ $ref: '#/title/length', title: 'abc' }, 's.$ref'],
    [{ $ref: '#/$defs/constructor', $defs: {} }, 's.$ref'],
    [{ $ref: '#' }, 's'],
    [{ anyOf: [{ $ref: '#' }, { type: 'null' }] }, 'accepted'],
    [{ anyOf: [{ $ref: '#' }] }, 's.anyOf[0]'],
    [{ $ref: '#/$defs/a', minLength: 2, $defs: { a: { type: 'string' } } }, 'accepted'],
    [{ allOf: [{ minLength: 2 }, { minLength: 2 }] }, 'accepted'],
    [{ allOf: [{ minLength: 2 }, { minLength: 3 }] }, 'accepted'],
    [{ allOf: [{ type: 'string' }, { type: 'null' }] }, 's'],
    [{ allOf: [{ title: 'a' }, { title: 'b' }] }, 'accepted'],
    [{ allOf: {} }, 's.allOf'],
  ]
  for (const [schema, at] of cases) t.is(refusal(schema), at, JSON.stringify(schema))
  const nested = (wrap: (inner: Record<string, unknown>) => Record<string, unknown>) => {
    let schema: Record<string, unknown> = { type: 'null' }
    for (let i = 0; i < 70; i++) schema = wrap(schema)
    return schema
  }
  t.ok(refusal(nested((items) => ({ type: 'array', items }))).endsWith('items'), 'nested too deep')
  t.ok(refusal(nested((one) => ({ allOf: [one] }))).endsWith('allOf[0]'), 'applied together too deep')
  const endless = { allOf: [{ $ref: '#' }] }
  t.ok(refusal(endless).endsWith('allOf[0]'), 'applied to itself')
})

test('bounds that no number meets, or that cannot be spelled out, are refused', (t) => {
  const cases: [Record<string, unknown>, string][] = [
    [{ type: 'number', minimum: '1' }, 's.minimum'],
    [{ type: 'number', maximum: 1e300 }, 'accepted'],
    [{ type: 'number', minimum: 1e300 }, 's.minimum'],
    [{ type: 'number', minimum: 1e-9 }, 'accepted'],
    [{ type: 'number', minimum: 1e-300, maximum: 2e-300 }, 's.minimum'],
    [{ type: 'number', minimum: 1, exclusiveMaximum: 1 }, 's'],
    [{ type: 'number', exclusiveMinimum: -0.5, maximum: -0.5 }, 's'],
    [{ type: 'number', minimum: 2, maximum: 1 }, 's'],
    [{ type: 'integer', minimum: 5, exclusiveMinimum: 5, maximum: 5 }, 's'],
    [{ type: 'integer', minimum: 5, exclusiveMinimum: 3, maximum: 5 }, 'accepted'],
    [{ type: 'number', minimum: 12.5 }, 'accepted'],
    [{ type: 'number', exclusiveMinimum: 0 }, 'accepted'],
    [{ type: 'number', maximum: 0, minimum: 0 }, 'accepted'],
  ]
  for (const [schema, at] of cases) t.is(refusal(schema), at, JSON.stringify(schema))
})

test('a pattern is refused where a grammar cannot say it', (t) => {
  const pattern = (text: unknown) => refusal({ type: 'string', pattern: text })
  for (const text of ['^*$', '^a{$', '^a{2001}$', '^a{3,2}$', '^(a$', '^a)$', '^[a$', '^[b-a]$', '^a**$', '(?=a)*'])
    t.is(pattern(text), 's.pattern', text)
  for (const text of [`^${'('.repeat(33)}${')'.repeat(33)}$`, '^a\\', '(?<=a)b', '(?<!a)b', '(a)\\1', '(?<a>b)\\k<a>'])
    t.is(pattern(text), 's.pattern', text)
  for (const text of ['\\y', '\\p{Nothing}', '(?i:a)', 'a'.repeat(100_001)])
    t.is(pattern(text), 's.pattern', text.slice(0, 40))
  for (const text of ['^\\b$', '^[]$', 'a^', '$a', '^(?!a)a', '^\\ud800$', '^\\b[^\\w]$'])
    t.is(pattern(text), 's', `${text} matches nothing`)
  t.is(pattern(3), 's.pattern')
  for (const text of [
    '^$',
    '^\\\\$',
    '^a*?b+?c??$',
    '^a{2,}$',
    '^[^\\s]$',
    '^[\\d-z]$',
    '^a',
    'a$',
    'a|^b$|c',
    '^[\\b"]$',
    '^(?<year>\\d{4})\\b',
    '^(?=.*\\d)(?!.*(.)\\.).+$',
    '^[a-]$',
    '^[ -~äß]$',
    '^(?:a|)$',
    '^.\\.$',
  ])
    t.is(pattern(text), 'accepted', text)
})

test('limits of a string that contradict each other, or that nobody knows, are refused', (t) => {
  t.is(refusal({ type: 'string', pattern: '^a$', minLength: 1 }), 'accepted')
  t.is(refusal({ type: 'string', pattern: '^a$', minLength: 2 }), 's')
  t.is(refusal({ type: 'string', format: 'ipv4', pattern: '^[a-f]' }), 's')
  t.is(refusal({ type: 'string', format: 'regex' }), 's.format')
  t.is(refusal({ type: 'string', format: 3 }), 's.format')
  t.is(refusal({ type: 'string', format: 'toString' }), 's.format')
  t.is(refusal({ type: 'string', minLength: 3, maxLength: 2 }), 's.maxLength')
  t.is(refusal({ type: 'string', minLength: 1_000_001 }), 's.minLength')
  t.is(refusal({ type: 'string', maxLength: 1e9 }), 'accepted')
  t.is(refusal({ minLength: 3 }), 'accepted')
})

test('the end of a JSON object is found whatever its strings hold', (t) => {
  const text = '{"a\\"}": [{"b": "\\\\"}, "]"]} and more'
  const scan = new JsonScan()
  let length = 0
  for (const sign of text) {
    const step = scan.push(sign)
    length += step.length
    if (step.ended) break
  }
  t.is(text.slice(0, length), '{"a\\"}": [{"b": "\\\\"}, "]"]}')
  t.alike(new JsonScan().push(text), { length, ended: true })
  t.alike(new JsonScan().push('{"a'), { length: 3, ended: false })
})

test('the arguments of a tool are an object that its schema fits; without a description an empty one', (t) => {
  const lets = (parameters: Record<string, unknown> | undefined, text: string, strict?: boolean) =>
    new Walker(argumentsGrammar({ name: 'x', parameters, strict }, 0), new Dice(0)).accepts(text)
  t.ok(lets(undefined, '{} and more'))
  t.absent(lets({}, '{"a":1}'))
  t.absent(lets({ type: 'object', properties: {} }, '{"a":1}'))
  t.ok(lets({ type: 'object', additionalProperties: true }, '{"a":1}'))
  const referring = { $ref: '#/$defs/a', $defs: { a: { properties: { b: { const: 1 } }, required: ['b'] } } }
  t.ok(lets(referring, '{"b":1}'))
  t.absent(lets(referring, '{"b":2}'))
  t.absent(lets({ type: ['object', 'null'], properties: { a: { type: 'null' } } }, 'null'), 'an object in any case')
  const unsure = { properties: { a: { type: 'integer', not: { multipleOf: 2 } } }, required: ['a'] }
  t.ok(lets(unsure, '{"a":2}'), 'what cannot be enforced is left out')
  t.exception(() => lets(unsure, '{"a":2}', true), /parameters\.properties\.a\.not/, 'unless the tool is strict')
  t.exception(() => lets({ type: 'string' }, ''), /tools\[0\]\.parameters/)
  t.exception(() => lets({ properties: { a: { type: 'banana' } } }, ''), /properties\.a\.type/, 'in any case')
})

test('what a lenient schema cannot enforce is left out; what is no JSON Schema, or fits nothing, is refused', (t) => {
  const cases: [Record<string, unknown>, string][] = [
    [{ type: 'array', uniqueItems: true }, 's.uniqueItems'],
    [{ oneOf: [{ type: 'number' }, { type: 'integer' }] }, 's.oneOf'],
    [{ type: 'integer', not: { multipleOf: 3 } }, 's.not'],
    [{ type: 'object', additionalProperties: { type: 'null' }, minProperties: 2 }, 's.minProperties'],
    [{ type: 'array', minItems: 5000 }, 's.minItems'],
  ]
  for (const [schema, at] of cases) {
    t.is(refusal(schema), at, JSON.stringify(schema))
    t.is(refusal(schema, 'lenient'), 'accepted', JSON.stringify(schema))
  }
  const wrong: [Record<string, unknown>, string][] = [
    [{ type: 'banana' }, 's.type'],
    [{ minLength: 'x' }, 's.minLength'],
    [{ type: 'boolean', maximum: 'x' }, 's.maximum'],
    [{ anyOf: [] }, 's.anyOf'],
    [{ properties: { a: 3 } }, 's.properties'],
    [{ not: {} }, 's'],
    [
      {
        $ref: '#/$defs/a',
        $defs: { a: { type: 'object', properties: { a: { $ref: '#/$defs/a' } }, required: ['a'] } },
      },
      's.$defs.a.properties.a',
    ],
  ]
  for (const [schema, at] of wrong) {
    t.is(refusal(schema), at, JSON.stringify(schema))
    t.is(refusal(schema, 'lenient'), at, JSON.stringify(schema))
  }
})

test('what is no regular expression is refused where that is asked for, and left out otherwise', (t) => {
  const cases: [string, string][] = [
    ['{"pattern":"[z-a]"}', 's.pattern'],
    ['{"pattern":"(?i)^a$"}', 's.pattern'],
    ['{"type":"string","pattern":"("}', 's.pattern'],
    ['{"properties":{"a":{"pattern":"a{2,1}"}}}', 's.properties.a.pattern'],
    ['{"pattern":"^\\\\p{L}[\\\\p{Lu}-]+$"}', 'accepted'],
  ]
  for (const [json, at] of cases) {
    t.is(refusal(JSON.parse(json)), at, json)
    t.is(refusal(JSON.parse(json), 'lenient'), 'accepted', json)
  }
  t.is(refusal({ pattern: 'a{2001}' }), 's.pattern')
  t.is(refusal({ pattern: 'a{2001}' }, 'lenient'), 'accepted')
})

test('what cannot be told apart is refused by name, and is no schema that nothing fits', (t) => {
  const cases: [Record<string, unknown>, string, string][] = [
    [
      {
        oneOf: [
          { type: 'string', pattern: '^a', maxLength: 4 },
          { type: 'string', pattern: 'b$', maxLength: 4 },
        ],
      },
      's.oneOf',
      '"ax"',
    ],
    [
      { type: 'array', contains: { const: 2 }, unevaluatedItems: { enum: [3] }, minItems: 2, maxItems: 3 },
      's.unevaluatedItems',
      '[2,3]',
    ],
  ]
  for (const [schema, at, value] of cases) {
    t.is(refusal(schema), at)
    const walker = new Walker(jsonSchemaToGbnf(schema, 's', { mode: 'lenient' }), new Dice(5))
    t.ok(walker.accepts(value), value)
  }
  t.is(refusal({ type: 'array', contains: { const: 2 }, items: { enum: [2, 3] }, unevaluatedItems: false }), 'accepted')
})
