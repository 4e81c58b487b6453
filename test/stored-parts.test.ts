import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { type LocalOptions, LocalStored } from '../workers/gateway/stored/local.js'
import type { Draft } from '../workers/gateway/stored/record.js'
import { type Shelved, Shelves } from '../workers/gateway/stored/shelves.js'
import { Turns } from '../workers/gateway/stored/turns.js'
import { codeOf, sleep } from './helpers/mesh.js'

/** What a gateway keeps on its disk, without the gateway. */

const MIB = 1024 * 1024
const DAY_MS = 86_400_000
const ann = { keyId: 'k1', user: 'ann' }
const bob = { keyId: 'k2', user: 'bob' }

interface Told {
  failures: string[]
  lines: { message: string; file?: unknown }[]
}

async function open(t: Test, dir: string, more: Partial<LocalOptions> = {}): Promise<LocalStored & { told: Told }> {
  const told: Told = { failures: [], lines: [] }
  const local = new LocalStored({
    dir,
    days: 30,
    bytes: 64 * MIB,
    hasRoom: () => true,
    keptFrom: () => 0,
    interrupted: (object) => object.replace('queued', 'failed'),
    log: { warn: (facts, message) => told.lines.push({ ...facts, message }) },
    failed: (op) => told.failures.push(op),
    now: Date.now,
    ...more,
  })
  local.open()
  t.teardown(() => local.close())
  return Object.assign(local, { told })
}

function draft(id: string, text = '', more: Partial<Draft> = {}): Draft {
  const object = [JSON.stringify({ id, text })]
  return { id, kind: 'response', createdAt: Date.now(), model: 'm', tags: [], parts: { object }, ...more }
}

const textOf = async (local: LocalStored, owner: typeof ann, id: string): Promise<string | undefined> =>
  (await local.read(owner, id, 'object'))?.bytes.toString()

test('what is stored is read by its key alone, after a restart too, and is gone once it is deleted', async (t) => {
  const dir = join(await t.tmp(), 'stored')
  const first = await open(t, dir)
  const items = Array.from({ length: 500 }, (_, i) => `"${i}"\t{"text":"${'é😀'.repeat(200)}"}\n`)
  t.ok(await first.put(ann, draft('r1', 'one', { parts: { object: ['{"a":', '1}'], items } })))
  t.ok(await first.put(bob, draft('r1', 'of another key')))
  t.ok(await first.put(ann, draft('r2')))
  const second = await open(t, dir)
  for (const local of [first, second]) {
    t.is(await textOf(local, ann, 'r1'), '{"a":1}')
    t.is((await local.read(ann, 'r1', 'items'))?.bytes.toString(), items.join(''), 'long text is whole')
    t.is(
      (await local.read(ann, 'r1', 'items', { offset: 10, most: 5 }))?.bytes.toString(),
      Buffer.from(items.join('')).subarray(10, 15).toString(),
    )
    t.is((await local.read(ann, 'r1', 'history'))?.bytes.byteLength, 0)
    t.is(await textOf(local, bob, 'r1'), '{"id":"r1","text":"of another key"}')
    t.is(await textOf(local, bob, 'r2'), undefined)
    t.is(await textOf(local, { ...ann, user: 'bob' }, 'r2'), undefined, 'nor by another user with that key id')
  }
  for (const name of readdirSync(dir)) t.is(statSync(join(dir, name)).mode & 0o777, 0o600)
  t.is(statSync(dir).mode & 0o777, 0o700)
  t.absent(await second.delete(bob, 'r2'))
  t.ok(await second.delete(ann, 'r2'))
  t.absent(await second.delete(ann, 'r2'))
  t.is(readdirSync(dir).length, 2)
  t.is(await textOf(await open(t, dir), ann, 'r2'), undefined)
})

test('a file that is cut, damaged or half written is never served, counted and ends nothing', async (t) => {
  const dir = join(await t.tmp(), 'stored')
  const first = await open(t, dir)
  for (const id of ['good', 'cut', 'changed', 'other']) t.ok(await first.put(ann, draft(id, 'some words')))
  await first.close()
  const file = (id: string) =>
    join(dir, readdirSync(dir).find((name) => readFileSync(join(dir, name), 'utf8').includes(`"${id}"`)) ?? '')
  const [cut, changed] = [file('cut'), file('changed')]
  writeFileSync(cut, readFileSync(cut).subarray(0, -3))
  writeFileSync(changed, readFileSync(changed, 'utf8').replace('some words', 'sane words'))
  writeFileSync(join(dir, 'garbage'), 'no head')
  writeFileSync(join(dir, 'abc.0.tmp'), 'half')
  const { told, ...rest } = { told: first.told }
  t.alike([told.failures, Object.keys(rest)], [[], []])
  const local = await open(t, dir)
  t.is(await textOf(local, ann, 'good'), '{"id":"good","text":"some words"}')
  t.is(await textOf(local, ann, 'cut'), undefined)
  t.is(await codeOf(local.read(ann, 'changed', 'object')), 'STORE_INVALID')
  t.is(local.told.failures.length, 3, 'the two at the start and the one that was read')
  t.absent(readdirSync(dir).some((name) => name.endsWith('.tmp')))
  t.ok(await local.put(ann, draft('cut', 'anew')))
  t.is(await textOf(local, ann, 'cut'), '{"id":"cut","text":"anew"}')
})

