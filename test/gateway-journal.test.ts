import { join } from 'node:path'
import test, { type Test } from 'brittle'
import Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import type { JournalRecord } from '../lib/protocol/index.js'
import { Journal } from '../workers/gateway/journal.js'

const NOON = Date.UTC(2026, 0, 31, 12)
const DAY_MS = 86_400_000

function record(tokens: number, at = NOON): JournalRecord {
  return {
    requestId: `req_${at}_${tokens}`,
    at,
    keyId: 'k1',
    user: 'ann',
    model: 'm',
    kind: 'chat',
    promptTokens: tokens,
    cachedTokens: 0,
    completionTokens: tokens,
    outcome: 'stop',
    queueMs: 0,
    totalMs: 1,
  }
}

async function open(dir: string, clock: () => number, minFreeBytes = 0) {
  const store = new Corestore(join(dir, 'store'))
  const core = store.get({ name: 'journal' })
  await core.ready()
  const journal = new Journal(core, { dir, minFreeBytes, clock })
  await journal.open()
  const close = async () => {
    await journal.close()
    await store.close()
  }
  return { journal, core, close }
}

async function records(core: ConstructorParameters<typeof Hyperbee>[0]): Promise<string[]> {
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  const keys: string[] = []
  for await (const { key } of bee.createReadStream({ gt: 'record/', lt: 'record0' })) keys.push(key)
  return keys
}

async function scratch(t: Test): Promise<string> {
  return t.tmp()
}

test('records that come together are written together, each once and in order', async (t) => {
  const { journal, core, close } = await open(await scratch(t), () => NOON)
  t.teardown(close)
  await Promise.all(Array.from({ length: 200 }, (_, i) => journal.append(record(i))))
  const keys = await records(core)
  t.is(keys.length, 200)
  t.is(keys[0], 'record/0000000000000000')
  t.is(keys[199], 'record/0000000000000199')
  t.is(journal.spent('key/k1', 'day', NOON), (2 * (199 * 200)) / 2)
})

test('totals and the place to go on from survive a restart', async (t) => {
  const dir = await scratch(t)
  const first = await open(dir, () => NOON)
  await first.journal.append(record(10))
  await first.close()
  const second = await open(dir, () => NOON)
  t.teardown(second.close)
  t.is(second.journal.spent('key/k1', 'total', NOON), 20)
  t.is(second.journal.spent('user/ann', 'month', NOON), 20)
  await second.journal.append(record(1))
  t.is((await records(second.core)).length, 2)
  t.is(second.journal.totals('key/k1', NOON).day.requests, 2)
})

test('a new day and a new month begin at zero, what was spent in all stays', async (t) => {
  const dir = await scratch(t)
  const first = await open(dir, () => NOON)
  await first.journal.append(record(10))
  t.is(first.journal.spent('key/k1', 'day', NOON + DAY_MS), 0)
  await first.close()
  const later = await open(dir, () => NOON + DAY_MS)
  t.teardown(later.close)
  t.is(later.journal.spent('key/k1', 'day', NOON + DAY_MS), 0)
  t.is(later.journal.spent('key/k1', 'month', NOON + DAY_MS), 0, 'February')
  t.is(later.journal.spent('key/k1', 'total', NOON + DAY_MS), 20)
})

test('with too little disk left nothing is let in', async (t) => {
  const { journal, close } = await open(await scratch(t), () => NOON, Number.MAX_SAFE_INTEGER)
  t.teardown(close)
  await t.exception(async () => journal.assertWritable(), /disk left/)
})
