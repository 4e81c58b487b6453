import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import test, { type Test } from 'brittle'
import { zodResponseFormat } from 'openai/helpers/zod'
import * as z from 'zod'
import * as z3 from 'zod/v3'
import { MeshError } from '../lib/protocol/index.js'
import { numberFits, stringFits } from '../workers/processor/engine/json/fits.js'
import { FORMATS } from '../workers/processor/engine/json/formats.js'
import { SCHEMA_LIMITS } from '../workers/processor/engine/json/limits.js'
import type { EnforceMode } from '../workers/processor/engine/json/mode.js'
import { numberOf } from '../workers/processor/engine/json/numbers.js'
import { GrammarRules } from '../workers/processor/engine/json/rules.js'
import { stringOf } from '../workers/processor/engine/json/strings.js'
import { Dice } from './helpers/dice.js'
import { Walker } from './helpers/grammar.js'

/** Strings and numbers of schemas: what their grammars let through fits, and what fits they let through. */

type Schema = Record<string, unknown>

const ajv = new Ajv2020({ strict: false, logger: false, multipleOfPrecision: 9 })
formats.default(ajv)
const WALKS = 300

/** The limits of a schema and of those that apply beside it. */
function partsOf(schema: Schema): Schema[] {
  return [schema, ...(Array.isArray(schema.allOf) ? schema.allOf : [])]
}

function stringWalker(parts: readonly Schema[], mode: EnforceMode = 'strict'): Walker {
  const rules = new GrammarRules()
  return new Walker(rules.grammar(stringOf(rules, parts, 's', mode)), new Dice(5))
}

function numberWalker(type: 'number' | 'integer', parts: readonly Schema[], mode: EnforceMode = 'strict'): Walker {
  const rules = new GrammarRules()
  return new Walker(rules.grammar(numberOf(rules, type, parts, 's', mode)), new Dice(5))
}

/** Values that a grammar lets through; most walks come to an end. */
function made(t: Test, walker: Walker, what: string): unknown[] {
  const texts = Array.from({ length: WALKS }, () => walker.text(3000)).filter((text) => text !== undefined)
  if (texts.length < WALKS / 3) t.fail(`${what}: only ${texts.length} texts came to an end`)
  return texts.map((text) => JSON.parse(text))
}

/** All values fit, or the first that does not. */
function fitting(t: Test, what: string, values: readonly unknown[], fits: (value: unknown) => boolean) {
  const wrong = values.find((value) => !fits(value))
  t.is(wrong, undefined, what)
}

/** As what a schema is refused; `accepted` where it is not. */
function refusal(work: () => unknown): string {
  try {
    work()
  } catch (err) {
    if (err instanceof MeshError && err.code === 'BAD_REQUEST') return `${err.details.param}: ${err.message}`
    throw err
  }
  return 'accepted'
}

