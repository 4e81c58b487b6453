import { Ajv } from 'ajv'
import test from 'brittle'
import { MeshError } from '../lib/protocol/index.js'
import { compile } from '../workers/processor/engine/compile.js'
import { Compiler } from '../workers/processor/engine/compiler.js'
import { Effort } from '../workers/processor/engine/grammar/effort.js'
import {
  Automaton,
  GRAMMAR_LIMITS,
  Matcher,
  parseGrammar,
  Room,
  Tokens,
} from '../workers/processor/engine/grammar/index.js'
import { hasBit } from '../workers/processor/engine/grammar/tokens.js'
import { SCHEMA_LIMITS } from '../workers/processor/engine/json/limits.js'
import { failure } from './engine-kit.js'
import { Dice } from './helpers/dice.js'
import { ladder, wide } from './helpers/hostile-schemas.js'

/** Grammars at work, on a vocabulary that is made up: no model is needed. */

const END = 0
const HALVES = [Uint8Array.of(0xf0, 0x9f), Uint8Array.of(0xa6, 0x8a), Uint8Array.of(0xc3), Uint8Array.of(0xa4)]
const TEXTS = ['{"', '":', '": ', 'ab', 'abc', ' \n', 'true', 'null', '🦊', 'ä', '漢', '\x00']
const SPELLED = [
  new Uint8Array(),
  ...Array.from({ length: 95 }, (_, i) => Uint8Array.of(32 + i)),
  ...TEXTS.map((text) => Buffer.from(text)),
  ...HALVES,
]
const TOKENS = new Tokens(SPELLED.map((bytes, id) => ({ bytes, ends: id === END })))
const tokenOf = (text: string) => SPELLED.findIndex((bytes) => Buffer.from(bytes).toString() === text)

function matcherOf(grammar: string, room = new Room()): Matcher {
  return new Matcher({ automaton: new Automaton(parseGrammar(grammar, 'g'), room), param: 'g' }, TOKENS)
}

/** True where the grammar lets exactly this text through. */
function lets(grammar: string, text: string): boolean {
  const matcher = matcherOf(grammar)
  return matcher.takeText(text) && matcher.complete
}

function refusal(work: () => unknown): string {
  try {
    work()
  } catch (err) {
    if (err instanceof MeshError && err.code === 'BAD_REQUEST') return err.message
    throw err
  }
  return 'accepted'
}

/** A text that the grammar lets through, by chance; undefined where it has not ended after so many tokens. */
function walk(matcher: Matcher, dice: Dice, most: number): string | undefined {
  const bytes: number[] = []
  for (let i = 0; i < most; i++) {
    const bits = matcher.allowed()
    const allowed = [...SPELLED.keys()].filter((id) => hasBit(bits, id))
    const token = matcher.complete && dice.below(3) > 0 ? END : dice.one(allowed)
    if (!matcher.take(token)) throw new Error(`the token ${token} is allowed and not taken`)
    if (token === END) return Buffer.from(bytes).toString()
    bytes.push(...(SPELLED[token] ?? []))
  }
  return undefined
}

