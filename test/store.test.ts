import { cpSync, existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { adoptStores, movedStores, readRestored } from '../lib/home/index.js'
import { MeshError } from '../lib/protocol/index.js'
import { Store } from '../lib/worker-base/index.js'
import { trimStoreLog } from '../lib/worker-base/store-log.js'
import { spawnNode } from './helpers/mesh.js'

test('a store that was copied says so, and opens once it is told that it is the only one', async (t) => {
  const home = await t.tmp()
  const [original, copy] = ['auth-original', 'auth-copy'].map((name) => join(home, 'workers', name)) as [string, string]
  const first = new Store(original)
  await first.start()
  const core = first.own('thing')
  await core.ready()
  const { key } = core
  await first.stop()
  cpSync(original, copy, { recursive: true })

  const copied = new Store(copy)
  const failure = await copied.start().catch((err: unknown) => MeshError.from(err))
  t.is(failure?.code, 'STORE_INVALID')
  t.ok(failure?.message.includes('`infermesh adopt`'), failure?.message)
  await copied.stop().catch(() => {})

  t.alike(await movedStores(home), ['auth-copy'])
  adoptStores(home, ['auth-copy'], Date.now())
  t.ok(readRestored(copy), 'its worker takes it for one that others may have more of')
  const restored = new Store(copy)
  t.teardown(() => restored.stop())
  await restored.start()
  const again = restored.own('thing')
  await again.ready()
  t.alike(again.key, key)
})

test('a store whose first start was killed while its device file was written opens at the next', async (t) => {
  const dir = await t.tmp()
  const { signal, stderr } = await spawnNode(t, 'test/store-killed.js', [dir]).exited
  t.is(signal, 'SIGKILL', stderr)
  t.absent(existsSync(join(dir, 'store', 'CORESTORE')), 'it is there whole or not at all')
  const store = new Store(dir)
  t.teardown(() => store.stop())
  await store.start()
  const core = store.own('thing')
  await core.ready()
  await core.append(Buffer.from('a'))
  t.alike(await core.get(0), Buffer.from('a'))
})

test('a folder whose name has the word lock in it is not in use for that', async (t) => {
  const dir = join(await t.tmp(), 'locksmith')
  writeFileSync(dir, 'no folder')
  const failure = await new Store(dir).start().catch((err: unknown) => MeshError.from(err))
  t.is(failure?.code, 'STORE_INVALID')
  t.ok(failure?.message.includes('ENOTDIR'), failure?.message)
})

test('the library’s own log does not grow without end', async (t) => {
  const dir = await t.tmp()
  for (let start = 0; start < 3; start++) {
    const store = new Store(dir)
    await store.start()
    await store.stop()
  }
  const db = join(dir, 'store', 'db')
  t.ok(readdirSync(db).filter((name) => name.startsWith('LOG')).length <= 2, 'former starts left no logs')

  const store = new Store(dir)
  t.teardown(() => store.stop())
  await store.start()
  const log = join(db, 'LOG')
  writeFileSync(log, Buffer.alloc(5 * 1024 * 1024, 'x'), { flag: 'a' })
  trimStoreLog(db)
  t.ok(statSync(log).blocks * 512 < 1024 * 1024)
  const core = store.own('thing')
  await core.ready()
  await core.append(Buffer.from('a'))
  t.alike(await core.get(0), Buffer.from('a'), 'the store goes on')
})