/** Each with texts that fit, as people write them. */
const OF_ZOD: Record<string, [type: z.ZodType, ...examples: string[]]> = {
  uuid: [z.uuid(), '123e4567-e89b-42d3-a456-426614174000'],
  uuidv7: [z.uuidv7(), '01890a5d-ac96-774b-bcce-b302099a8057'],
  guid: [z.guid(), '123E4567-e89b-02d3-f456-426614174000'],
  email: [z.email(), 'jane.doe+news@mail.example.org'],
  'email as HTML has it': [z.email({ pattern: z.regexes.html5Email }), 'a@example.com'],
  'email in any script': [z.email({ pattern: z.regexes.unicodeEmail }), 'a@example.com'],
  'email with a length': [z.email().max(60), 'jane.doe@example.org'],
  datetime: [z.iso.datetime(), '2024-02-29T23:59:59Z', '1999-12-31T00:00:00.123456Z'],
  'datetime with offset': [z.iso.datetime({ offset: true }), '2024-02-29T23:59:59+02:00', '2000-02-29T00:00:00Z'],
  'datetime without': [z.iso.datetime({ local: true }), '2024-02-29T23:59:59'],
  'datetime with milliseconds': [z.iso.datetime({ precision: 3 }), '2024-02-29T23:59:59.123Z'],
  'datetime with nanoseconds': [z.iso.datetime({ precision: 9 }), '2024-02-29T23:59:59.123456789Z'],
  date: [z.iso.date(), '2024-02-29', '2023-11-30'],
  time: [z.iso.time(), '23:59', '23:59:59', '23:59:59.5'],
  'time in minutes': [z.iso.time({ precision: -1 }), '23:59'],
  duration: [z.iso.duration(), 'P1Y2M3DT4H5M6S', 'PT90M', 'P3W', 'P2D'],
  ipv4: [z.ipv4(), '192.168.0.255'],
  ipv6: [z.ipv6(), '::1', 'fe80::1:2', '2001:db8:0:0:0:0:0:1', '::', '1:2:3:4:5:6:7::'],
  cidrv4: [z.cidrv4(), '10.0.0.0/8'],
  cidrv6: [z.cidrv6(), 'fe80::/64', '::/128'],
  url: [z.url(), 'https://example.org/a/b?c=d&e=%20#f', 'http://127.0.0.1:8080', 'mailto:a@b.org', 'urn:isbn:12'],
  'url with a length': [z.url().max(2083), 'https://example.org/', 'postgres://me:secret@db.internal:5432/main'],
  hostname: [z.hostname(), 'localhost', 'a-b.Example.org'],
  base64: [z.base64(), '', 'aGVsbG8=', 'aGVsbG8h', 'aA=='],
  base64url: [z.base64url(), 'aGVs_G8', 'aA'],
  e164: [z.e164(), '+4915112345678'],
  ulid: [z.ulid(), '01ARZ3NDEKTSV4RRFFQ69G5FAV'],
  cuid: [z.cuid(), 'cjld2cjxh0000qzrmn831i7rn'],
  cuid2: [z.cuid2(), 'tz4a98xxat96iws9zmbrgj3a'],
  nanoid: [z.nanoid(), 'V1StGXR8_Z5jdHi6B-myT'],
  xid: [z.xid(), '9m4e2mr0ui3e8a215n4g'],
  ksuid: [z.ksuid(), '0ujtsYcgvSTl8PAuAdqWYSMnLOv'],
  jwt: [z.jwt()],
  emoji: [z.emoji(), '🦊', '👩‍🚀🦊'],
  mac: [z.mac(), '00:1A:2B:3C:4D:5E'],
  hex: [z.hex(), 'c0ffee'],
  sha256: [z.hash('sha256'), 'a'.repeat(64)],
  regex: [z.string().regex(/^[a-z]+$/), 'abc'],
  'regex somewhere, with lengths': [z.string().regex(/a+b/).max(10).min(3), 'aab', 'xxaabxx"ß🦊'],
  startsWith: [z.string().startsWith('a.b'), 'a.b', 'a.b and "more"'],
  endsWith: [z.string().endsWith('!'), '!', 'he said "no"!'],
  includes: [z.string().includes('x'), 'x', 'a\nx'],
  'all three, with a length': [z.string().startsWith('a').endsWith('b').includes('c').max(20), 'acb', 'a c - b'],
  uppercase: [z.string().uppercase(), 'ÄB 12 "C"'],
  lowercase: [z.string().lowercase(), 'äb 12 "c"\n'],
  lengths: [z.string().min(2).max(5), 'ab', 'abcde'],
  'template literal': [z.templateLiteral(['a-', z.number(), '-', z.enum(['x', 'y'])]), 'a--1.5-x'],
  'literal text with signs of its own': [z.string().startsWith('$1.50 (a|b)*'), '$1.50 (a|b)* and'],
}

