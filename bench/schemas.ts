import { inferenceRequestSchema, MeshError } from '../lib/protocol/index.js'
import { answer, completion, engineOptions } from '../test/engine-kit.js'
import { Dice } from '../test/helpers/dice.js'
import { type Hostile, hostileSchema, ONCE_BROKEN } from '../test/helpers/hostile-schemas.js'
import { Engine } from '../workers/processor/index.js'
import { atMost, type Figure, quantile } from './harness.js'

const SEED = Number(process.env.SCHEMA_SEED ?? 20_261_121)
const COUNT = Number(process.env.SCHEMA_COUNT ?? 2000)
const OTHERS = 8
const TOKENS = 24
const SLOW_MS = 5000

/** Reads one stream after another until told to stop. */
async function others(engine: Engine, gaps: number[], going: () => boolean): Promise<void> {
  while (going()) {
    let last: number | undefined
    await engine.generate(completion('Once upon a time', { maxTokens: 200 }), () => {
      const now = performance.now()
      if (last !== undefined) gaps.push(now - last)
      last = now
    })
  }
}

/** How one schema ends, and how long it took. */
async function run(engine: Engine, { constraint }: Hostile): Promise<{ end: string; ms: number }> {
  const began = performance.now()
  const sampling = { temperature: 2, topK: 0, topP: 1, minP: 0, seed: 1 }
  const request = {
    kind: 'chat',
    messages: [{ role: 'user', content: 'x' }],
    maxTokens: TOKENS,
    sampling,
    ...constraint,
  }
  try {
    await answer(engine, inferenceRequestSchema.parse(request))
    return { end: 'answered', ms: performance.now() - began }
  } catch (err) {
    const end = err instanceof MeshError ? err.code : String(err)
    return { end, ms: performance.now() - began }
  }
}

/** Schemas, patterns and grammars made to cost much, on one engine with eight other streams. SCHEMA_SEED, SCHEMA_COUNT. */
export async function schemas(): Promise<Figure[]> {
  const engine = new Engine(engineOptions({ slots: OTHERS + 1 }))
  await engine.load()
  const dice = new Dice(SEED)
  const hostile = [...ONCE_BROKEN, ...Array.from({ length: COUNT }, () => hostileSchema(dice))]
  const gaps: number[] = []
  let running = true
  const streams = Array.from({ length: OTHERS }, () => others(engine, gaps, () => running))
  const ends = new Map<string, number>()
  let slow = 0
  let worst = { what: '', ms: 0 }
  for (const one of hostile) {
    const { end, ms } = await run(engine, one)
    ends.set(end, (ends.get(end) ?? 0) + 1)
    if (ms > SLOW_MS) slow++
    if (ms > worst.ms) worst = { what: one.what, ms }
  }
  running = false
  await Promise.all(streams)
  await engine.stop()
  const expected = new Set(['answered', 'BAD_REQUEST', 'CONTEXT_LENGTH_EXCEEDED'])
  const wrong = [...ends].filter(([end]) => !expected.has(end))
  const longest = gaps.reduce((most, gap) => Math.max(most, gap), 0)
  return [
    { what: `schemas, patterns and grammars (seed ${SEED})`, value: String(hostile.length) },
    { what: 'answered', value: String(ends.get('answered') ?? 0) },
    { what: 'refused, or ended by a limit', value: String(ends.get('BAD_REQUEST') ?? 0) },
    { what: 'too long for the prompt', value: String(ends.get('CONTEXT_LENGTH_EXCEEDED') ?? 0) },
    {
      what: 'ended otherwise',
      value: wrong.map(([end, count]) => `${count} ${end}`).join(', ') || '0',
      target: '0',
      met: wrong.length === 0,
    },
    { what: `slower than ${SLOW_MS / 1000} s`, value: String(slow) },
    { what: 'the slowest', value: `${worst.ms.toFixed(0)} ms (${worst.what})` },
    {
      what: `time between tokens of the ${OTHERS} others, p50 / p99`,
      value: `${quantile(gaps, 0.5).toFixed(1)} / ${quantile(gaps, 0.99).toFixed(1)} ms`,
    },
    atMost('the longest that one of them waited', longest, 1000, 'ms', 0),
  ]
}
