import type { Test } from 'brittle'
import test from 'brittle'
import Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import { encodeJson, encodeKey, type UsageDimension } from '../lib/protocol/index.js'
import { JournalReader } from '../workers/auth/journal-reader.js'
import { UsageLedger } from '../workers/auth/ledger.js'
import { USED_AT as AT, usageRecord as record } from './auth-kit.js'
import {
  adminKey,
  codeOf,
  start,
  startAuth,
  startStranger,
  TestWorker,
  testHome,
  testOptions,
  until,
  untilJoined,
} from './helpers/mesh.js'

const ENCODINGS = { keyEncoding: 'utf-8', valueEncoding: 'binary' } as const

const BY = ['hour', 'user', 'key', 'model'] as const

let seq = 0
/** Writes records as a gateway does: in batches, with entries of its own between them. */
async function write(journal: Hypercore, records: unknown[]): Promise<void> {
  const bee = new Hyperbee(journal, ENCODINGS)
  const batch = bee.batch()
  for (const value of records) {
    // Half of them as early builds did: each by itself.
    await batch.put(`record/${String(++seq).padStart(16, '0')}`, encodeJson(seq % 2 === 0 ? [value] : value))
    await batch.put('total/key1', encodeJson({ requests: seq }))
  }
  await batch.flush()
}

async function openLedger(corestore: Corestore): Promise<UsageLedger> {
  const ledger = new UsageLedger(new Hyperbee(corestore.get({ name: 'usage' }), ENCODINGS))
  await ledger.open()
  return ledger
}

async function openStore(t: Test, dir: string): Promise<Corestore> {
  const corestore = new Corestore(dir)
  t.teardown(() => corestore.close(), { order: 1 })
  await corestore.ready()
  return corestore
}

/** A new store with a ledger and an empty journal. */
async function openAll(t: Test) {
  const corestore = await openStore(t, await t.tmp())
  const ledger = await openLedger(corestore)
  const core = corestore.get({ name: 'journal' })
  await core.ready()
  return { corestore, ledger, core }
}

/** Folds a journal of this same store until nothing is left, as one run of the authority does. */
async function foldAll(corestore: Corestore, ledger: UsageLedger, key = 'j1') {
  const counts = { folded: 0, malformed: 0 }
  const journal = new JournalReader({
    core: corestore.get({ name: 'journal' }),
    key,
    ledger,
    onFolded: ({ folded, malformed }) => {
      counts.folded += folded
      counts.malformed += malformed
    },
  })
  await journal.open()
  await until(() => journal.lag === 0, 'the journal is folded')
  await journal.close()
  return counts
}

test('records are added up by hour, key and model', async (t) => {
  const { corestore, ledger, core } = await openAll(t)
  await write(core, [
    record(),
    record({ outcome: 'length', completionTokens: 7 }),
    record({ outcome: 'PROCESSOR_LOST', completionTokens: 0 }),
    record({ model: 'other', outcome: 'tool_calls' }),
    record({ keyId: 'key2', user: 'bob' }),
    record({ at: AT + 3_600_000 }),
  ])
  t.alike(await foldAll(corestore, ledger), { folded: 6, malformed: 0 })
  const rows = await ledger.query({ from: 0 }, BY)
  t.is(rows.length, 4)
  t.alike(
    rows.find(({ hour, keyId, model }) => hour === '2026-01-31T15' && keyId === 'key1' && model === 'org/m:Q8_0'),
    {
      hour: '2026-01-31T15',
      keyId: 'key1',
      user: 'alice',
      model: 'org/m:Q8_0',
      requests: 3,
      failures: 1,
      promptTokens: 30,
      cachedTokens: 12,
      completionTokens: 12,
    },
  )
  t.is(rows.find(({ model }) => model === 'other')?.failures, 0, 'an answer that calls a tool came to its end')
  t.is(ledger.lastUsedAt('key1'), AT + 3_600_000)
  t.alike(
    (await ledger.query({ from: 0, user: 'bob' }, BY)).map(({ keyId }) => keyId),
    ['key2'],
  )
  t.is((await ledger.query({ from: 0, keyId: 'key1' }, BY)).length, 3)
  t.is((await ledger.query({ from: AT + 1_800_000 }, BY)).length, 1, 'from the hour that the time is in')
  t.is((await ledger.query({ from: AT, to: AT + 1 }, BY)).length, 3, 'to the hour that the time is in')
  t.alike(await ledger.query({ from: AT + 1, to: AT - 3_600_000 }, BY), [])
  t.alike(await ledger.query({ from: Number.MAX_SAFE_INTEGER, to: Number.MAX_SAFE_INTEGER }, BY), [])
})