test('a grammar lets through what its notation says', (t) => {
  const cases: [grammar: string, fits: string[], fitsNot: string[]][] = [
    ['root ::= "a" | "b" "c"', ['a', 'bc'], ['', 'b', 'ab']],
    ['root ::= [a-c]{2,3}', ['ab', 'abc'], ['a', 'abca', 'ad']],
    ['root ::= [^a-c]+ # nothing of these\n', ['xyz', '漢'], ['', 'xa']],
    ['root ::= ("a" | "b")* "c"?', ['', 'c', 'abba', 'abc'], ['cc', 'ca']],
    ['root ::= "a"{3} "b"{0} "c"{2,}', ['aaacc', 'aaaccccc'], ['aaac', 'aacc', 'aaabcc']],
    ['root ::= "ab"{20}', ['ab'.repeat(20)], ['ab'.repeat(19), 'ab'.repeat(21)]],
    ['root ::= .{2}', ['🦊a'], ['a']],
    ['root ::= "\\x41\\u00e4\\U0001F98A\\n\\"\\\\\\[\\]"', ['Aä🦊\n"\\[]'], []],
    ['root ::= [-a] [a-]', ['-a', 'a-'], ['ab']],
    ['root ::= list\nlist ::= "(" list* ")"', ['()', '(()(()))'], ['(', '())']],
    ['root ::=\n  "a" |\n  "b" (\n "c"\n )', ['a', 'bc'], ['b']],
    ['root ::= ((("a"*)*)*)* "b"', ['b', 'aaab'], ['a']],
    ['root ::= [z-a] | "x"', ['x'], ['m']],
  ]
  for (const [grammar, fits, fitsNot] of cases) {
    for (const text of fits) t.ok(lets(grammar, text), `${grammar} lets ${JSON.stringify(text)} through`)
    for (const text of fitsNot) t.absent(lets(grammar, text), `${grammar} does not let ${JSON.stringify(text)} through`)
  }
})

test('a grammar that is malformed is refused by its place', (t) => {
  const cases: [grammar: string, says: RegExp][] = [
    ['', /no rule root/],
    ['root ::= nowhere', /no rule nowhere/],
    ['root = "a"', /line 1, character 6: expected ::=/],
    ['root ::= "a', /expected the end of a literal/],
    ['root ::= ["a', /expected the end of a literal or a class/],
    ['root ::= ("a"', /expected \)/],
    ['root ::= "a" )', /expected the end of the line/],
    ['root ::= "\\q"', /expected a known escape/],
    ['root ::= "\\UFFFFFFFF"', /does not exist/],
    ['root ::= "a"{x}', /expected {least,most}/],
    ['root ::= "a"{3,2}', /at least 3 and at most 2/],
    ['root ::= ""*', /a repetition of nothing/],
    ['root ::= <think>', /only text can be described/],
    ['root ::= root "a" | "b"', /left recursion: the rule root/],
    ['root ::= a "x"\na ::= b a "q" | "y"\nb ::= c\nc ::= "" | "z"', /left recursion: the rule a/],
  ]
  for (const [grammar, says] of cases) {
    const message = refusal(() => parseGrammar(grammar, 'g'))
    t.ok(says.test(message), `${JSON.stringify(grammar)}: ${message}`)
  }
  t.is(
    refusal(() => matcherOf('root ::= root | "a"')),
    'accepted',
    'what goes in a circle and remembers nothing',
  )
})

test('tokens that hold part of a sign come only where their sign may', (t) => {
  const fox = matcherOf('root ::= "🦊" | "x"')
  const [front = 0, back = 0, a = 0] = HALVES.map((half) => SPELLED.indexOf(half))
  const allowed = (matcher: Matcher) => {
    const bits = matcher.allowed()
    return [...SPELLED.keys()].filter((id) => hasBit(bits, id))
  }
  t.alike(allowed(fox), [tokenOf('x'), tokenOf('🦊'), front])
  t.absent(fox.take(back), 'no sign begins with it')
  t.absent(fox.take(a), 'no sign of the grammar begins with it')
  t.ok(fox.take(front))
  t.absent(fox.complete)
  t.absent(fox.take(tokenOf('x')), 'the sign is not whole')
  t.alike(allowed(fox), [back])
  t.ok(fox.take(back))
  t.alike(allowed(fox), [END])
  t.ok(fox.take(END))
  t.absent(matcherOf('root ::= "a"').take(END), 'an answer may not end before it is whole')
  const end = matcherOf('root ::= "a" [z-a]')
  t.ok(end.take(tokenOf('a')))
  t.ok(/dead end/.test(refusal(() => end.allowed())))
})

