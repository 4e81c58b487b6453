import type { Test } from 'brittle'
import test from 'brittle'
import type Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import { homeFiles } from '../../lib/home/index.js'
import { encodeJson, encodeKey, type JournalRecord, type UsageCheck, type UsageRow } from '../../lib/protocol/index.js'
import { changeBee, openCorestore } from '../../lib/store/index.js'
import { Store } from '../../lib/worker-base/index.js'
import { JournalReader } from '../../workers/auth/journal-reader.js'
import { UsageLedger } from '../../workers/auth/ledger.js'
import { checkUsage, type UsageDifference } from '../../workers/auth/usage-check.js'
import { USED_AT as AT, usageRecord as record } from '../auth-kit.js'
import {
  adminKey,
  infermesh,
  ready,
  type Stranger,
  spawnNode,
  start,
  startStranger,
  TestWorker,
  testHome,
  testOptions,
  until,
} from '../helpers/mesh.js'

/** What happens to the totals when processes are killed, and how what was lost comes back. */

const ENCODINGS = { keyEncoding: 'utf-8', valueEncoding: 'binary' } as const
/** How often the authority is killed. */
const KILLS = 2
const HOUR_MS = 3_600_000
const BY = ['hour', 'user', 'key', 'model'] as const

async function writeRecords(bee: Hyperbee, first: number, records: JournalRecord[]): Promise<void> {
  await changeBee(bee, async (batch) => {
    for (const [i, one] of records.entries()) {
      await batch.put(`record/${String(first + i).padStart(16, '0')}`, encodeJson([one]))
    }
  })
}

interface Kit {
  store: Corestore
  usage: Hyperbee
  ledger: UsageLedger
  journals: JournalReader[]
}

/** A ledger, and journals that are folded: what an authority holds. */
async function openKit(t: Test, written: JournalRecord[][]): Promise<Kit> {
  const store = openCorestore(await t.tmp())
  t.teardown(() => store.close(), { order: 1 })
  const usage = new Hyperbee(store.get({ name: 'usage' }), ENCODINGS)
  const ledger = new UsageLedger(usage)
  await ledger.open()
  const journals: JournalReader[] = []
  for (const [j, records] of written.entries()) {
    const core = store.get({ name: `j${j}` })
    await core.ready()
    await writeRecords(new Hyperbee(core, ENCODINGS), 0, records)
    const journal = new JournalReader({ core, key: `j${j}`, ledger })
    await journal.open()
    await journal.fold()
    t.teardown(() => journal.close())
    journals.push(journal)
  }
  return { store, usage, ledger, journals }
}

const rowsOf = (ledger: UsageLedger) => ledger.query({ from: 0 }, BY)

async function check({ ledger, journals }: Kit, mend: boolean, rowsInMemory?: number) {
  const differences: UsageDifference[] = []
  const result = await checkUsage({
    ledger,
    journals,
    mend,
    onProgress: () => {},
    onDifference: (difference) => differences.push(difference),
    rowsInMemory,
  })
  return { ...result, differences }
}

const keyOf = ({ hour, keyId, model }: UsageRow) => `hour/${hour}/${keyId}/${model}`

/** As a fold leaves it that overwrote what another had added. */
async function lose(usage: Hyperbee, over: Partial<UsageRow> & Pick<UsageRow, 'keyId'>): Promise<void> {
  const row = { hour: '2026-01-31T15', user: 'alice', model: 'org/m:Q8_0', ...over }
  const totals = { requests: 1, failures: 0, promptTokens: 10, cachedTokens: 4, completionTokens: 5, ...over }
  await usage.put(keyOf({ ...row, ...totals }), encodeJson({ ...row, ...totals }))
}

test('totals that lost records, whole rows or have too many are found, and mended from the journals', async (t) => {
  const kit = await openKit(t, [
    Array.from({ length: 300 }, (_, i) => record({ keyId: `key${i % 3}`, at: AT + (i % 5) * HOUR_MS })),
    Array.from({ length: 200 }, (_, i) => record({ keyId: `key${i % 3}`, outcome: 'PROCESSOR_LOST' })),
  ])
  const { ledger, usage } = kit
  const right = await rowsOf(ledger)
  t.alike((await check(kit, false)).differences, [], 'nothing is wrong')

  await lose(usage, { keyId: 'key0', requests: 7 })
  await lose(usage, { keyId: 'key1', requests: 900 })
  await lose(usage, { keyId: 'nobody' })
  await usage.del('hour/2026-01-31T16/key2/org/m:Q8_0')
  const wrong = await rowsOf(ledger)
  const looked = await check(kit, false)
  t.is(looked.differences.length, 4)
  t.is(looked.records, 500)
  t.is(looked.partialUntil, '')
  t.alike(await rowsOf(ledger), wrong, 'looking changes nothing')

  // Two rows at a time fit in memory, and a journal goes on being folded.
  const mended = check(kit, true, 2)
  await ledger.fold('other', 1, 2, [record({ keyId: 'key0' })])
  t.is((await mended).differences.length, 4)
  await ledger.fold('other', 2, 3, [record({ keyId: 'key2', at: AT + HOUR_MS })])
  const expected = right.map((row) => {
    const more =
      (row.hour === '2026-01-31T15' && row.keyId === 'key0') || (row.hour === '2026-01-31T16' && row.keyId === 'key2')
    const { requests, promptTokens, cachedTokens, completionTokens } = row
    if (!more) return row
    return {
      ...row,
      requests: requests + 1,
      promptTokens: promptTokens + 10,
      cachedTokens: cachedTokens + 4,
      completionTokens: completionTokens + 5,
    }
  })
  t.alike(await rowsOf(ledger), expected, 'and what was folded meanwhile counts once')
})

