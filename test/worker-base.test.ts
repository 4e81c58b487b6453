import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test from 'brittle'
import { homeFiles } from '../lib/home/index.js'
import { MeshError } from '../lib/protocol/index.js'
import { Http } from '../lib/worker-base/http/index.js'
import type { Facility, WorkerOptions } from '../lib/worker-base/index.js'
import {
  linked,
  readStatus,
  ready,
  sleep,
  spawnMember,
  spawnNode,
  startAuthority,
  startMember,
  TestAuthority,
  TestWorker,
  testOptions,
  until,
} from './helpers/mesh.js'

/** Tells what was started and stopped, in order. */
class Recorder implements Facility {
  constructor(
    readonly name: string,
    readonly events: string[],
    readonly fault?: 'start' | 'stop',
  ) {}

  async start(): Promise<void> {
    this.events.push(`start ${this.name}`)
    if (this.fault === 'start') throw new Error('cannot start')
  }

  async stop(): Promise<void> {
    this.events.push(`stop ${this.name}`)
    if (this.fault === 'stop') await sleep(1000)
  }
}

class RecordingAuthority extends TestAuthority {
  constructor(
    options: WorkerOptions,
    readonly events: string[],
    readonly faults: Record<string, 'start' | 'stop'> = {},
  ) {
    super(options)
  }

  protected override _facilities(): Facility[] {
    return ['first', 'second', 'third'].map((name) => new Recorder(name, this.events, this.faults[name]))
  }

  protected override async _stop(): Promise<void> {
    this.events.push('stop the worker')
  }
}

test('facilities start in order and stop in reverse, after the worker itself', async (t) => {
  const events: string[] = []
  const worker = new RecordingAuthority(testOptions(await t.tmp(), 'auth'), events)
  await worker.start()
  await worker.stop()
  await worker.stop()
  t.alike(events, [
    'start first',
    'start second',
    'start third',
    'stop the worker',
    'stop third',
    'stop second',
    'stop first',
  ])
})

test('where a facility cannot start, what had started is stopped, and the home can be used again', async (t) => {
  const events: string[] = []
  const home = await t.tmp()
  const worker = new RecordingAuthority(testOptions(home, 'auth'), events, { second: 'start' })
  await t.exception(worker.start(), /cannot start/)
  t.alike(events, ['start first', 'start second', 'stop the worker', 'stop second', 'stop first'])
  t.absent(existsSync(homeFiles(home).status('auth', 'auth')))

  const again = new TestAuthority(testOptions(home, 'auth'))
  await again.start()
  await again.stop()
})

test('a facility that does not stop in time is left behind', async (t) => {
  const events: string[] = []
  const options = testOptions(await t.tmp(), 'auth', { worker: { facilityDeadlineMs: 300 } })
  const worker = new RecordingAuthority(options, events, { second: 'stop' })
  await worker.start()
  const began = performance.now()
  await worker.stop()
  t.ok(performance.now() - began < 1500)
  t.is(events.at(-1), 'stop first')
})

test('a worker that belongs to no mesh says what to do', async (t) => {
  const worker = new TestWorker('processor', testOptions(await t.tmp(), 'p1'))
  await t.exception(worker.start(), /belongs to no mesh yet: run `infermesh up`/)
})

test('the status file says who runs here, and goes when the worker stops', async (t) => {
  const authority = await startAuthority(t)
  const worker = await startMember(t, authority, 'processor', 'p1')
  const status = readStatus(authority.home, 'processor', 'p1')
  t.is(status?.publicKey, worker.publicKey)
  t.is(status?.pid, process.pid)
  t.is(status?.role, 'processor')
  t.is(status?.name, 'p1')
  t.is(status?.load.state, 'ready')
  t.ok(Math.abs((status?.since ?? 0) - Date.now()) < 10_000)
  t.ok(readStatus(authority.home, 'auth', 'auth')?.addresses.bootstrap?.startsWith('127.0.0.1:'))
  await worker.stop()
  t.absent(readStatus(authority.home, 'processor', 'p1'))
})

test('the identity is for its owner alone, and stays the same', async (t) => {
  const home = await t.tmp()
  const { publicKey, workerDir } = new TestWorker('processor', testOptions(home, 'p1'))
  const file = join(workerDir, 'identity.key')
  t.is(statSync(file).mode & 0o777, 0o600)
  t.is(statSync(workerDir).mode & 0o777, 0o700)
  t.is(new TestWorker('processor', testOptions(home, 'p1')).publicKey, publicKey)
  t.not(new TestWorker('processor', testOptions(home, 'p2')).publicKey, publicKey)
})

test('a TCP port that is in use is refused with the pid of its holder', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const http = new Http({ host: '127.0.0.1', port }, join(await t.tmp(), 'port'), () => {})
  t.teardown(() => http.stop())
  try {
    await http.start()
    t.fail('it started')
  } catch (err) {
    t.is(err instanceof MeshError && err.code, 'PORT_IN_USE')
    const pid = process.platform === 'linux' ? `the process with pid ${process.pid}` : ''
    t.ok((err as Error).message.includes(`127.0.0.1:${port} is in use by ${pid}`), (err as Error).message)
  }
})