test('what is no file of ours hides nothing; where nothing can be looked at, nothing is said to be missing', async (t) => {
  const dir = join(await t.tmp(), 'stored')
  t.ok(await (await open(t, dir)).put(ann, draft('r1')))
  mkdirSync(join(dir, 'x.0.tmp'))
  execFileSync('mkfifo', [join(dir, 'pipe')])
  t.ok(await textOf(await open(t, dir), ann, 'r1'))
  rmSync(dir, { recursive: true })
  writeFileSync(dir, '')
  const closed = await open(t, dir)
  t.is(await codeOf(closed.find(ann, 'r1')), 'PEER_NOT_FOUND')
  t.is(await codeOf(closed.list(ann, { kind: 'chat', order: 'asc', limit: 1 })), 'PEER_NOT_FOUND')
  t.absent(await closed.put(ann, draft('r2')))
  t.alike(closed.told.failures, ['read'])
})

test('what cannot be deleted stays, and can be deleted later', async (t) => {
  const dir = join(await t.tmp(), 'stored')
  const local = await open(t, dir)
  t.ok(await local.put(ann, draft('r1')))
  const [name = ''] = readdirSync(dir)
  rmSync(join(dir, name))
  mkdirSync(join(dir, name))
  t.ok(await codeOf(local.delete(ann, 'r1')))
  rmSync(join(dir, name), { recursive: true })
  t.ok(await local.delete(ann, 'r1'))
})

test('what is too old, or belongs to a key that is gone, cannot be read and leaves the disk', async (t) => {
  const dir = join(await t.tmp(), 'stored')
  let now = Date.now()
  const gone = new Set<string>()
  const keptFrom = ({ keyId }: typeof ann) => (gone.has(keyId) ? Number.POSITIVE_INFINITY : 0)
  const local = await open(t, dir, { days: 2, now: () => now, keptFrom })
  t.ok(await local.put(ann, draft('old', '', { createdAt: now })))
  t.ok(await local.put(bob, draft('theirs', '', { createdAt: now })))
  now += DAY_MS
  t.ok(await local.put(ann, draft('new', '', { createdAt: now })))
  now += 1.5 * DAY_MS
  t.is(await textOf(local, ann, 'old'), undefined, 'before it is swept')
  await local.sweep()
  t.is(readdirSync(dir).length, 1)
  t.ok(await textOf(local, ann, 'new'))
  gone.add('k1')
  t.is(await textOf(local, ann, 'new'), undefined)
  t.absent(await local.put(ann, draft('late')))
  await local.sweep()
  t.is(readdirSync(dir).length, 0)
})

test('what does not fit is not stored, and says so', async (t) => {
  const dir = join(await t.tmp(), 'stored')
  let room = true
  const local = await open(t, dir, { bytes: 8 * MIB, hasRoom: () => room })
  t.absent(await local.put(ann, draft('long', 'x'.repeat(9 * MIB))))
  t.absent(await local.put(ann, draft('share', 'x'.repeat(2 * MIB))), 'a key has an eighth')
  for (let i = 0; i < 12; i++) t.ok(await local.put(ann, draft(`r${i}`, 'x'.repeat(100_000))))
  t.is(await textOf(local, ann, 'r0'), undefined, 'the oldest gives way')
  t.ok(await textOf(local, ann, 'r11'))
  t.ok(readdirSync(dir).length < 12)
  room = false
  t.absent(await local.put(ann, draft('late')))
  const none = await open(t, join(dir, 'none'), { bytes: 0 })
  t.absent(await none.put(ann, draft('r')))
})

test('many changes of the same things at a time leave what came last', async (t) => {
  const dir = join(await t.tmp(), 'stored')
  const local = await open(t, dir, { bytes: 2 * MIB })
  const work: Promise<unknown>[] = []
  for (let i = 0; i < 200; i++) {
    const id = `r${i % 7}`
    for (const owner of [ann, bob]) {
      work.push(local.put(owner, draft(id, `${i}${'x'.repeat(20_000)}`)))
      if (i % 11 === 0) work.push(local.delete(owner, id))
    }
  }
  await Promise.all(work)
  const listed = await local.list(ann, { kind: 'response', order: 'asc', limit: 100 })
  for (const { id } of listed.items) t.ok(await textOf(local, ann, id), `${id} is there`)
  const again = await open(t, dir)
  t.alike((await again.list(ann, { kind: 'response', order: 'asc', limit: 100 })).items.length, listed.items.length)
  t.is(local.told.failures.length, 0)
})