test('each kind of string that zod writes is enforced, with its pattern and its length', (t) => {
  for (const [what, [type, ...examples]] of Object.entries(OF_ZOD)) {
    const schema: Schema = z.toJSONSchema(type)
    const walker = stringWalker(partsOf(schema))
    const isFormat = typeof schema.format !== 'string' || ajv.formats[schema.format] !== undefined
    const fits = ajv.compile(isFormat ? schema : { ...schema, format: undefined })
    fitting(t, what, made(t, walker, what), (value) => fits(value) && type.safeParse(value).success)
    for (const example of examples) {
      t.ok(type.safeParse(example).success, `${what}: ${example} is one`)
      t.ok(walker.accepts(JSON.stringify(example)), `${what}: ${example} is let through`)
    }
  }
})

test('what zod 3 writes through the OpenAI client is enforced', (t) => {
  const s = z3.string()
  const types = {
    uuid: s.uuid(),
    email: s.email(),
    url: s.url(),
    datetime: s.datetime({ offset: true }),
    date: s.date(),
    time: s.time(),
    duration: s.duration(),
    ip: s.ip({ version: 'v4' }),
    ip6: s.ip({ version: 'v6' }),
    cuid: s.cuid(),
    cuid2: s.cuid2(),
    ulid: s.ulid(),
    nanoid: s.nanoid(),
    emoji: s.emoji(),
    regex: s.regex(/^a+/),
    bounds: s.startsWith('a').endsWith('b').includes('c').min(3).max(20),
  }
  const { schema } = zodResponseFormat(z3.object(types), 'x').json_schema
  const properties = (schema?.properties ?? {}) as Record<string, Schema>
  for (const [what, one] of Object.entries(properties)) {
    const fits = ajv.compile(one)
    fitting(t, what, made(t, stringWalker(partsOf(one)), what), (value) => fits(value))
  }
})

test('what pydantic writes is enforced', (t) => {
  const number = String.raw`^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$`
  const cases: [Schema, ...string[]][] = [
    [{ format: 'uri', minLength: 1, maxLength: 2083 }, 'https://example.org/a'],
    [{ pattern: number }, '12.50', '-.5', '+007'],
    [{ pattern: String.raw`^(?!^[-+.]*$)[+-]?0*(?:\d{0,6}|(?=[\d.]{1,9}0*$)\d{0,6}\.\d{0,2}0*$)` }, '123.45'],
    [{ format: 'duration' }, 'P1DT2H'],
    [{ format: 'uuid4' }, '123e4567-e89b-42d3-a456-426614174000'],
    [{ format: 'ipvanyaddress' }, '::1', '1.2.3.4'],
    [{ format: 'ipv4network' }, '10.0.0.0/8', '192.168.1.0/24'],
    [{ format: 'password', writeOnly: true, minLength: 8 }, 'p"ss word'],
    [{ format: 'binary' }, 'any \\ "text"'],
    [{ format: 'path' }, '/a/b'],
    [{ pattern: '^[a-z]+$', minLength: 3, maxLength: 5000 }, 'abc', 'a'.repeat(5000)],
  ]
  for (const [schema, ...examples] of cases) {
    const what = JSON.stringify(schema)
    const fits = ajv.compile({ ...schema, format: undefined })
    const walker = stringWalker([schema])
    fitting(t, what, made(t, walker, what), (value) => fits(value))
    for (const example of examples) t.ok(walker.accepts(JSON.stringify(example)), `${example} is let through`)
  }
  t.absent(stringWalker([{ pattern: number }]).accepts('"+-."'))
})

test('texts of each format that ajv knows are of that format', (t) => {
  let known = 0
  for (const name of FORMATS.keys()) {
    if (ajv.formats[name] === undefined) continue
    known++
    const fits = ajv.compile({ type: 'string', format: name })
    fitting(t, name, made(t, stringWalker([{ format: name }]), name), (value) => fits(value))
  }
  t.ok(known >= 20, `${known} formats`)
})

