import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import type Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import { memoryStorage, openCorestore } from '../lib/store/index.js'
import { Dice } from './helpers/dice.js'

/** Stores in memory against the same on disk, in RocksDB. */

const BLOCKS = 300
const STEPS = 400

test('a core in memory gives what the same core on disk gives, whatever is done to it', {
  timeout: 60_000,
}, async (t) => {
  const [onDisk, inMemory] = await storesOf(t)
  const source = openCorestore(memoryStorage())
  t.teardown(() => source.close())
  const core = source.get({ name: 'source' })
  await core.ready()
  for (let i = 0; i < BLOCKS; i++) await core.append(Buffer.from(`${i} ${'x'.repeat((i * 37) % 5000)}`))
  const copies = [onDisk, inMemory].map((store) => copyOf(t, source, store, core.key))
  for (const copy of copies) await copy.download({ start: 0, end: BLOCKS }).done()

  const dice = new Dice(7)
  for (let step = 0; step < STEPS; step++) {
    const start = dice.below(BLOCKS)
    const end = Math.min(BLOCKS, start + 1 + dice.below(9))
    const kind = dice.below(4)
    if (kind === 0) for (const copy of copies) await copy.clear(start, end)
    else if (kind === 1) for (const copy of copies) await copy.download({ start, end }).done()
    else {
      const [disk, memory] = await Promise.all(copies.map((copy) => copy.get(start, { wait: false })))
      if (!(disk === null ? memory === null : memory !== null && disk?.equals(memory as Buffer)))
        t.fail(`block ${start} differs after ${step} steps`)
    }
  }
  const held = await Promise.all(copies.map((copy) => heldBy(copy)))
  t.ok(held[0]?.includes('0') && held[0].includes('1'), 'some blocks are there, and some are not')
  t.is(held[1], held[0])
})

test('a snapshot in memory keeps what is written over later, and a deleted key stays away', async (t) => {
  const [, store] = await storesOf(t)
  const core = store.get({ name: 'core' })
  await core.append([Buffer.from('one'), Buffer.from('two')])
  // The library's own: no code of ours makes one.
  const snapshot = Reflect.apply(Reflect.get(core, 'snapshot'), core, []) as Hypercore
  await snapshot.ready()
  await core.clear(0, 1)
  await core.append(Buffer.from('three'))
  t.is(snapshot.length, 2)
  t.is(String(await snapshot.get(1)), 'two')
  t.is(await core.get(0, { wait: false }), null)
  t.is(String(await core.get(2)), 'three')
  await snapshot.close()

  const bee = new Hyperbee(store.get({ name: 'bee' }), { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await bee.ready()
  for (const key of ['a', 'b', 'c']) await bee.put(key, Buffer.from(key))
  await bee.del('b')
  t.is(await bee.get('b'), null)
  t.is(String((await bee.get('c'))?.value), 'c')
})

test('a core in memory that is closed and opened again has its blocks', async (t) => {
  const [, store] = await storesOf(t)
  const first = store.get({ name: 'core' })
  await first.append(Buffer.from('one'))
  const { key } = first
  await first.close()
  const again = store.get({ key: key as Buffer })
  await again.ready()
  t.is(String(await again.get(0)), 'one')
})

/** One store on disk and one in memory. */
async function storesOf(t: Test): Promise<[Corestore, Corestore]> {
  const dir = await t.tmp()
  const stores: [Corestore, Corestore] = [openCorestore(join(dir, 'store')), openCorestore(memoryStorage())]
  t.teardown(async () => {
    for (const store of stores) await store.close()
  })
  await stores[0].ready()
  t.ok(existsSync(join(dir, 'store')))
  return stores
}

function copyOf(t: Test, source: Corestore, store: Corestore, key: Buffer | null): Hypercore {
  const [here, there] = [source.replicate(true), store.replicate(false)]
  for (const stream of [here, there]) stream.on('error', () => {})
  here.pipe(there).pipe(here)
  t.teardown(() => here.destroy())
  return store.get({ key: key as Buffer })
}

/** 1 for each block that is there. */
async function heldBy(core: Hypercore): Promise<string> {
  const all = Array.from({ length: BLOCKS }, (_, i) => core.get(i, { wait: false }))
  return (await Promise.all(all)).map((block) => (block === null ? '0' : '1')).join('')
}