test('usage is added up by what is asked for, and a sum of too many rows is refused', async (t) => {
  const ledger = await openLedger(await openStore(t, await t.tmp()))
  const users = ['alice', 'bob']
  const hours = Array.from({ length: 30 }, (_, i) => AT + i * 3_600_000)
  const records = users.flatMap((user) =>
    hours.map((at) => record({ user, keyId: `${user}-key`, at, promptTokens: 1 })),
  )
  await ledger.fold('j1', 1, 2, records)
  const ask = (...by: UsageDimension[]) => ledger.query({ from: 0 }, by)
  t.alike(
    (await ask('user')).map(({ user, promptTokens, hour }) => [user, promptTokens, hour]),
    [
      ['alice', 30, undefined],
      ['bob', 30, undefined],
    ],
  )
  t.alike(
    (await ask('day')).map(({ day, requests }) => [day, requests]),
    [
      ['2026-01-31', 18],
      ['2026-02-01', 42],
    ],
  )
  t.is((await ask('day', 'key')).length, 4)
  t.is((await ask('hour')).length, 30)
  const many = Array.from({ length: 10_001 }, (_, i) => record({ keyId: `k${i}` }))
  await ledger.fold('j1', 2, 3, many)
  t.is(await codeOf(ask('key')), 'BAD_REQUEST')
  t.is((await ask('model')).length, 1)
})

test('each record counts once, however often folding is killed and begun again', async (t) => {
  const dir = await t.tmp()
  let corestore = new Corestore(dir)
  let ledger = await openLedger(corestore)
  const core = corestore.get({ name: 'journal' })
  await core.ready()
  await write(
    core,
    Array.from({ length: 1200 }, () => record()),
  )
  t.is((await foldAll(corestore, ledger)).folded, 1200)
  await corestore.close()

  // A new run begins at the cursor that was stored, and one that begins too early is refused.
  corestore = await openStore(t, dir)
  ledger = await openLedger(corestore)
  t.is((await ledger.cursor('j1')).next, 2401)
  t.absent(await ledger.fold('j1', 1, 501, [record()]), 'what was folded before changes nothing')
  t.is((await foldAll(corestore, ledger)).folded, 0)
  t.is((await ledger.query({ from: 0 }, BY))[0]?.requests, 1200)

  const again = corestore.get({ name: 'journal' })
  await again.ready()
  await write(again, [record(), record()])
  t.is((await foldAll(corestore, ledger)).folded, 2)
  t.is((await ledger.query({ from: 0 }, BY))[0]?.requests, 1202)
  t.is(ledger.lastUsedAt('key1'), AT)
})

test('totals and cursor are one batch: what fails half-way leaves neither', async (t) => {
  const corestore = await openStore(t, await t.tmp())
  const core = corestore.get({ name: 'usage' })
  const ledger = new UsageLedger(new Hyperbee(core, ENCODINGS))
  await ledger.open()
  await ledger.fold('j1', 1, 3, [record(), record({ keyId: 'key2' })])
  const lengths = core.length
  t.is(lengths, 1 + 5, 'header, two rows, two last uses and the cursor in one append')
  // The second row cannot be read, so the batch is given up after the first has been put into it.
  const bee = new Hyperbee(corestore.get({ name: 'usage' }), ENCODINGS)
  await bee.put('hour/2026-01-31T15/key2/org/m:Q8_0', Buffer.from('garbage'))
  t.is(await codeOf(ledger.fold('j1', 3, 5, [record(), record({ keyId: 'key2' })])), 'BAD_REQUEST')
  t.is((await ledger.cursor('j1')).next, 3)
  t.is(core.length, lengths + 1, 'nothing was appended but the garbage')
})

