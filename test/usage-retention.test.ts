import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'brittle'
import test from 'brittle'
import type Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import { openCorestore } from '../lib/store/index.js'
import { Compaction } from '../workers/auth/compaction.js'
import { JournalReader } from '../workers/auth/journal-reader.js'
import { UsageLedger } from '../workers/auth/ledger.js'
import { checkUsage } from '../workers/auth/usage-check.js'
import { JournalWriter } from '../workers/gateway/journal.js'
import { USED_AT as AT, usageRecord as record } from './auth-kit.js'
import { until } from './helpers/wait.js'

/** Old usage records give their room back; what they say stays counted. */

const ENCODINGS = { keyEncoding: 'utf-8', valueEncoding: 'binary' } as const
const DAY_MS = 86_400_000

interface Gateway {
  store: Corestore
  core: Hypercore
  journal: JournalWriter
  close(): Promise<void>
}

async function openGateway(dir: string, clock: () => number): Promise<Gateway> {
  const store = openCorestore(join(dir, 'store'))
  const core = store.get({ name: 'journal' })
  await core.ready()
  const journal = new JournalWriter(core, { dir, clock })
  await journal.open()
  const close = async () => {
    await journal.close()
    await store.close()
  }
  return { store, core, journal, close }
}

/** Appends records one by one, each to an entry of its own. */
async function append({ core, journal }: Gateway, count: number, at: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    // The bee's header comes with the first.
    const length = Math.max(1, core.length)
    journal.append(record({ at }))
    await until(() => core.length > length, 'it is in the bee')
  }
}

const blocksHere = async (core: Hypercore): Promise<number> => {
  let here = 0
  for (let i = 0; i < core.length; i++) if (await core.has(i)) here++
  return here
}

test('a gateway forgets old records that are counted, and goes on with its numbers and budgets', async (t) => {
  const dir = await t.tmp()
  let now = AT
  let gateway = await openGateway(dir, () => now)
  await append(gateway, 12, AT)
  now = AT + 40 * DAY_MS
  await append(gateway, 3, now)

  await gateway.journal.forget(5, now - 30 * DAY_MS)
  t.absent(await gateway.core.has(1, 5), 'what is counted and old')
  t.ok(await gateway.core.has(5, gateway.core.length), 'what is not counted stays, however old')
  // As a kill leaves it that comes after they were deleted and before their room is given back.
  const clear = gateway.core.clear.bind(gateway.core)
  gateway.core.clear = () => Promise.reject(new Error('killed'))
  await t.exception(gateway.journal.forget(gateway.core.length, now - 30 * DAY_MS), /killed/)
  t.ok(await gateway.core.has(5, gateway.core.length))
  gateway.core.clear = clear
  await gateway.journal.forget(gateway.core.length, now - 30 * DAY_MS)
  t.ok((await blocksHere(gateway.core)) <= 16, 'what is left: the newest records, and that others were deleted')
  t.is(gateway.journal.totals('user/alice').total.requests, 15)
  const { length } = gateway.core
  await gateway.close()

  // The running totals are lost with the power: forgotten records cannot be counted again.
  rmSync(join(dir, 'totals.json'))
  gateway = await openGateway(dir, () => now)
  t.teardown(() => gateway.close())
  t.is(gateway.journal.totals('user/alice').total.requests, 15, 'budgets go on')
  await append(gateway, 2, now)
  t.is(gateway.core.length, length + 2)
  const bee = new Hyperbee(gateway.core, ENCODINGS)
  const numbers: number[] = []
  for await (const { key } of bee.createReadStream({ gt: 'record/', lt: 'record0' })) numbers.push(Number(key.slice(7)))
  t.alike(numbers, [12, 13, 14, 15, 16])

  now += 400 * DAY_MS
  await gateway.journal.forget(gateway.core.length, now)
  t.ok(await gateway.core.has(gateway.core.length - 1))
  await append(gateway, 1, now)
  t.is(gateway.journal.totals('user/alice').total.requests, 18, 'also after all of them were old')
})

async function openAuthority(t: Test, key: Buffer) {
  const store = openCorestore(await t.tmp())
  t.teardown(() => store.close(), { order: 1 })
  const ledger = new UsageLedger(new Hyperbee(store.get({ name: 'usage' }), ENCODINGS))
  await ledger.open()
  const core = store.get({ key })
  const journal = new JournalReader({ core, key: 'j1', ledger })
  await journal.open()
  t.teardown(() => journal.close())
  return { store, ledger, core, journal }
}

test('the authority lets go of what it counted long ago, and counts on over a journal of which both forgot the old', async (t) => {
  let now = AT
  const gateway = await openGateway(await t.tmp(), () => now)
  t.teardown(() => gateway.close())
  await append(gateway, 4, AT)
  const { store, ledger, core, journal } = await openAuthority(t, gateway.core.key)
  const [a, b] = [gateway.store.replicate(true), store.replicate(false)]
  for (const stream of [a, b]) stream.on('error', () => {})
  a.pipe(b).pipe(a)
  const counted = async () => (await ledger.query({ from: 0 }, ['user']))[0]?.requests
  const tidy = () => journal.release(now, now - 30 * DAY_MS)
  const untilCounted = (requests: number) =>
    until(async () => {
      await journal.fold()
      return (await counted()) === requests
    }, `${requests} are counted`)
  await untilCounted(4)
  await tidy()
  t.ok(await core.has(1, core.length), 'nothing is old yet')

  now += 20 * DAY_MS
  await append(gateway, 3, now)
  await untilCounted(7)
  await tidy()
  now += 11 * DAY_MS
  await tidy()
  t.absent(await core.has(1, 5))
  t.absent(await core.has(4))
  t.ok(await core.has(5, core.length), `from ${core.length - 5} of ${core.length} on`)
  await gateway.journal.forget((await ledger.cursor('j1')).next, now - 30 * DAY_MS)
  t.absent(await gateway.core.has(1, 5))
  await append(gateway, 2, now)
  await untilCounted(9)

  const differences: unknown[] = []
  const result = await checkUsage({
    ledger,
    journals: [journal],
    mend: true,
    onProgress: () => {},
    onDifference: (difference) => differences.push(difference),
  })
  t.alike(differences, [], 'totals of which the journals no longer tell stay')
  t.alike([result.records, result.partialUntil], [5, '2026-01-31T15'])
  t.is(await counted(), 9)
})

test('totals that are counted up for ever take the room of their rows, not of each change', async (t) => {
  const store = openCorestore(await t.tmp())
  t.teardown(() => store.close(), { order: 1 })
  const core = store.get({ name: 'usage' })
  const bee = new Hyperbee(core, ENCODINGS)
  const ledger = new UsageLedger(bee)
  await ledger.open()
  const compaction = new Compaction(bee, 200)
  let seq = 1
  const fold = async (count: number) => {
    for (let i = 0; i < count; i++, seq++) await ledger.fold('j1', seq, seq + 1, [record({ keyId: `k${i % 20}` })])
  }
  await fold(300)
  await compaction.run(() => true)
  await fold(5)
  const reader = ledger.snapshot()
  const before = await blocksHere(core)
  await compaction.run(() => false)
  t.is(await blocksHere(core), before, 'not while somebody reads')
  await compaction.run(() => true)
  const after = await blocksHere(core)
  t.ok(before > 900 && after < 150, `${before} blocks before, ${after} after`)
  let rows = 0
  for await (const _ of reader.rows('', undefined)) rows++
  t.is(rows, 20, 'who began to read before reads on')
  await fold(300)
  const [total] = await ledger.query({ from: 0 }, ['user'])
  t.is(total?.requests, 605)
})