/** Patterns that are followed by an automaton, and some that are written as they stand. */
const PATTERNS = [
  '^(?!\\.)(?!.*\\.\\.)[ab.]+$',
  '^(?:(?!ab).)*$',
  '^(?=.*a)(?=.*1).{2,4}$',
  'a(?!b)',
  'a(?=b|$)',
  '\\bab\\b',
  '\\Ba',
  '^a|b$',
  '(^|-)a($|-)',
  '^(a|b)*a(a|b)$',
  '^[^a]$',
  '^\\s\\S$',
  '^.$',
  '^[\\s\\S]{2}$',
  '"',
  '^\\\\+$',
  '^[\\]"\\\\-]{1,3}$',
  '^\\u{1F98A}?\\ud83e\\udd8a$',
  '^[a-c\\ud800-\\udfff]{2}$',
  '^[^\\ud800-\\udfff]$',
  '^(?:[ab]|[\\ud800-\\udbff][\\udc00-\\udfff]){2}$',
  '^[\\ud7ff-\\ue000a]+$',
  '^\\p{L}+$',
  '^\\P{L}\\p{Lu}?$',
  '^(?<first>a)(?:b|)+?$',
  '^a{2,}b{0,1}?$',
  '^(?:a(?=1)|b(?!1))[1-]$',
  '^(?!a(?!b)).*$',
  '^(?:\\b[ab]+\\b-?)+$',
  '^$|^ab$',
  '',
]

test('a text is let through exactly where its pattern matches it, alone and beside another limit', (t) => {
  const dice = new Dice(11)
  const signs = [...'aabb11-.. \n"\\é'.split(''), '🦊']
  const texts = Array.from({ length: 1500 }, () =>
    Array.from({ length: dice.below(6) }, () => dice.one(signs)).join(''),
  )
  for (const pattern of PATTERNS) {
    const regex = new RegExp(pattern, 'u')
    const alone = stringWalker([{ pattern }])
    const sized = stringWalker([{ pattern }, { minLength: 1, maxLength: 4 }])
    const beside = stringWalker([{ pattern }, { pattern: '^(?!ba)[\\s\\S]*$' }])
    const wrong = texts.find((text) => {
      const [json, length] = [JSON.stringify(text), [...text].length]
      const is = regex.test(text)
      return (
        stringFits(text, [{ pattern }]) !== is ||
        alone.accepts(json) !== is ||
        sized.accepts(json) !== (is && length >= 1 && length <= 4) ||
        beside.accepts(json) !== (is && /^(?!ba)[\s\S]*$/u.test(text))
      )
    })
    t.is(wrong, undefined, pattern)
    for (const walker of [alone, sized, beside]) {
      fitting(t, `${pattern} made`, made(t, walker, pattern), (value) => typeof value === 'string' && regex.test(value))
    }
  }
})

test('lengths count code points, however they are written', (t) => {
  const walker = stringWalker([{ minLength: 2, maxLength: 3 }])
  fitting(t, '2 to 3', made(t, walker, '2 to 3'), (value) => /^[\s\S]{2,3}$/u.test(String(value)))
  t.ok(walker.accepts('"🦊🦊🦊"'))
  t.ok(walker.accepts('"\\u00e9\\n"'))
  t.absent(walker.accepts('"\\ud83e\\udd8a"'), 'a sign in two halves would count as two')
  t.absent(walker.accepts('"🦊"'))
  const [long, pair] = [stringWalker([{ minLength: 1500, maxLength: 4321 }]), stringWalker([{ maxLength: 1000 }])]
  for (const [length, fits] of [
    [1499, false],
    [1500, true],
    [3000, true],
    [4000, true],
    [4321, true],
    [4322, false],
  ] as const) {
    t.is(long.accepts(`"${'x'.repeat(length)}"`), fits, `${length} of 1500 to 4321`)
  }
  t.ok(pair.accepts(`"${'x'.repeat(1000)}"`))
  t.absent(pair.accepts(`"${'x'.repeat(1001)}"`))
})

test('what is left of a pattern beside a length is as long as there is room for', (t) => {
  const walker = stringWalker([{ pattern: '^(?!.*secret)[\\s\\S]+$', maxLength: 5000 }])
  t.ok(walker.accepts(`"${'a secre '.repeat(60)}"`))
  t.absent(walker.accepts('"a secret "'))
  t.ok(stringWalker([{ format: 'uri', maxLength: 2083 }]).accepts(`"https://example.org/${'a'.repeat(150)}"`))
})