test('what was being made when the process ended has failed', async (t) => {
  const dir = join(await t.tmp(), 'stored')
  const first = await open(t, dir)
  t.ok(await first.put(ann, { ...draft('r', 'queued'), pending: true, background: true }))
  const second = await open(t, dir)
  t.is(await textOf(second, ann, 'r'), '{"id":"r","text":"failed"}')
  t.absent((await second.read(ann, 'r', 'object'))?.head.pending)
})

test('lists are in the order of time, narrowed, and in pages', async (t) => {
  const local = await open(t, join(await t.tmp(), 'stored'))
  for (let i = 0; i < 25; i++) {
    const more: Partial<Draft> = { kind: 'chat', createdAt: Date.now() + (i % 5), tags: i % 2 === 0 ? ['even'] : [] }
    t.ok(await local.put(ann, draft(`c${i}`, '', more)))
  }
  const all = await local.list(ann, { kind: 'chat', order: 'asc', limit: 100 })
  const down = await local.list(ann, { kind: 'chat', order: 'desc', limit: 100 })
  const times = all.items.map(({ createdAt }) => createdAt)
  t.alike(times, times.toSorted())
  t.alike(
    down.items.map(({ createdAt }) => createdAt),
    times.toReversed(),
  )
  t.is((await local.list(ann, { kind: 'chat', order: 'asc', limit: 100, tags: ['even'] })).items.length, 13)
  t.is((await local.list(ann, { kind: 'chat', order: 'asc', limit: 100, model: 'other' })).items.length, 0)
  t.is((await local.list(bob, { kind: 'chat', order: 'asc', limit: 100 })).items.length, 0)
  const ids: string[] = []
  let after: string | undefined
  do {
    const page = await local.list(ann, { kind: 'chat', order: 'asc', limit: 10, ...(after !== undefined && { after }) })
    ids.push(...page.items.map(({ id }) => id))
    after = page.next
  } while (after !== undefined)
  t.alike(
    ids,
    all.items.map(({ id }) => id),
  )
})

interface Thing extends Shelved {
  name: string
}

function shelves(more: object = {}): {
  lay: (user: string, key: string, name: string, size?: number) => Thing[]
  of: Shelves<Thing>
} {
  const of = new Shelves<Thing>({
    perKey: 200,
    perUser: 500,
    inAll: 10_000,
    bytesPerKey: 16 * MIB,
    bytesPerUser: 32 * MIB,
    bytesInAll: 128 * MIB,
    ...more,
  })
  return {
    of,
    lay: (user, keyId, name, sizeBytes = 1000) =>
      of.put({ key: `${keyId}/${name}`, name, owner: { keyId, user }, sizeBytes }),
  }
}

test('the oldest of a key goes past its bounds, and what one key stores drives out nothing of another', (t) => {
  const { of, lay } = shelves()
  for (let i = 0; i < 250; i++) lay('u1', 'k1', `r${i}`)
  t.is(of.get('k1/r0'), undefined)
  t.ok(of.get('k1/r50'))
  for (let i = 0; i < 20; i++) lay('u3', 'k3', `big${i}`, MIB)
  t.is(of.get('k3/big0'), undefined)
  t.ok(of.get('k3/big19'))
  t.absent(of.fits(17 * MIB))
  t.ok(of.get('k1/r249'))
  t.is(of.count, 216)
})

test('a user with many keys drives out nobody’s', (t) => {
  const { of, lay } = shelves()
  lay('ann', 'honest', 'first')
  for (let key = 0; key < 20; key++) for (let i = 0; i < 8; i++) lay('mallory', `m${key}`, `${key}-${i}`, MIB)
  t.ok(of.get('honest/first'))
  t.ok(of.get('m19/19-7'))
  t.ok(of.sizeBytes <= 33 * MIB, `${of.sizeBytes} bytes for one user`)
  for (let user = 0; user < 8; user++) {
    for (let i = 0; i < 16; i++) lay(`u${user}`, `k${user}-${i % 4}`, `${i}`, MIB)
  }
  t.ok(of.sizeBytes <= 128 * MIB, `${of.sizeBytes} bytes in all`)
  t.ok(of.get('honest/first'), 'those who have the most give way')
  t.ok(of.get('k7-3/15'))
  const few = shelves({ inAll: 10 })
  few.lay('ann', 'honest', 'first')
  for (let i = 0; i < 50; i++) few.lay('mallory', `m${i}`, 'r')
  t.is(few.of.count, 10)
  t.ok(few.of.get('honest/first'))
})

test('turns: so many at a time, of one user fewer, and what waits is bounded', async (t) => {
  const turns = new Turns({ most: 3, mostPerUser: 2, mostWaiting: 2 })
  let running = 0
  let most = 0
  const work = async (): Promise<void> => {
    most = Math.max(most, ++running)
    await sleep(5)
    running--
  }
  const mine = Array.from({ length: 4 }, () => turns.run('ann', work))
  t.is(await codeOf(turns.run('ann', work)), 'RATE_LIMITED')
  const theirs = Array.from({ length: 3 }, () => turns.run('bob', work))
  await Promise.all([...mine, ...theirs])
  t.is(most, 3)
  await turns.run('ann', work)
})
