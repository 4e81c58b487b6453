import test from 'brittle'
import { MeshError } from '../lib/protocol/index.js'
import { Batching } from '../workers/processor/engine/batching.js'
import { jsonSchemaToGbnf } from '../workers/processor/engine/json/grammar.js'
import { Pacing } from '../workers/processor/engine/pace.js'
import { choose } from '../workers/processor/engine/slots.js'
import { TextStream } from '../workers/processor/engine/text-stream.js'

/** The engine's parts that need no model. */

/** Tokens that are bytes. */
const bytes = (ids: readonly number[]) => Buffer.from(ids).toString('utf8')

test('a text stream gives whole characters only, whatever the tokens cut', (t) => {
  const text = 'aé漢🦊b'
  const stream = new TextStream(bytes, [])
  const pieces = [...Buffer.from(text)].map((byte) => stream.push(byte).text)
  t.is(pieces.join('') + stream.end(), text)
  t.absent(pieces.some((piece) => piece.includes('\ufffd')))
  t.is(pieces.filter((piece) => piece !== '').length, [...text].length)
})

test('bytes that are no character do not hold the stream up for ever', (t) => {
  const stream = new TextStream(bytes, [])
  const ids = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x61]
  t.ok(
    ids
      .map((id) => stream.push(id).text)
      .join('')
      .endsWith('a'),
  )
})

test('the earliest of several stop strings counts, also across tokens', (t) => {
  const run = (stops: string[]) => {
    const stream = new TextStream(bytes, stops)
    let text = ''
    for (const byte of Buffer.from('one two three')) {
      const piece = stream.push(byte)
      text += piece.text
      if (piece.stopped) return text
    }
    return text + stream.end()
  }
  t.is(run(['three', ' two']), 'one')
  t.is(run(['e t']), 'on')
  t.is(run(['threes']), 'one two three')
  t.is(run(['o']), '')
})

test('a request goes to the slot with the longest common prefix, else to the least recently used', (t) => {
  const slots = [
    { tokens: [1, 2, 3, 4], used: 3 },
    { tokens: [1, 2, 9, 9], used: 1 },
    { tokens: [], used: 2 },
  ]
  t.is(choose(slots, [1, 2, 3, 4, 5]), slots[0])
  t.is(choose(slots, [1, 2, 9, 9, 9]), slots[1])
  t.is(choose(slots, [7, 7]), slots[1], 'nothing in common')
  t.is(
    choose(
      [
        { tokens: [1, 5, 6, 7], used: 9 },
        { tokens: [], used: 0 },
      ],
      [1, 2],
    )?.used,
    0,
    'a short prefix saves no slot',
  )
  t.is(choose([], [1]), undefined)
})

test('a step waits until all running sequences have queued, and goes in the order of the slots', (t) => {
  const batching = new Batching()
  const item = (priority: number, length: number) => ({
    tokens: Array(length).fill(0),
    logits: [],
    evaluationPriority: priority as 1,
  })
  const [first, second, prompt] = [item(1, 1), item(2, 1), item(3, 100)]
  batching.enter(0)
  batching.enter(1)
  t.alike(batching.strategy({ items: [second], size: 8 }), [])
  t.alike(
    batching
      .strategy({ items: [prompt, second, first], size: 8 })
      .map(({ item, processAmount }) => [item.evaluationPriority, processAmount]),
    [
      [1, 1],
      [2, 1],
      [3, 6],
    ],
  )
  let waits = 0
  while (batching.strategy({ items: [second], size: 8 }).length === 0) waits++
  t.ok(waits > 10 && waits < 1000, 'it does not wait for ever')
})

const batchItem = (priority: number, length: number) => ({
  tokens: Array(length).fill(0),
  logits: [],
  evaluationPriority: priority as 1,
})