test('in lenient mode what cannot be followed is left out, and nothing else', (t) => {
  t.ok(stringWalker([{ format: 'phone', pattern: '(a)\\1' }], 'lenient').accepts('"x"'))
  const rest = stringWalker(
    [
      { format: 'phone', pattern: '(?<=a)b' },
      { pattern: '^c', maxLength: 2 },
    ],
    'lenient',
  )
  t.ok(rest.accepts('"cd"'))
  t.absent(rest.accepts('"dd"'))
  t.absent(rest.accepts('"ccc"'))
  t.ok(numberWalker('integer', [{ multipleOf: 86_400, minimum: 1 }], 'lenient').accepts('7'))
  t.absent(numberWalker('integer', [{ multipleOf: 86_400, minimum: 1 }], 'lenient').accepts('0'))
  t.ok(numberWalker('number', [{ minimum: 1e300 }], 'lenient').accepts('1e99'))
  for (const mode of ['strict', 'lenient'] as const) {
    const string = (...parts: Schema[]) => refusal(() => stringWalker(parts, mode))
    t.ok(string({ pattern: '^a' }, { pattern: '^b' }).startsWith('s: '), `${mode}: patterns that exclude each other`)
    t.ok(string({ pattern: 3 }).startsWith('s.pattern: '))
    t.ok(string({ maxLength: -1 }).startsWith('s.maxLength: '))
    t.ok(refusal(() => numberWalker('number', [{ minimum: 1 }, { maximum: 0 }], mode)).startsWith('s: '))
    t.ok(refusal(() => numberWalker('number', [{ multipleOf: 0 }], mode)).startsWith('s.multipleOf: '))
  }
  t.ok(refusal(() => stringWalker([{ format: 'phone' }])).startsWith('s.format: '))
  t.ok(refusal(() => stringWalker([{ pattern: '(a)\\1' }])).startsWith('s.pattern: '))
})

test('limits that would take too much are refused by what it is and how much is allowed', (t) => {
  const beside = { maxLength: 900 }
  const words = (count: number) => Array.from({ length: count }, (_, i) => ({ pattern: `word ${i}` }))
  const categories = 'C Cc Cf Cn Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc'.split(' ')
  const properties = ['', 'gc=', 'General_Category='].flatMap((of) => categories.map((name) => `\\p{${of}${name}}`))
  const cases: [string, Schema[]][] = [
    ['a choice whose end is far from where it is known', [{ pattern: '(a|b)*a(a|b){20}$' }, beside]],
    ['counts within counts', [{ pattern: '^(((a{100}){100}){100}){100}$' }, beside]],
    ['options within options', [{ pattern: '^((((a?){100}){100}){100}){100}$' }, beside]],
    ['fifty words that all have to be there', words(50)],
    ['two counts that drift apart', [{ pattern: '^(?:a.{0,500})*$' }, { pattern: 'b.{100,900}$' }]],
    [
      'looking ahead while looking ahead',
      [{ pattern: `${'(?=.*(?!'.repeat(14)}(a|b)*a.{15}${'))'.repeat(14)}` }, beside],
    ],
    ['a text that is too long to be made', [{ pattern: '^(?:ab|cd|efg)*$', minLength: 100_000 }]],
    ['ninety properties', [{ pattern: properties.join('') }]],
  ]
  for (const [i, [what, parts]] of cases.entries()) {
    for (const mode of i === 0 ? (['strict', 'lenient'] as const) : (['strict'] as const)) {
      const why = refusal(() => stringWalker(parts, mode))
      const allowed = [SCHEMA_LIMITS.automatonSteps, SCHEMA_LIMITS.automatonStates].some((n) =>
        why.includes(`at most ${n} `),
      )
      t.ok(allowed, `${what}: ${why.slice(0, 160)}`)
    }
  }
  const large = stringWalker([{ pattern: '^(a|b)*a(a|b){20}$' }])
  t.ok(large.accepts(`"ba${'b'.repeat(20)}"`), 'alone it is written as it stands')
})