test('a sign is written in as few bytes as it needs, and as one: nothing else is UTF-8', (t) => {
  const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte))
  const pairs = [
    [0xe0, 0x99],
    [0xf0, 0x82],
    [0xed, 0xa0],
    [0xc2, 0x80],
  ].map((pair) => Uint8Array.from(pair))
  const spelled = [new Uint8Array(), ...bytes, ...pairs]
  const tokens = new Tokens(spelled.map((bytes, id) => ({ bytes, ends: id === END })))
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  const isWhole = (said: readonly number[]) => {
    try {
      return utf8.decode(Uint8Array.from(said)).length > 0
    } catch {
      return false
    }
  }
  for (const grammar of ['root ::= .', 'root ::= [^a]', 'root ::= [\u0660-\u07ff\u2100-\uffff]']) {
    const automaton = new Automaton(parseGrammar(grammar, 'g'), new Room())
    let whole = 0
    const go = (taken: readonly number[]): void => {
      const matcher = new Matcher({ automaton, param: 'g' }, tokens)
      if (!taken.every((token) => matcher.take(token))) return t.fail(`${grammar}: ${taken}`)
      const said = taken.flatMap((token) => [...(spelled[token] ?? [])])
      if (matcher.complete) {
        whole++
        if (!isWhole(said)) t.fail(`${grammar}: ${said.map((byte) => byte.toString(16))}`)
        return
      }
      const bits = matcher.allowed()
      const next = spelled.flatMap((_, id) => (id !== END && hasBit(bits, id) ? [id] : []))
      // Of what goes on alike, the ends are enough.
      const some = taken.length === 0 ? next : [...new Set([next[0], next.at(-1), ...next.slice(-4)])]
      for (const token of some) if (token !== undefined) go([...taken, token])
    }
    go([])
    t.ok(whole > 300, `${whole} signs of ${grammar}`)
  }
  const overlong = new Matcher(
    { automaton: new Automaton(parseGrammar('root ::= .', 'g'), new Room()), param: 'g' },
    tokens,
  )
  t.absent(overlong.take(spelled.length - 4), 'e0 99 would be U+0640 to U+067F, which have two bytes')
  t.absent(overlong.take(spelled.length - 3), 'f0 82 would be U+2000 to U+2FFF, which have three')
  t.absent(overlong.take(spelled.length - 2), 'ed a0 would be half of a sign')
})

test('what any schema lets through fits it', (t) => {
  const dice = new Dice(7)
  const ajv = new Ajv({ strict: false })
  let whole = 0
  for (const schema of SCHEMAS) {
    const fits = ajv.compile(schema)
    const program = compile({ of: 'schema', schema })
    const automaton = new Automaton(program, new Room())
    for (let i = 0; i < 25; i++) {
      const text = walk(new Matcher({ automaton, param: 's' }, TOKENS), dice, 300)
      if (text === undefined) continue
      whole++
      if (!fits(JSON.parse(text))) return t.fail(`${text} does not fit ${JSON.stringify(schema)}`)
    }
  }
  t.ok(whole > SCHEMAS.length * 5, `${whole} values were made`)
})

const SCHEMAS: Record<string, unknown>[] = [
  { type: 'string', pattern: '^[a-z]{3,20}-x{2}(ab|c)*$' },
  { type: 'string', pattern: '^[\u{10000}-\u{10ffff}ä]{0,3}$' },
  { type: 'string', minLength: 1, maxLength: 4 },
  { type: ['integer', 'null'], minimum: -12, maximum: 107 },
  { enum: ['abc', 'ab', 'a"b', 1, null, { a: [true] }] },
  { properties: { a: { const: 1 }, ab: { type: 'null' } }, additionalProperties: { type: 'boolean' } },
  { properties: { a: { type: 'string' } }, required: ['a'], allOf: [{ properties: { a: { enum: ['x', 'y'] } } }] },
  {
    anyOf: [
      { properties: { a: { const: 1 } }, required: ['a'] },
      { properties: { a: { const: 2 } }, required: ['a'] },
    ],
  },
  { $ref: '#/$defs/n', $defs: { n: { anyOf: [{ type: 'array', items: { $ref: '#/$defs/n' } }, { type: 'null' }] } } },
  ladder(3, 3, { type: 'object', properties: { a: { type: 'null' } }, required: ['a'], additionalProperties: false }),
]

