import test from 'brittle'
import type { MeshError } from '../lib/protocol/index.js'
import type { FromEngine } from '../workers/processor/engine/index.js'
import { type EngineEnd, EngineJobs } from '../workers/processor/engine-jobs.js'
import { EngineWatch, WATCH_BOUNDS } from '../workers/processor/engine-watch.js'
import { Turns } from '../workers/processor/turns.js'
import { chat } from './engine-kit.js'

/** What an engine's end says about its requests, and when it is ended: no process, no time. */

const STUCK = 3

/** Jobs 1 to `count`, and what each of them has failed with. */
function setup(count: number) {
  const jobs = new EngineJobs()
  const errors: (MeshError | undefined)[] = Array.from({ length: count }, () => undefined)
  for (let i = 0; i < count; i++) {
    jobs.add(
      { type: 'generate', request: chat('x') },
      () => {},
      () => {},
      (err) => {
        errors[i] ??= err
      },
    )
  }
  const heard = (...messages: FromEngine[]) => {
    for (const message of messages) jobs.heard(message)
  }
  const at = (id: number): FromEngine => ({ type: 'at', id })
  const alive = (...steps: [number, number][]): FromEngine => ({ type: 'alive', steps })
  const end = (how: EngineEnd) => {
    jobs.end(how, 'ended', STUCK)
    return errors.map((err) => (err?.details.suspect === true ? 'suspect' : err?.code))
  }
  return { jobs, errors, heard, at, alive, end }
}

for (const how of ['silent', 'crash'] as const) {
  test(`the only request that an engine worked on is why it ended (${how})`, (t) => {
    const { heard, at, alive, end, errors } = setup(2)
    heard(at(1), alive([1, 1]))
    t.alike(end(how), ['ENGINE_ENDED', 'ENGINE_FAILED'], 'the other was never begun')
    t.ok(errors[0]?.message.includes('not tried on another'), errors[0]?.message)
  })
}

test('where an engine falls silent while it works on one of several, it is that one', (t) => {
  const { heard, at, alive, end } = setup(3)
  heard(at(1), at(2), alive([1, 1], [2, 1]), at(3))
  t.alike(end('silent'), ['ENGINE_FAILED', 'ENGINE_FAILED', 'ENGINE_ENDED'])
})

test('where several were begun and nothing tells which it was, all are under suspicion', (t) => {
  const begun = () => {
    const all = setup(3)
    all.heard(all.at(1), all.at(2), all.alive([1, 1], [2, 1]))
    return all
  }
  t.alike(begun().end('silent'), ['suspect', 'suspect', 'ENGINE_FAILED'])
  const crashed = begun()
  crashed.heard(crashed.at(2))
  t.alike(crashed.end('crash'), ['suspect', 'suspect', 'ENGINE_FAILED'], 'a crash may come from any thread')
})

test('a process that somebody else killed puts its only request under suspicion, no more', (t) => {
  const { heard, at, end } = setup(1)
  heard(at(1))
  t.alike(end('killed'), ['suspect'])
})

test('a request without progress is seen among others that go on', (t) => {
  const { jobs, heard, at, alive, end } = setup(2)
  heard(at(1), at(2))
  for (let beat = 1; beat <= STUCK; beat++) {
    t.absent(jobs.beat(STUCK))
    heard(alive([1, 0], [2, beat]))
  }
  t.ok(jobs.beat(STUCK))
  t.alike(end('stuck'), ['ENGINE_ENDED', 'ENGINE_FAILED'])
})

test('a request that makes progress, however slow, is left alone', (t) => {
  const { jobs, heard, at, alive } = setup(1)
  heard(at(1))
  for (let beat = 1; beat <= 10 * STUCK; beat++) {
    t.absent(jobs.beat(STUCK))
    heard(alive([1, Math.floor(beat / STUCK)]))
  }
})

test('a cancelled request is the engine’s until it has answered, and is told nothing more', async (t) => {
  const jobs = new EngineJobs()
  const tokens: number[] = []
  const job = new Promise((resolve, reject) => {
    jobs.add({ type: 'generate', request: chat('x') }, ({ ids }) => tokens.push(...ids), resolve, reject)
  })
  jobs.tokens(1, { index: 0, ids: [7], text: 'a' })
  jobs.cancel(1)
  jobs.tokens(1, { index: 1, ids: [8], text: 'b' })
  await t.exception(job, /cancelled/)
  t.alike(tokens, [7])
  t.is(jobs.size, 1, 'a watchdog looks on')
  jobs.take(1)
  t.is(jobs.size, 0)
})

test('an engine is given up after so many beats without a word, and not by any clock', (t) => {
  const watch = new EngineWatch(WATCH_BOUNDS)
  const { quietBeats, silentBeats, loadingBeats } = WATCH_BOUNDS
  const beats = (count: number, loading = false) => Array.from({ length: count }, () => watch.beat(loading))
  t.absent(beats(quietBeats).includes(false))
  t.absent(watch.quiet)
  t.absent(beats(silentBeats - quietBeats).includes(false))
  t.ok(watch.quiet, 'it gets no work for a while before it is ended')
  t.is(watch.beat(false), false)
  watch.heard()
  t.absent(watch.quiet)
  t.absent(beats(loadingBeats, true).includes(false), 'a load may take a slow disk')
  t.is(watch.beat(true), false)
})

test('one piece of work at a time, in order, whatever becomes of the one before', async (t) => {
  const turns = new Turns()
  const seen: string[] = []
  const work = (name: string) =>
    turns.take(async () => {
      seen.push(`${name} begins`)
      await new Promise((resolve) => setImmediate(resolve))
      seen.push(`${name} ends`)
      if (name === 'b') throw new Error('b failed')
      return name
    })
  const [a, b, c] = [work('a'), work('b'), work('c')]
  t.is(turns.size, 3)
  t.is(await a, 'a')
  await t.exception(b, /b failed/)
  t.is(await c, 'c')
  t.alike(seen, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends'])
  t.is(turns.size, 0)
})