test('what the journals no longer tell is left, and what they still tell is raised', async (t) => {
  const kit = await openKit(t, [[record()], [record(), record(), record({ at: AT + 2 * HOUR_MS })]])
  const { ledger, usage, store } = kit
  const gone = kit.journals[0]
  await store.get({ name: 'j0' }).clear(1, 2)
  const looked = await check(kit, true)
  t.alike(looked.differences, [], 'a row that has more than the journals say keeps it')
  t.is(looked.partialUntil, '2026-01-31T15')
  t.is(looked.journals, 1)
  t.ok(gone)

  await lose(usage, { keyId: 'key1', requests: 1 })
  await lose(usage, { keyId: 'key1', requests: 50, hour: '2026-01-31T17' })
  await check(kit, true)
  const requests = (await rowsOf(ledger)).map(({ requests }) => requests)
  t.alike(requests, [2, 1], 'the older is at least what is known, the newer exact')
})

test('five journals that are folded at once by an authority that is killed again and again add up exactly', {
  timeout: 120_000,
}, async (t) => {
  const home = await testHome(t)
  const args = ['--wtype', 'auth', '--data-dir', home, '--set', 'log.level=silent']
  const spawn = async () => {
    const child = spawnNode(t, 'worker.js', args)
    return { ...child, status: await ready(home, 'auth', 'auth', child.process.pid, 30_000) }
  }
  let authority = await spawn()
  const { publicKey } = authority.status
  const startGateway = async (name: string) => {
    const worker = await start(t, new TestWorker('gateway', testOptions(home, name)))
    const core = worker.store.journal()
    await core.ready()
    worker.net.share(core, ({ role }) => role === 'auth')
    const enlist = () => worker.net.authority().call('gateway.enlist', { journal: encodeKey(core.key) })
    const enlisted = async (): Promise<boolean> => (await enlist()) !== undefined
    await until(() => enlisted().catch(() => false), `${name} is enlisted`, 30_000)
    return { bee: new Hyperbee(core, ENCODINGS), written: 0 }
  }
  const gateways = await Promise.all(['g1', 'g2', 'g3', 'g4', 'g5'].map(startGateway))
  let writing = true
  const write = async (gateway: (typeof gateways)[number]): Promise<void> => {
    while (writing) {
      const records = Array.from({ length: 3 }, (_, i) => record({ keyId: `key${i}` }))
      await writeRecords(gateway.bee, gateway.written, records)
      gateway.written += records.length
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  const writers = gateways.map(write)
  const folded = async (authority: Stranger): Promise<number> => {
    // An admin may ask the authority ten times a second.
    await new Promise((resolve) => setTimeout(resolve, 200))
    const { rows } = await authority.call('usage.query', { by: ['user'] }, { key: adminKey(home) })
    return rows[0]?.requests ?? 0
  }
  for (let run = 0; run < KILLS; run++) {
    const stranger = await startStranger(t, home, publicKey)
    const before = await folded(stranger)
    await until(async () => (await folded(stranger)) > before, 'it folds', 30_000)
    authority.process.kill('SIGKILL')
    await authority.exited
    await stranger.close()
    if (run < KILLS - 1) authority = await spawn()
  }
  // What a build lost that folded journals side by side.
  const store = new Store(homeFiles(home).worker('auth', 'auth'))
  await store.start()
  const usage = new Hyperbee(store.own('usage'), ENCODINGS)
  const known = await usage.get('hour/2026-01-31T15/key1/org/m:Q8_0')
  const lost = (JSON.parse(known?.value.toString() ?? '{}') as UsageRow).requests - 1
  await lose(usage, { keyId: 'key1' })
  await store.stop()

  authority = await spawn()
  writing = false
  await Promise.all(writers)
  const total = gateways.reduce((sum, { written }) => sum + written, 0)
  const stranger = await startStranger(t, home, publicKey)
  await until(async () => (await folded(stranger)) >= total - lost, 'all is folded', 30_000)
  t.is(await folded(stranger), total - lost, `each of ${total} records once, but for the ${lost} that were lost`)

  const verify = (...more: string[]) => infermesh(['usage', 'verify', ...more], { home, key: adminKey(home) })
  const looked = await verify('--dry-run')
  t.is(looked.code, 70, looked.stderr)
  t.ok(looked.stdout.includes('requests in 1 row: would be mended'), looked.stdout)
  const mended = await verify('--json')
  t.is(mended.code, 0, mended.stderr)
  const { different, stored, correct } = JSON.parse(mended.stdout) as UsageCheck
  t.alike([different, correct.requests - stored.requests], [1, lost])
  t.is(await folded(stranger), total, 'what was lost is back')
  const { entries } = await stranger.call('audit.list', {}, { key: adminKey(home) })
  t.is(entries.filter(({ action }) => action === 'usage.verify').length, 2)
})