test('definitions are converted once, however often they are referred to', (t) => {
  const began = performance.now()
  const { elements } = compile({ of: 'schema', schema: ladder(25, 6) })
  t.ok(elements.length < 1000, `${elements.length} elements`)
  t.ok(performance.now() - began < 2000)
  const shared = { type: 'array', items: { type: 'boolean' }, maxItems: 2000 }
  const one = compile({ of: 'schema', schema: wide(1, {}, shared) }).elements.length
  const hundred = compile({ of: 'schema', schema: wide(100, {}, shared) }).elements.length
  t.ok(hundred < 2 * one, `${one} elements for one list, ${hundred} for a hundred`)
  const endless = {
    allOf: [{ $ref: '#/$defs/a' }],
    $defs: { a: { allOf: [{ $ref: '#/$defs/b' }] }, b: { $ref: '#/$defs/a' } },
  }
  t.ok(/applies to itself|nested more/.test(refusal(() => compile({ of: 'schema', schema: endless }))))
})

test('what OpenAI allows compiles and is followed', (t) => {
  const dice = new Dice(3)
  const strings = Array.from({ length: 1000 }, (_, i) => `${i}`.padEnd(120, 'x'))
  let nested: Record<string, unknown> = { type: 'string' }
  for (let i = 0; i < 10; i++) nested = { ...wide(i === 9 ? 400 : 1, {}, nested), additionalProperties: false }
  const required = wide(5000)
  const schemas = {
    '5,000 properties': wide(5000),
    '5,000 required properties': {
      ...required,
      required: Object.keys(required.properties ?? {}),
      additionalProperties: false,
    },
    '5,000 properties beside others': wide(5000, { additionalProperties: { type: 'string' } }),
    '1,000 enum values of 120,000 characters': { enum: strings },
    '10 levels': nested,
  }
  for (const [what, schema] of Object.entries(schemas)) {
    const automaton = new Automaton(compile({ of: 'schema', schema }), new Room())
    t.is(
      refusal(() => walk(new Matcher({ automaton, param: 's' }, TOKENS), dice, 150)),
      'accepted',
      what,
    )
  }
})

test('what is too much is refused by what it is, how much there is, and the limit', (t) => {
  const values = Array.from({ length: SCHEMA_LIMITS.enumValues + 1 }, (_, i) => i)
  const cases: [work: () => unknown, says: string][] = [
    [() => compile({ of: 'schema', schema: wide(10_001) }), '10001 properties; at most 10000 are allowed'],
    [() => compile({ of: 'schema', schema: { enum: values } }), '10001 enum values; at most 10000 are allowed'],
    [() => compile({ of: 'schema', schema: { const: 'x'.repeat(1e6) } }), '1000005 characters; at most 1000000'],
    [() => compile({ of: 'schema', schema: unfolded(20) }), 'steps to convert it; at most 150000'],
    [() => parseGrammar(`root ::= ${'('.repeat(257)}`, 'g'), '257 brackets within each other; at most 256'],
    [() => parseGrammar('root ::= "a"{2001}', 'g'), 'repeats something 2001 times; at most 2000'],
    [() => parseGrammar(`root ::= "ab"${'{2000}'.repeat(50)}`, 'g'), 'accepted'],
    [() => parseGrammar(manyRepeats(2000), 'g'), `elements, or more; at most ${GRAMMAR_LIMITS.elements}`],
    [() => matcherOf(doubling(40)), `more than ${GRAMMAR_LIMITS.ways} ways at one point`],
  ]
  for (const [work, says] of cases) t.ok(refusal(work).includes(says), `${says}: ${refusal(work).slice(0, 200)}`)
})

function unfolded(levels: number): Record<string, unknown> {
  const $defs: Record<string, unknown> = { [`l${levels}`]: { properties: {} } }
  for (let i = 0; i < levels; i++) {
    const one = (name: string) => ({ $ref: `#/$defs/l${i + 1}`, properties: { [name + i]: { type: 'null' } } })
    $defs[`l${i}`] = { anyOf: [one('a'), one('b')] }
  }
  return { $ref: '#/$defs/l0', $defs }
}