test('the same limits in many places are made once', (t) => {
  const rules = new GrammarRules()
  const limits = () => [{ ...z.toJSONSchema(z.email().max(60)) }]
  const first = stringOf(rules, limits(), 'a', 'strict')
  for (let i = 0; i < 1000; i++) if (stringOf(rules, limits(), `b${i}`, 'strict') !== first) t.fail('made again')
  t.pass()
})

test('numbers keep to their bounds and are multiples, exactly', (t) => {
  const most = Number.MAX_SAFE_INTEGER
  const cases: ['number' | 'integer', Schema[], fits: number[]][] = [
    ['integer', [{ minimum: -most, maximum: most }], [0, -most, most]],
    ['integer', [{ minimum: -most, maximum: most, multipleOf: 5 }], [0, -5, 999_995]],
    ['integer', [{ minimum: 3 }, { maximum: 17, multipleOf: 2 }, { multipleOf: 3 }], [6, 12]],
    ['integer', [{ multipleOf: 2.5 }], [-5, 0, 10]],
    ['integer', [{ multipleOf: 7, exclusiveMinimum: 7 }], [14, 7_000_000]],
    ['integer', [{ multipleOf: 1024, minimum: 0 }], [0, 1_048_576]],
    ['integer', [{ multipleOf: 4999 }], [0, 4999, -9998]],
    ['integer', [{ multipleOf: 9973, minimum: 0, maximum: 5e6 }], [9973 * 501]],
    ['number', [{ multipleOf: 0.01 }], [0, 19.99, -0.5]],
    ['number', [{ multipleOf: 0.01, exclusiveMinimum: 0 }], [0.01, 1299.5]],
    ['number', [{ multipleOf: 0.5, minimum: 0.125 }], [0.5, 12]],
    ['number', [{ multipleOf: 0.1, minimum: 0, maximum: 360 }], [0, 0.3, 359.9]],
    ['number', [{ multipleOf: 0.15, minimum: -1e9, maximum: 123_456.78 }], [0.15, -0.3]],
    ['number', [{ multipleOf: 1e-7 }], [1e-6]],
    ['number', [{ minimum: -3.4028234663852886e38, maximum: 3.4028234663852886e38 }], [1.5, 0, -1e6]],
    ['number', [{ minimum: 1e-9 }], [1.000000001]],
    ['number', [{ exclusiveMinimum: 0, exclusiveMaximum: 1 }], [0.5]],
    ['number', [{ exclusiveMaximum: 1000 }], [999.999, -5]],
    ['number', [{ exclusiveMaximum: 0.5, minimum: 0.25 }], [0.25, 0.4999]],
    ['number', [{ minimum: 0.1, maximum: 0.1 + 0.2 }], [0.1, 0.25, 0.3]],
    ['number', [{ minimum: 12, exclusiveMinimum: true, maximum: 13 }], [12.5, 13]],
  ]
  for (const [type, parts, examples] of cases) {
    const what = `${type} ${JSON.stringify(parts)}`
    const walker = numberWalker(type, parts)
    const limits = parts.map((part) => (part.exclusiveMinimum === true ? { exclusiveMinimum: part.minimum } : part))
    const fits = (value: unknown) =>
      typeof value === 'number' && (type === 'number' || Number.isInteger(value)) && numberFits(value, limits)
    fitting(t, what, made(t, walker, what), fits)
    for (const one of examples) {
      t.ok(fits(one), `${one} is within`)
      t.ok(
        [`${one}`, one.toFixed(1), one.toFixed(2), one.toFixed(9)].some((text) => walker.accepts(text)),
        `${what} ${one}`,
      )
    }
  }
  t.ok(refusal(() => numberWalker('integer', [{ multipleOf: 86_400 }])).startsWith('s.multipleOf: '))
  t.ok(
    refusal(() => numberWalker('integer', [{ multipleOf: 7, minimum: 8, maximum: 13 }])).startsWith('s.multipleOf: '),
  )
})

