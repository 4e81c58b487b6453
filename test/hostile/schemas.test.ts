import test, { type Test } from 'brittle'
import { inferenceRequestSchema, MeshError } from '../../lib/protocol/index.js'
import type { Engine } from '../../workers/processor/index.js'
import { answer, completion, startEngine } from '../engine-kit.js'
import { Dice } from '../helpers/dice.js'
import { type Hostile, hostileSchema, ONCE_BROKEN } from '../helpers/hostile-schemas.js'

/**
 * Bound: whatever schema, regular expression or grammar one caller sends, the other streams of the engine never wait a
 * second for a token, and the caller gets an answer or BAD_REQUEST.
 */

const SEED = Number(process.env.SCHEMA_SEED ?? 20_261_121)
const FUZZED = Number(process.env.SCHEMA_COUNT ?? 25)
const OTHERS = 3
const LONGEST_GAP_MS = 1000

/** Streams that run until they are told to stop, and the longest that one of them has waited for a token. */
function watchOthers(engine: Engine) {
  let going = true
  let longest = 0
  const streams = Array.from({ length: OTHERS }, async () => {
    while (going) {
      let last: number | undefined
      const request = completion('Once upon a time', { maxTokens: 100 })
      await engine.generate(request, () => {
        const now = performance.now()
        if (last !== undefined) longest = Math.max(longest, now - last)
        last = now
      })
    }
  })
  return {
    async stop() {
      going = false
      await Promise.all(streams)
      return longest
    },
  }
}

async function attack(t: Test, engine: Engine, hostile: readonly Hostile[]) {
  const others = watchOthers(engine)
  const ends = new Map<string, number>()
  for (const { what, constraint } of hostile) {
    const sampling = { temperature: 2, topK: 0, topP: 1, minP: 0, seed: 1 }
    const request = { kind: 'chat', messages: [{ role: 'user', content: 'x' }], maxTokens: 8, sampling, ...constraint }
    const began = performance.now()
    const end = await run(engine, request)
    ends.set(end, (ends.get(end) ?? 0) + 1)
    // The schemas of tools are part of the prompt.
    if (!['stop', 'length', 'tool_calls', 'BAD_REQUEST', 'CONTEXT_LENGTH_EXCEEDED'].includes(end))
      t.fail(`${what}: ${end}`)
    if (performance.now() - began > 5000) t.comment(`${what}: ${Math.round(performance.now() - began)} ms`)
  }
  const longest = await others.stop()
  t.comment(`${hostile.length}: ${JSON.stringify(Object.fromEntries(ends))}, longest gap ${Math.round(longest)} ms`)
  t.ok(longest > 0 && longest < LONGEST_GAP_MS, `the others waited ${Math.round(longest)} ms at most`)
}

async function run(engine: Engine, request: unknown): Promise<string> {
  try {
    return (await answer(engine, inferenceRequestSchema.parse(request))).finish.reason
  } catch (err) {
    if (err instanceof MeshError) return err.code
    throw err
  }
}

test('schemas, patterns and grammars that cost much, as once and made up, hold nobody up', {
  timeout: 120_000,
}, async (t) => {
  const engine = await startEngine(t)
  const dice = new Dice(SEED)
  t.comment(`seed ${SEED}`)
  await attack(t, engine, [...ONCE_BROKEN, ...Array.from({ length: FUZZED }, () => hostileSchema(dice))])
})