function manyRepeats(count: number): string {
  return `root ::= ${Array.from({ length: count }, (_, i) => `"${i}"{2000}`).join(' ')}`
}

/** Ways double with each rule. */
function doubling(levels: number): string {
  const rules = Array.from({ length: levels }, (_, i) => `r${i} ::= r${i + 1} | r${i + 1} "a"`)
  return ['root ::= r0', ...rules, `r${levels} ::= "b"`].join('\n')
}

test('an answer whose grammar takes too long ends, by its steps for a token, on average, and by the clock', (t) => {
  const one = new Effort('p')
  t.ok(refusal(() => one.spend(GRAMMAR_LIMITS.steps + 1)).includes('p is too complex'))
  const steady = new Effort('p')
  const refused = refusal(() => {
    for (let i = 0; i < 1000; i++) {
      steady.spend(GRAMMAR_LIMITS.stepsOnAverage * 2)
      steady.next()
    }
  })
  t.ok(refused.includes('for each token, over 40 tokens'), refused)
  const ordinary = new Effort('p')
  for (let i = 0; i < 1000; i++) {
    ordinary.spend(GRAMMAR_LIMITS.stepsOnAverage)
    ordinary.next()
  }
  let now = 0
  const slow = new Effort('p', () => now)
  now = GRAMMAR_LIMITS.ms + 1
  t.ok(refusal(() => slow.spend(10_000)).includes('takes 501 ms for one token'))
})

test('what is found out of a grammar is forgotten where there is no more room, and found out again', (t) => {
  const dice = new Dice(5)
  const grammar = 'root ::= "[" ([a-z]{0,100} ("," root)?)* "]"'
  const room = new Room(200)
  const automaton = new Automaton(parseGrammar(grammar, 'g'), room)
  for (let i = 0; i < 20; i++) {
    const text = walk(new Matcher({ automaton, param: 'g' }, TOKENS), dice, 200)
    if (text !== undefined && !lets(grammar, text)) return t.fail(text)
  }
  t.pass()
})

test('a compilation that does not end is ended, and the next one is done', async (t) => {
  const spin = `import { parentPort } from 'node:worker_threads'
parentPort.on('message', (m) => { while (m === 'spin'); parentPort.postMessage({ program: m }) })`
  const thread = new URL(`data:text/javascript,${encodeURIComponent(spin)}`)
  const compiler = new Compiler(300, thread)
  const { signal } = new AbortController()
  const [stuck, next] = [compiler.compile('spin', 'tools', signal), compiler.compile('next', 'tools', signal)]
  const err = await failure(stuck)
  t.is(err.code, 'BAD_REQUEST')
  t.is(err.message, 'tools is too complex: it takes more than 300 ms to compile')
  t.is(err.details.param, 'tools')
  t.is(String(await next), 'next')
})

test('a compilation whose request is cancelled is given up at once, whether it waits or runs', async (t) => {
  const spin = `import { parentPort } from 'node:worker_threads'
parentPort.on('message', (m) => { while (m === 'spin'); parentPort.postMessage({ program: m }) })`
  const compiler = new Compiler(60_000, new URL(`data:text/javascript,${encodeURIComponent(spin)}`))
  const [running, waiting, other] = [new AbortController(), new AbortController(), new AbortController()]
  const first = failure(compiler.compile('spin', 'tools', running.signal))
  const second = failure(compiler.compile('spin', 'tools', waiting.signal))
  const next = compiler.compile('next', 'tools', other.signal)
  waiting.abort()
  t.is((await second).code, 'CANCELLED')
  running.abort()
  t.is((await first).code, 'CANCELLED')
  t.is(String(await next), 'next', 'the thread is free for others')
  t.is((await failure(compiler.compile('next', 'tools', running.signal))).code, 'CANCELLED')
})
