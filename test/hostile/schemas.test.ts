import test, { type Test } from 'brittle'
import { type InferenceRequest, inferenceRequestSchema, MeshError, type TokenBatch } from '../../lib/protocol/index.js'
import { Scheduler } from '../../workers/gateway/requests/index.js'
import type { Engine } from '../../workers/processor/index.js'
import { answer, completion, startEngine } from '../engine-kit.js'
import { Dice } from '../helpers/dice.js'
import { type Hostile, hostileSchema, ONCE_BROKEN } from '../helpers/hostile-schemas.js'

/**
 * Bound: whatever schema, regular expression or grammar one caller sends, the other streams of the engine never wait a
 * second for a token, and the caller gets an answer or BAD_REQUEST. With all the slots that a user may have, whose
 * schemas take as long to compile as any may, others wait two seconds at most, turns for a slot included.
 */

const SEED = Number(process.env.SCHEMA_SEED ?? 20_261_121)
const FUZZED = Number(process.env.SCHEMA_COUNT ?? 25)
const OTHERS = 3
const LONGEST_GAP_MS = 1000
const LONGEST_WAIT_MS = 2000

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

/** A schema like no other, as large as they may be. */
function largest(n: number) {
  const names = Array.from({ length: 9000 }, (_, i) => `${'k'.repeat(50)}${n}_${i}`)
  const properties = Object.fromEntries(names.map((name) => [name, { type: 'string', maxLength: 5 }]))
  return { type: 'json_schema', schema: { type: 'object', properties, additionalProperties: false } }
}

test('five of the dearest schemas at once, all of one user, leave the others their turns', {
  timeout: 60_000,
}, async (t) => {
  const engine = await startEngine(t)
  const scheduler = new Scheduler({ candidates: () => [{ id: 'p', slots: 4, loaded: true }], queueLimit: 100 })
  const stop = new AbortController()
  const { signal } = stop
  const serve = async (
    user: string,
    request: InferenceRequest,
    preparedFor: string | undefined,
    onTokens: (batch: TokenBatch) => void,
  ) => {
    const asked = {
      model: 'm',
      keyId: user,
      user,
      avoid: new Set<string>(),
      front: false,
      signal,
      onPosition: () => {},
    }
    const slot = await scheduler.acquire({ ...asked, preparedFor })
    let tokens = 0
    const generated = engine.generate(
      request,
      (batch) => {
        slot.begun()
        tokens++
        onTokens(batch)
      },
      signal,
    )
    await generated.finally(() => slot.release(tokens))
  }
  let longest = 0
  let told = 0
  const others = Array.from({ length: OTHERS }, async (_, i) => {
    let last = performance.now()
    while (!signal.aborted) {
      const request = completion('Once upon a time', { maxTokens: 100 })
      await serve(`other ${i}`, request, undefined, () => {
        longest = Math.max(longest, performance.now() - last)
        last = performance.now()
        told++
      })
    }
  })
  let asked = 0
  let ended = 0
  const hostile = Array.from({ length: 5 }, async () => {
    while (!signal.aborted) {
      const messages = [{ role: 'user', content: 'x' }]
      const request = inferenceRequestSchema.parse({ kind: 'chat', messages, maxTokens: 4, format: largest(asked++) })
      await serve('mallory', request, 'mallory', () => {}).catch((err: unknown) => {
        if (!signal.aborted && MeshError.from(err).code !== 'BAD_REQUEST') throw err
      })
      if (++ended === 3) stop.abort()
    }
  })
  const cancelled = (err: unknown) => t.is(MeshError.from(err).code, 'CANCELLED')
  await Promise.all([...others.map((other) => other.catch(cancelled)), ...hostile])
  t.comment(`${told} tokens, longest wait ${Math.round(longest)} ms`)
  t.ok(told > 0 && longest < LONGEST_WAIT_MS, `the others waited ${Math.round(longest)} ms at most`)
})
