import { fork } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import { type JournalRecord, MeshError, type UsageTotals } from '../lib/protocol/index.js'
import { JournalWriter } from '../workers/gateway/journal.js'
import { type Lost, WriteAheadLog } from '../workers/gateway/write-ahead-log.js'
import { testUnless } from './helpers/needs.js'
import { NO_SMALL_DISK, SmallDisk } from './helpers/small-disk.js'
import { codeOf, until } from './helpers/wait.js'

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

async function open(
  dir: string,
  clock: () => number,
  logDir = dir,
  shortage?: () => MeshError | undefined,
  onLost?: (lost: Lost) => void,
) {
  const store = new Corestore(join(dir, 'store'))
  const core = store.get({ name: 'journal' })
  await core.ready()
  const journal = new JournalWriter(core, { dir: logDir, shortage, clock, ...(onLost && { onLost }) })
  await journal.open().catch(async (err: unknown) => {
    await store.close()
    throw err
  })
  const close = async () => {
    await journal.close()
    await store.close()
  }
  return { journal, core, close }
}

/** What the authority would read: the records in the Hyperbee, in their order. */
async function stored(core: Hypercore): Promise<JournalRecord[]> {
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  const all: JournalRecord[] = []
  for await (const { value } of bee.createReadStream({ gt: 'record/', lt: 'record0' })) {
    all.push(...(JSON.parse(value.toString()) as JournalRecord[]))
  }
  return all
}

const storedCount = async (core: Hypercore): Promise<number> => (await stored(core)).length

async function scratch(t: Test): Promise<string> {
  return t.tmp()
}

test('records are stored in groups, each once and in order', async (t) => {
  const { journal, core, close } = await open(await scratch(t), () => NOON)
  t.teardown(close)
  for (let i = 0; i < 1000; i++) journal.append(record(i))
  t.is(journal.spent('key/k1', 'day', NOON), 999 * 1000, 'counted at once')
  await until(async () => (await storedCount(core)) === 1000, 'all are stored')
  t.alike(
    (await stored(core)).map(({ promptTokens }) => promptTokens),
    Array.from({ length: 1000 }, (_, i) => i),
  )
  t.ok(core.length < 30, `they are few entries: ${core.length}`)
})

test('a record is on disk when append returns, and in the Hyperbee soon after', async (t) => {
  const dir = await scratch(t)
  const { journal, core, close } = await open(dir, () => NOON)
  t.teardown(close)
  journal.append(record(7))
  const logs = () => ['journal-a.wal', 'journal-b.wal'].map((name) => readFileSync(join(dir, name), 'utf8')).join('')
  t.ok(logs().includes(record(7).requestId))
  await until(async () => (await storedCount(core)) === 1, 'it is stored')
  await until(() => logs() === '', 'the log is empty again')
})

test('what a killed gateway had acknowledged is there, once', async (t) => {
  const dir = await scratch(t)
  // Saved totals to begin from, whose last record is in the midst of a group.
  const first = await open(dir, () => NOON)
  for (let i = 0; i < 100; i++) first.journal.append(record(i))
  await first.close()
  let acknowledged = 100
  for (let run = 0; run < 4; run++) {
    const child = fork(new URL('./journal-child.js', import.meta.url), [dir, String(run)], { stdio: 'inherit' })
    let last = 0
    child.on('message', (count) => {
      last = Number(count)
    })
    await until(() => last > 200 * (run + 1), 'the child writes')
    child.kill('SIGKILL')
    await once(child, 'exit')
    acknowledged += last
  }
  const { journal, core, close } = await open(dir, () => NOON)
  t.teardown(close)
  const counted = journal.totals('key/k1', NOON).total.requests
  t.ok(counted >= acknowledged, `${acknowledged} acknowledged, ${counted} counted`)
  await until(async () => (await storedCount(core)) === counted, 'what was counted is stored')
  const all = await stored(core)
  t.is(new Set(all.map(({ requestId }) => requestId)).size, counted, 'each once')
})

test('the line of a write that was cut off is left out, and the next one is sound', async (t) => {
  const dir = await scratch(t)
  const first = await open(dir, () => NOON)
  first.journal.append(record(1))
  await first.close()
  appendFileSync(join(dir, 'journal-b.wal'), `1 ${JSON.stringify(record(2))}\n2 {"requestId":"req_cut`)
  const second = await open(dir, () => NOON)
  second.journal.append(record(3))
  await second.close()
  const third = await open(dir, () => NOON)
  t.teardown(third.close)
  t.alike(
    (await stored(third.core)).map(({ promptTokens }) => promptTokens),
    [1, 2, 3],
  )
})