test('prompts beside sequences that generate get whole tiles, as many as a step may take, and a short one its turn', (t) => {
  let now = 0
  const batching = new Batching(() => now)
  batching.promptTokens = () => 128
  /** What of each prompt a step takes, by its priority. */
  const given = (items: ReturnType<typeof batchItem>[]) => {
    const step = batching.strategy({ items, size: 1024 })
    // Nobody waits for steps that take no time.
    return step.flatMap(({ item, processAmount }) =>
      item.tokens.length > 1 ? [[item.evaluationPriority, processAmount]] : [],
    )
  }
  const generating = [batchItem(1, 1), batchItem(2, 1)]
  // One token of each goes together with those that generate, and the 64 behind it are a whole tile.
  const long = [3, 4, 5].map((priority) => batchItem(priority, 65))
  const two = [
    [3, 65],
    [4, 65],
  ]
  t.alike(given([...generating, ...long, batchItem(6, 30)]), two)
  t.alike(given([...generating, ...long, batchItem(6, 30)]), [[6, 30]], 'the shortest, and no tile that it takes apart')
  t.alike(given([...generating, ...long, batchItem(6, 30)]), two, 'the one that has waited longest again')
  batching.promptTokens = () => 64
  t.alike(given([batchItem(1, 1), batchItem(2, 1000)]), [[2, 65]])
  t.alike(given([batchItem(1, 1), batchItem(2, 130)]), [[2, 65]])
  t.alike(given([batchItem(1, 1), batchItem(2, 120)]), [[2, 120]], 'less than a tile is not left behind')
  const whole = [
    [3, 400],
    [4, 400],
  ]
  t.alike(given([batchItem(3, 400), batchItem(4, 400)]), whole, 'nobody else waits: all that the step holds')
  now += 40
  t.alike(given([...generating, batchItem(3, 65)]), [], 'as long without prompts as with')
  now += 30
  t.alike(given([...generating, batchItem(3, 65)]), [])
  now += 10
  t.alike(given([...generating, batchItem(3, 65)]), [[3, 65]])
  t.is(batching.promptClock, 40, 'it stood still meanwhile')
  now += 40
  t.alike(given([batchItem(3, 65)]), [[3, 65]], 'where none generates, nobody waits')
})

test('a prompt is evaluated in pieces of whole tiles, and what is more goes with the first', async (t) => {
  const pacing = new Pacing(1024)
  const pieces = (length: number, generates: boolean) =>
    pacing.beside(async (pace) => {
      const sizes: number[] = []
      for (let left = length; left > 0; left -= sizes.at(-1) ?? 0) sizes.push(pace.next(left, generates))
      return sizes
    })
  t.alike(await pieces(200, false), [72, 64, 64])
  t.alike(await pieces(200, true), [70, 65, 65])
  t.alike(await pieces(64, false), [64])
  t.alike(await pieces(40, true), [40])
  t.is(pacing.ofStep, 64)
  await pacing.beside(async (pace) => {
    pace.next(64, false)
    pace.took(64, 16)
  })
  t.is(pacing.ofStep, 320, 'what a step may take is what 80 ms are enough for')
  t.alike(await pieces(1000, false), [360, 320, 320])
  t.alike(await pieces(1000, true), [358, 321, 321])
})

test('a schema that cannot be enforced is refused by the name of what is wrong', (t) => {
  const refusal = (schema: Record<string, unknown>) => {
    try {
      jsonSchemaToGbnf(schema, undefined, { mode: 'strict' })
    } catch (err) {
      return err instanceof MeshError && err.code === 'BAD_REQUEST' ? err.message : String(err)
    }
    return 'accepted'
  }
  t.ok(refusal({ type: 'text' }).includes('"text" is no type'))
  t.ok(refusal({ type: 'string', pattern: '(?<=a)b' }).includes('schema.pattern'))
  t.ok(refusal({ type: 'object', properties: { a: { not: { multipleOf: 2 } } } }).includes('schema.properties.a.not'))
  t.ok(refusal({ properties: { a: false }, type: 'object', required: ['a'] }).includes('schema.properties.a'))
  t.ok(refusal({ $ref: '#/$defs/gone' }).includes('#/$defs/gone does not exist'))
  t.ok(refusal({ type: 'array', minItems: 3, maxItems: 2 }).includes('more than maxItems'))
  t.ok(refusal({ type: 'array', minItems: 1e9 }).includes('at most'))
  t.is(
    refusal({ $defs: { list: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/list' }] } }, $ref: '#/$defs/list' }),
    'accepted',
  )
  t.is(refusal({ title: 'x', description: 'y', type: ['string', 'null'], default: null }), 'accepted')
})