test('a port that was free is kept for the next start, and another one taken where somebody has it by then', async (t) => {
  const file = join(await t.tmp(), 'port')
  const warnings: string[] = []
  const listen = async () => {
    const http = new Http({ host: '127.0.0.1', port: 0 }, file, (message) => warnings.push(message))
    await http.start()
    const port = Number(new URL(http.url).port)
    await http.stop()
    return port
  }
  const port = await listen()
  t.is(await listen(), port)
  t.alike(warnings, [])
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const other = await listen()
  t.not(other, port)
  t.is(warnings.length, 1)
  t.ok(warnings[0]?.includes(`port ${port}`), warnings[0])
  await new Promise((resolve) => server.close(resolve))
  t.is(await listen(), other, 'the new one is kept then')
  writeFileSync(file, 'nonsense')
  t.ok((await listen()) > 0)
})

test('a second process on the same store names the first and ends with 75, and the first goes on', async (t) => {
  const authority = await startAuthority(t)
  const first = await spawnMember(t, authority, 'processor', 'p1')
  await linked(authority, first)
  const second = await spawnNode(t, 'test/worker-child.js', ['processor', authority.home, 'p1']).exited
  t.is(second.code, 75)
  t.ok(second.stderr.includes(`is in use by the process with pid ${first.process.pid}`), second.stderr)
  t.is(second.stderr.trim().split('\n').length, 1)
  t.is(readStatus(authority.home, 'processor', 'p1')?.pid, first.process.pid, 'the first keeps its status file')
  t.ok((await (await linked(authority, first)).call('ping', {})).at > 0)
})

test('SIGTERM drains, says so to the links, and ends with 0', async (t) => {
  const authority = await startAuthority(t)
  const child = await spawnMember(t, authority, 'processor', 'p1', 'drains')
  const link = await linked(authority, child)
  await until(() => link.load?.state === 'ready', 'ready is known')
  child.process.kill('SIGTERM')
  await until(() => link.load?.state === 'draining', 'draining is known', 300)
  t.absent(link.closed, 'the link stays while it drains')
  const { code, stderr } = await child.exited
  t.is(code, 0)
  t.is(stderr, 'drained\n')
  t.absent(readStatus(authority.home, 'processor', 'p1'))
})

test('a second signal ends a worker that drains at once', async (t) => {
  const authority = await startAuthority(t)
  const child = await spawnMember(t, authority, 'processor', 'p1', 'never drains')
  child.process.kill('SIGTERM')
  await until(() => readStatus(authority.home, 'processor', 'p1')?.load.state === 'draining', 'it drains')
  const began = performance.now()
  child.process.kill('SIGTERM')
  const { code, stderr } = await child.exited
  t.ok(performance.now() - began < 500)
  t.not(code, 0)
  t.is(stderr, '')
})

test('an unexpected error stops the worker, is logged, and ends it non-zero', async (t) => {
  for (const behaviour of ['throws', 'rejects']) {
    const authority = await startAuthority(t)
    const child = await spawnMember(t, authority, 'processor', 'p1', behaviour)
    const { code, stderr } = await child.exited
    t.is(code, 70, behaviour)
    t.ok(stderr.includes('drained'), 'what ran was finished')
    t.absent(readStatus(authority.home, 'processor', 'p1'))
  }
})

test('a killed worker leaves its status file, and its next start takes the store over', async (t) => {
  const authority = await startAuthority(t)
  const child = await spawnMember(t, authority, 'processor', 'p1')
  child.process.kill('SIGKILL')
  await child.exited
  t.is(readStatus(authority.home, 'processor', 'p1')?.pid, child.process.pid)
  const next = spawnNode(t, 'test/worker-child.js', ['processor', authority.home, 'p1'])
  const status = await ready(authority.home, 'processor', 'p1', next.process.pid)
  t.is(status.publicKey, child.publicKey)
})

test('the log is JSON lines for its owner alone, and hides secrets', async (t) => {
  const home = await t.tmp()
  const worker = new TestAuthority(testOptions(home, 'auth', { log: { level: 'info' } }))
  await worker.start()
  worker.log.info({ key: 'im_secret', request: { password: 'hunter2' } }, 'something')
  await worker.stop()
  const file = homeFiles(home).log('auth', 'auth')
  t.is(statSync(file).mode & 0o777, 0o600)
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  const entries = lines.map((line) => JSON.parse(line) as { msg: string; role: string; worker: string })
  t.ok(entries.every(({ role, worker }) => role === 'auth' && worker === 'auth'))
  t.ok(entries.some(({ msg }) => msg === 'something'))
  t.absent(/im_secret|hunter2/.test(lines.join('')))
})
