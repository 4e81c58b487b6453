import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { MeshError } from '../lib/protocol/index.js'
import { Store } from '../lib/worker-base/index.js'

test('a store that was copied says so, and opens once it is told that it is the only one', async (t) => {
  const dir = await t.tmp()
  const [original, copy] = [join(dir, 'original'), join(dir, 'copy')]
  const first = new Store(original)
  await first.start()
  const core = first.own('thing')
  await core.ready()
  const { key } = core
  await first.stop()
  cpSync(original, copy, { recursive: true })

  const mark = join(copy, 'store', 'CORESTORE')
  const copied = new Store(copy)
  const failure = await copied.start().catch((err: unknown) => MeshError.from(err))
  t.is(failure?.code, 'STORE_INVALID')
  t.ok(failure?.message.includes(`delete ${mark}`), failure?.message)
  await copied.stop().catch(() => {})

  rmSync(mark)
  const restored = new Store(copy)
  t.teardown(() => restored.stop())
  await restored.start()
  const again = restored.own('thing')
  await again.ready()
  t.alike(again.key, key)
})
