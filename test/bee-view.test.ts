import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import type Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import SessionState from 'hypercore/lib/session-state.js'
import { encodeJson, encodeKey } from '../lib/protocol/index.js'
import { changeBee, Directory, directoryKeys, openCorestore, raiseFork } from '../lib/store/index.js'
import { until } from './helpers/wait.js'

/** A view on a replica whose blocks have not all come. */

const key = (n: number) => encodeKey(Buffer.alloc(32, n))

async function openStore(t: Test): Promise<Corestore> {
  const store = openCorestore(await t.tmp())
  t.teardown(() => store.close(), { order: 1 })
  return store
}

async function writeMembers(bee: Hyperbee, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n++) {
    const member = { publicKey: key(n), role: 'processor', name: `p${n}`, addedAt: n }
    await bee.put(directoryKeys.member(key(n)), encodeJson(member))
  }
}

/** Replicates two stores until the test says that they part. */
function connect(a: Corestore, b: Corestore): () => void {
  const left = a.replicate(true)
  const right = b.replicate(false)
  left.pipe(right).pipe(left)
  for (const stream of [left, right]) stream.on('error', () => {})
  return () => {
    left.destroy()
    right.destroy()
  }
}

test('a replica that lacks blocks opens with what stands before them, and goes on when they come', async (t) => {
  const writer = await openStore(t)
  const core = writer.get({ name: 'directory' })
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await bee.ready()
  await writeMembers(bee, 1, 6)

  const reader = await openStore(t)
  const replica = reader.get({ key: core.key })
  await replica.ready()
  replica.download({ start: 0, end: -1 })
  const part = connect(writer, reader)
  await until(() => replica.contiguousLength === core.length, 'all blocks came', 5000)
  part()
  // As a process leaves it that is ended between a length and its blocks.
  await replica.clear(4, replica.length)
  t.is(replica.contiguousLength, 4)

  const directory = new Directory(replica)
  await directory.open()
  t.alike([...directory.members.keys()], [key(1), key(2), key(3)])
  t.absent(directory.caughtUp, 'it knows that there is more')
  await writeMembers(bee, 6, 8)
  connect(writer, reader)
  await until(() => directory.members.size === 7, 'the rest came', 5000)
  t.ok(directory.caughtUp)
  t.alike([...directory.unreadable.keys()], [])
})

test('behind a block that is no entry nothing is applied, and it is told once; closing tells nothing', async (t) => {
  const store = await openStore(t)
  const core = store.get({ name: 'directory' })
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await bee.ready()
  await writeMembers(bee, 1, 3)
  const directory = new Directory(core)
  const told: string[] = []
  directory.on('unreadable', ({ message }) => told.push(message))
  await directory.open()
  await core.append(Buffer.from([255, 255, 255, 255]))
  await until(() => told.length === 1, 'it is told')
  t.ok(told[0]?.startsWith('The block 3 of the directory cannot be read'), told[0])
  await directory.refresh()
  t.alike([...directory.members.keys()], [key(1), key(2)])
  t.alike([...directory.unreadable.keys()], ['block 3'])
  t.absent(directory.caughtUp)

  const refreshing = directory.refresh()
  await store.close()
  await refreshing
  t.is(told.length, 1)
})

test('a replica on a full disk keeps its link, asks for nothing again and again, and has all once there is room', async (t) => {
  const writer = await openStore(t)
  const core = writer.get({ name: 'directory' })
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await bee.ready()
  await writeMembers(bee, 1, 4)
  const reader = await openStore(t)
  const directory = new Directory(reader.get({ key: core.key }))
  await directory.open()
  const left = writer.replicate(true)
  const right = reader.replicate(false)
  left.pipe(right).pipe(left)
  const ends: unknown[] = []
  for (const stream of [left, right]) stream.on('error', (err: Error) => ends.push(err)).on('close', () => ends.push(1))
  await until(() => directory.members.size === 3, 'the first came')

  const { flush } = SessionState.prototype
  t.teardown(() => {
    SessionState.prototype.flush = flush
  })
  let isFull = true
  let tries = 0
  SessionState.prototype.flush = async function () {
    if (!isFull || this.core !== Reflect.get(directory.core, 'core')) return flush.call(this)
    tries++
    throw new Error('Batch was not applied', { cause: new Error('While appending to file: No space left on device') })
  }
  await writeMembers(bee, 4, 30)
  await until(() => tries > 0, 'the disk is full')
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.ok(tries < 200, `${tries} tries`)
  t.alike(ends, [])
  t.is(directory.members.size, 3)
  isFull = false
  await until(() => directory.members.size === 29, 'all came')
  t.alike(ends, [], 'the link stands')
  left.destroy()
  right.destroy()
})