test('a journal of an early build, with records one by one, goes on', async (t) => {
  const dir = await scratch(t)
  const store = new Corestore(join(dir, 'store'))
  const bee = new Hyperbee(store.get({ name: 'journal' }), { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await bee.put('record/0000000000000000', Buffer.from(JSON.stringify(record(1))))
  await bee.put('record/0000000000000001', Buffer.from(JSON.stringify(record(2))))
  await store.close()
  const { journal, close } = await open(dir, () => NOON)
  t.teardown(close)
  journal.append(record(3))
  t.is(journal.totals('key/k1', NOON).total.requests, 3)
  t.is(journal.spent('key/k1', 'total', NOON), 12)
})

test('saved totals count each record once, wherever they end', async (t) => {
  const dir = await scratch(t)
  const first = await open(dir, () => NOON)
  for (let i = 0; i < 600; i++) first.journal.append(record(1))
  await first.close()
  const file = join(dir, 'totals.json')
  const saved = JSON.parse(readFileSync(file, 'utf8')) as { counted: number; totals: Record<string, UsageTotals> }
  t.is(saved.counted, 600)
  // As if they had been saved in the midst of the second group.
  const early = Object.entries(saved.totals).map(([key, total]) => [key, { ...total, requests: 300 }])
  writeFileSync(file, JSON.stringify({ counted: 300, totals: Object.fromEntries(early) }))
  const second = await open(dir, () => NOON)
  t.is(second.journal.totals('key/k1', NOON).total.requests, 600)
  await second.close()

  writeFileSync(file, '{"counted": 12, "tot')
  const third = await open(dir, () => NOON)
  t.is(third.journal.totals('user/ann', NOON).day.requests, 600, 'damaged totals are counted again')
  t.is(third.journal.spent('user/ann', 'day', NOON), 1200)
  await third.close()

  // As after a power cut that took the newest records: their numbers are not given again.
  const ahead = JSON.parse(readFileSync(file, 'utf8')) as object
  writeFileSync(file, JSON.stringify({ ...ahead, counted: 650 }))
  const fourth = await open(dir, () => NOON)
  fourth.journal.append(record(2))
  await fourth.close()
  const fifth = await open(dir, () => NOON)
  t.teardown(fifth.close)
  t.is(fifth.journal.totals('key/k1', NOON).total.requests, 601)
  t.is(await storedCount(fifth.core), 601)
})

test('what cannot be read of a write-ahead log is told, once, and the rest is kept', async (t) => {
  const line = (number: number) => `${number} ${JSON.stringify(record(number))}\n`
  const cases: [
    what: string,
    content: (string | Buffer)[],
    records: number,
    lost: { bytes: number; half: boolean }[],
  ][] = [
    ['half a record', [line(0), '1 {"requestId":"req_cut'], 1, [{ bytes: 23, half: true }]],
    ['half a character', [line(0), '1 {"user":"', Buffer.from([0xc3])], 1, [{ bytes: 12, half: true }]],
    ['half a number', [line(0), '1'], 1, [{ bytes: 1, half: true }]],
    ['bytes that are no text', [line(0), Buffer.alloc(100, 0xff)], 1, [{ bytes: 100, half: false }]],
    ['zeros, as a power cut leaves them', [line(0), Buffer.alloc(4096)], 1, [{ bytes: 4096, half: false }]],
    ['a damaged line in the midst of it', [line(0), 'rubbish\n', line(2)], 2, [{ bytes: 8, half: false }]],
    ['a line that is no JSON', [line(0), '1 {"a":\n'], 1, [{ bytes: 8, half: false }]],
    ['nothing else', [Buffer.alloc(3000, 0xfe), '\n'], 0, [{ bytes: 3001, half: false }]],
  ]
  for (const [what, content, records, expected] of cases) {
    const dir = await scratch(t)
    const path = join(dir, 'journal-a.wal')
    writeFileSync(path, Buffer.concat(content.map((part) => Buffer.from(part))))
    const lost: Lost[] = []
    const log = new WriteAheadLog(dir, (one) => lost.push(one))
    t.is(log.open().length, records, what)
    t.alike(
      lost,
      expected.map(({ bytes, half }) => ({ path, bytes, isHalfRecord: half })),
      what,
    )
    log.append(7, JSON.stringify(record(7)))
    log.close()
    const again = new WriteAheadLog(dir)
    t.is(again.open().at(-1)?.number, 7, `${what}: it goes on, and opens again`)
    again.close()
  }
})

test('a journal both of whose logs were overwritten opens, goes on and opens again', async (t) => {
  const dir = await scratch(t)
  const first = await open(dir, () => NOON)
  first.journal.append(record(1))
  await first.close()
  for (const name of ['journal-a.wal', 'journal-b.wal']) {
    writeFileSync(join(dir, name), Buffer.concat([Buffer.from('\n1 x\n'), Buffer.alloc(5000, 0x9f)]))
  }
  for (const [i, told] of [2, 0, 0].entries()) {
    const lost: Lost[] = []
    const { journal, core, close } = await open(
      dir,
      () => NOON,
      dir,
      undefined,
      (one) => lost.push(one),
    )
    t.is(lost.length, told)
    for (const { bytes } of lost) t.is(bytes, 5005)
    t.is(journal.totals('key/k1', NOON).total.requests, 1 + i)
    journal.append(record(2 + i))
    await until(async () => (await storedCount(core)) === 2 + i, 'the record is stored')
    await close()
  }
})

test('a record of a later version is no damage: nothing is left out, and the gateway does not start', async (t) => {
  const dir = await scratch(t)
  writeFileSync(join(dir, 'journal-a.wal'), '0 {"later":true}\n')
  await t.exception(
    open(dir, () => NOON),
    /record 0 of the write-ahead log/,
  )
  t.is(readFileSync(join(dir, 'journal-a.wal'), 'utf8'), '0 {"later":true}\n')
})

const small = SmallDisk.make('256k')
const missing = small === undefined ? NO_SMALL_DISK : undefined

testUnless(
  missing,
  'where the disk is full the caller is told, and the record is stored once there is room',
  {},
  async (t) => {
    if (small === undefined) return
    const { journal, core, close } = await open(await scratch(t), () => NOON, small.dir)
    t.teardown(close)
    journal.append(record(1))
    small.fill()
    let told = 0
    for (let i = 0; i < 40; i++) {
      try {
        journal.append(record(2))
      } catch (err) {
        t.is((err as { code: string }).code, 'DISK_FULL')
        await t.exception(async () => journal.assertWritable(), /cannot record usage/)
        told++
        break
      }
    }
    t.is(told, 1)
    const written = journal.totals('key/k1', NOON).total.requests
    await until(async () => (await storedCount(core)) === written, 'what was told to have failed is stored as well')
    await t.exception(
      async () => journal.assertWritable(),
      /disk is full/,
      'the next one could not be recorded at once',
    )
    small.free()
    await until(
      () => codeOf((async () => journal.assertWritable())()).then((code) => code === undefined),
      'it takes requests',
    )
    journal.append(record(3))
    await until(async () => (await storedCount(core)) === written + 1, 'the next one is stored')
  },
)

test('totals and the place to go on from survive a restart', async (t) => {
  const dir = await scratch(t)
  const first = await open(dir, () => NOON)
  first.journal.append(record(10))
  await first.close()
  const second = await open(dir, () => NOON)
  t.teardown(second.close)
  t.is(second.journal.spent('key/k1', 'total', NOON), 20)
  t.is(second.journal.spent('user/ann', 'month', NOON), 20)
  second.journal.append(record(1))
  await until(async () => (await storedCount(second.core)) === 2, 'both are stored')
  t.is(second.journal.totals('key/k1', NOON).day.requests, 2)
})

test('a new day and a new month begin at zero, what was spent in all stays', async (t) => {
  const dir = await scratch(t)
  const first = await open(dir, () => NOON)
  first.journal.append(record(10))
  t.is(first.journal.spent('key/k1', 'day', NOON + DAY_MS), 0)
  await first.close()
  const later = await open(dir, () => NOON + DAY_MS)
  t.teardown(later.close)
  t.is(later.journal.spent('key/k1', 'day', NOON + DAY_MS), 0)
  t.is(later.journal.spent('key/k1', 'month', NOON + DAY_MS), 0, 'February')
  t.is(later.journal.spent('key/k1', 'total', NOON + DAY_MS), 20)
})

test('with too little disk left nothing is let in, and all is once there is room', async (t) => {
  const dir = await scratch(t)
  let shortage: MeshError | undefined = MeshError.DISK_FULL('1 MiB of disk left')
  const { journal, close } = await open(
    dir,
    () => NOON,
    dir,
    () => shortage,
  )
  t.teardown(close)
  await t.exception(async () => journal.assertWritable(), /disk left/)
  journal.append(record(1))
  t.pass('what is under way is recorded')
  shortage = undefined
  journal.assertWritable()
})

test('a clock that is put forward and back again refunds nothing', async (t) => {
  const dir = await scratch(t)
  let now = NOON
  const clock = () => now
  const first = await open(dir, clock)
  first.journal.append(record(10))
  // Past the end of the day and the month.
  now = NOON + DAY_MS
  first.journal.append(record(1, now))
  await first.close()
  now = NOON
  const second = await open(dir, clock)
  t.teardown(second.close)
  t.is(second.journal.spent('key/k1', 'day'), 20)
  t.is(second.journal.spent('user/ann', 'month'), 20)
  t.is(second.journal.spent('user/ann', 'total'), 22)
})