test('a record that makes no sense is counted and skipped', async (t) => {
  const { corestore, ledger, core } = await openAll(t)
  await write(core, [
    record(),
    { nothing: true },
    record({ promptTokens: -1 }),
    record({ promptTokens: 9e15 }),
    record({ at: 8.7e15 }),
    record({ keyId: 'key1/../x' }),
    'text',
    record(),
  ])
  t.alike(await foldAll(corestore, ledger), { folded: 2, malformed: 6 })
})

test('a core that is no journal stops nothing but itself', async (t) => {
  const corestore = await openStore(t, await t.tmp())
  const ledger = await openLedger(corestore)
  const core = corestore.get({ name: 'garbage' })
  await core.append(Array.from({ length: 10 }, (_, i) => Buffer.alloc(50, i * 37)))
  const errors: unknown[] = []
  const journal = new JournalReader({ core, key: 'bad', ledger, onError: (err) => errors.push(err) })
  await journal.open()
  await until(() => errors.length > 0, 'the error is told')
  await journal.close()
  t.is((await ledger.cursor('bad')).next, 1)
})

test('the authority folds what gateways write, also what they wrote while it was down', async (t) => {
  const home = await testHome(t)
  const first = await startAuth(t, home)
  const gateway = await start(t, new TestWorker('gateway', testOptions(home, 'g1')))
  await untilJoined(gateway)
  await until(() => first.net.members.has(gateway.publicKey), 'linked')
  const core = gateway.store.journal()
  await core.ready()
  gateway.net.share(core, ({ role }) => role === 'auth')
  await gateway.net.authority().call('gateway.enlist', { journal: encodeKey(core.key) })

  const stranger = await startStranger(t, home, first.publicKey)
  const key = adminKey(home)
  const { id: keyId, key: alice } = await stranger.call('keys.create', { scopes: ['read:usage'] }, { key })
  await write(core, [record({ keyId, user: 'admin' }), { malformed: true }])
  const rows = async () => (await stranger.call('usage.query', {}, { key: alice })).rows
  await until(async () => (await rows()).length === 1, 'the record is folded')
  const { keys } = await stranger.call('keys.list', {}, { key })
  t.is(keys.find(({ id }) => id === keyId)?.lastUsedAt, AT)
  const journal = encodeKey(core.key)
  t.is(
    (await gateway.net.authority().call('gateway.folded', { journal })).next,
    core.length,
    'the gateway may forget it',
  )
  const other = gateway.profile.address
  t.is(await codeOf(gateway.net.authority().call('gateway.folded', { journal: other })), 'NOT_FOUND')
  const metrics = await first.registry.metrics()
  t.ok(metrics.includes('infermesh_journal_records_folded_total{outcome="malformed"} 1'))
  t.ok(metrics.includes('infermesh_members{role="gateway"} 1'))
  t.ok(/infermesh_replication_lag_blocks\{core="journal"\} 0/.test(metrics))

  await stranger.close()
  await first.stop()
  await write(core, [record({ keyId, user: 'admin' })])
  await startAuth(t, home)
  const again = await startStranger(t, home, first.publicKey)
  await until(
    async () => (await again.call('usage.query', { keyId }, { key })).rows[0]?.requests === 2,
    'what was written meanwhile is folded',
  )
  t.is(await codeOf(again.call('usage.query', { keyId: 'nobodys' }, { key })), 'NOT_FOUND')
})