test('a replica closes while blocks come in, and nothing fails that nobody waits for', async (t) => {
  const unhandled: unknown[] = []
  const note = (reason: unknown): void => {
    unhandled.push(reason)
  }
  const others = process.listeners('unhandledRejection')
  process.removeAllListeners('unhandledRejection').on('unhandledRejection', note)
  const { flush } = SessionState.prototype
  let late = 0
  // A slow disk: what is written comes to an end only after the core was closed.
  SessionState.prototype.flush = async function () {
    const done = await flush.call(this)
    await new Promise((resolve) => setTimeout(resolve, 5))
    if (this.core.replicator.destroyed) late++
    return done
  }
  t.teardown(() => {
    SessionState.prototype.flush = flush
    process.removeAllListeners('unhandledRejection')
    for (const listener of others) process.on('unhandledRejection', listener)
  })

  const writer = await openStore(t)
  const core = writer.get({ name: 'directory' })
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await bee.ready()
  await writeMembers(bee, 1, 40)
  for (let round = 0; round < 40; round++) {
    const reader = openCorestore(await t.tmp())
    const directory = new Directory(reader.get({ key: core.key }))
    await directory.open()
    const part = connect(writer, reader)
    const writing = writeMembers(bee, 100, 106)
    await new Promise((resolve) => setTimeout(resolve, round % 30))
    part()
    await directory.close()
    await reader.close()
    await writing
  }
  t.ok(late > 0, `${late} blocks were written after their core had closed`)
  t.alike(unhandled, [])
})

test('a replica that ends within a batch is incomplete, not damaged', async (t) => {
  const writer = await openStore(t)
  const core = writer.get({ name: 'directory' })
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await writeMembers(bee, 1, 3)
  await changeBee(bee, async (batch) => {
    for (let n = 3; n < 7; n++) {
      const member = { publicKey: key(n), role: 'processor', name: `p${n}`, addedAt: n }
      await batch.put(directoryKeys.member(key(n)), encodeJson(member))
    }
  })
  await core.clear(5, core.length)
  const directory = new Directory(core)
  await directory.open()
  t.is(directory.members.size, 4)
  t.alike([...directory.unreadable.keys()], [])
})

test('a replica follows a writer that was restored from a backup: what it had more is gone, all at once', async (t) => {
  const [dir, copy] = [await t.tmp(), await t.tmp()]
  let writer = openCorestore(dir)
  t.teardown(() => writer.close(), { order: 1 })
  let core = writer.get({ name: 'directory' })
  let bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await writeMembers(bee, 1, 6)
  await writer.close()
  cpSync(dir, copy, { recursive: true })
  rmSync(join(copy, 'CORESTORE'))

  writer = openCorestore(dir)
  core = writer.get({ name: 'directory' })
  bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await bee.del(directoryKeys.member(key(2)))
  const node = { publicKey: key(1), role: 'processor', host: '10.0.0.1', port: 1 }
  await bee.put(directoryKeys.nodes(), encodeJson({ nodes: [node] }))
  await bee.put(directoryKeys.network(), encodeJson({ kind: 'lan', bootstrap: [] }))
  await writeMembers(bee, 6, 20)
  const reader = await openStore(t)
  const directory = new Directory(reader.get({ key: core.key }))
  await directory.open()
  let part = connect(writer, reader)
  await until(() => directory.members.size === 18 && directory.caughtUp, 'the replica has all', 5000)
  t.alike([directory.nodes.length, directory.network?.kind], [1, 'lan'])
  part()
  await writer.close()

  writer = openCorestore(copy)
  core = writer.get({ name: 'directory' })
  await raiseFork(core, Date.now())
  const { fork } = core
  await raiseFork(core, fork)
  t.is(core.fork, fork, 'once for each restore')
  bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await writeMembers(bee, 30, 31)
  const seen: string[][] = []
  directory.on('change', () => seen.push([...directory.members.keys()]))
  part = connect(writer, reader)
  const restored = [1, 2, 3, 4, 5, 30].map(key)
  await until(() => directory.core.fork === fork && directory.caughtUp, 'the replica follows', 5000)
  t.alike([...directory.members.keys()], restored)
  t.alike([directory.nodes, directory.network], [[], undefined], 'of what was written since nothing is left')
  t.ok(
    seen.every((keys) => keys.length === 18 || restored.slice(0, 5).every((one) => keys.includes(one))),
    'none was missing',
  )
  await writeMembers(bee, 40, 60)
  await until(() => directory.members.size === 26, 'and goes on following', 5000)
  part()
})