test('bounds hold for the double that a written number is read as', (t) => {
  const tight: ['number' | 'integer', Schema, string[], string[]][] = [
    [
      'number',
      { exclusiveMinimum: 0.3, maximum: 0.30000000000000004 },
      ['0.30000000000000004'],
      ['0.30000000000000001'],
    ],
    [
      'number',
      { exclusiveMinimum: 1, maximum: 1.0000000000000004 },
      ['1.0000000000000002', '1.0000000000000004'],
      ['1.0000000000000001', '1'],
    ],
    ['integer', { exclusiveMinimum: 2 ** 53 }, ['9007199254740994'], ['9007199254740993']],
    ['integer', { exclusiveMaximum: -(2 ** 53) }, ['-9007199254740994'], ['-9007199254740993']],
    [
      'integer',
      { multipleOf: 3, minimum: 2 ** 53, maximum: 2 ** 53 + 10 },
      ['9007199254740996'],
      ['9007199254740993', '9007199254740999'],
    ],
    ['number', { exclusiveMinimum: 0, maximum: 0.1234567890123456 }, ['0.1'], ['0', '0.0']],
  ]
  for (const [type, part, those, others] of tight) {
    const walker = numberWalker(type, [part])
    for (const one of those) t.ok(walker.accepts(one), `${JSON.stringify(part)} ${one}`)
    for (const one of others) t.absent(walker.accepts(one), `${JSON.stringify(part)} ${one}`)
    const what = JSON.stringify(part)
    fitting(t, what, made(t, walker, what), (value) => typeof value === 'number' && numberFits(value, [part]))
  }
  const between = refusal(() => numberWalker('number', [{ exclusiveMinimum: 1, exclusiveMaximum: 1.0000000000000002 }]))
  t.ok(between.includes('no number fits'), between)
  for (const part of [{ minimum: 1e-320, maximum: 1e-310 }, { minimum: 1e308 }]) {
    const why = refusal(() => numberWalker('number', [part]))
    t.ok(why.includes('cannot be enforced'), why)
    t.ok(numberWalker('number', [part], 'lenient').accepts('7'))
  }
})

test('multiples of what is too small or too great are refused by name, or left out beside their bounds', (t) => {
  for (const multipleOf of [1e-15, 1e-20, 1e-300, 5e-324, 123_456_789, 1e21, 1e308]) {
    const why = refusal(() => numberWalker('number', [{ multipleOf }]))
    t.ok(why.startsWith('s.multipleOf: ') && why.includes('can be enforced'), why)
    const walker = numberWalker('number', [{ multipleOf, minimum: 3 }], 'lenient')
    t.ok(walker.accepts('5'))
    t.absent(walker.accepts('2'))
  }
})

test('a value is measured against limits as JSON Schema means them', (t) => {
  t.ok(numberFits(0.07, [{ multipleOf: 0.01 }]), 'exactly, not as doubles divide')
  t.absent(numberFits(0.075, [{ multipleOf: 0.01 }]))
  t.absent(numberFits(3, [{ minimum: 1 }, { exclusiveMaximum: 3 }]))
  t.ok(numberFits(1e21, [{ multipleOf: 3e20 / 3 }]))
  t.ok(stringFits('🦊🦊', [{ maxLength: 2 }, { pattern: '🦊$' }]))
  t.absent(stringFits('🦊🦊', [{ minLength: 3 }]))
  t.absent(stringFits('ab', [{ pattern: ['^a', 'c$'] }]))
  t.ok(stringFits('aa', [{ pattern: '^(a)\\1$' }]), 'what cannot be followed is not looked at')
  t.absent(stringFits(`${'a'.repeat(200)}b`, [{ pattern: '^(a+)+$' }]), 'without trial and error')
  t.absent(stringFits('ab'.repeat(100_000), [{ pattern: '^(a|b)*$' }]), 'too many steps')
  t.ok(stringFits('no date', [{ format: 'date' }]), 'a format is not looked at')
})
