import test, { type Test } from 'brittle'
import type { NoiseStream } from 'hyperdht'
import { Link } from '../lib/link/index.js'
import { type Hello, MeshError, PROTOCOL_VERSION, type Role } from '../lib/protocol/index.js'
import { loadIdentity } from '../lib/worker-base/identity.js'
import type { Net } from '../lib/worker-base/index.js'
import { tooManyClients } from '../lib/worker-base/net/clients.js'
import type { Handler } from '../lib/worker-base/net/dispatcher.js'
import {
  type Child,
  dial,
  linked,
  ready,
  sleep,
  spawnMember,
  spawnNode,
  startAuthority,
  startMember,
  type TestAuthority,
  TestWorker,
  testOptions,
  until,
} from './helpers/mesh.js'

function closed(link: Link): Promise<MeshError> {
  return new Promise((resolve) => link.once('close', resolve))
}

async function failure(work: Promise<unknown>): Promise<MeshError> {
  try {
    await work
  } catch (err) {
    if (err instanceof MeshError) return err
    throw err
  }
  throw new Error('nothing failed')
}

/** The other end of a link in the test's own hands, speaking any hello. */
function rawLink(conn: NoiseStream, role: Role, hello: Partial<Hello> = {}): Link {
  const own: Hello = {
    protocolVersion: PROTOCOL_VERSION,
    version: '0.0.0',
    role,
    name: 'raw',
    since: Date.now(),
    addresses: {},
    ...hello,
  }
  return new Link({ conn, hello: own, roleOf: () => 'processor' })
}

/** A member whose end of the link the test holds. */
async function rawMember(t: Test, authority: TestAuthority, role: Role, to: TestWorker): Promise<NoiseStream> {
  const member = new TestWorker(role, testOptions(authority.home, 'raw'))
  await authority.admit(member)
  await until(() => to.directory.member(member.publicKey), 'the other side knows it')
  return dial(t, authority, to.publicKey, loadIdentity(member.workerDir))
}

test('a member dials the authority by its public key, and both say hello', async (t) => {
  const authority = await startAuthority(t)
  const began = performance.now()
  const processor = await startMember(t, authority, 'processor', 'p1')
  const up = await linked(processor, authority)
  const down = await linked(authority, processor)
  t.comment(`linked ${Math.round(performance.now() - began)} ms after the start`)
  t.is(up.hello?.role, 'auth')
  t.is(down.hello?.name, 'p1')
  t.ok((await up.call('ping', {})).at > 0)
  t.ok((await down.call('ping', {})).at > 0, 'both ways')
})

test('a gateway dials processors as the directory names them, and of two gateways one dials', async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  await linked(gateway, authority)
  const began = performance.now()
  const processor = await startMember(t, authority, 'processor', 'p1')
  await linked(gateway, processor)
  t.comment(`linked ${Math.round(performance.now() - began)} ms after the start`)
  const other = await startMember(t, authority, 'gateway', 'g2')
  await linked(gateway, other)
  await linked(other, processor)
  await sleep(300)
  t.is(gateway.net.members.size, 3)
  t.is(gateway.net.linksTo('processor')[0]?.publicKey, processor.publicKey)
  const states = gateway.net.views().map(({ role, name, state }) => `${role} ${name} ${state}`)
  t.alike(states.sort(), ['auth auth ready', 'gateway g1 ready', 'gateway g2 ready', 'processor p1 ready'])
})

test('processors do not link with each other', async (t) => {
  const authority = await startAuthority(t)
  const first = await startMember(t, authority, 'processor', 'p1')
  const second = await startMember(t, authority, 'processor', 'p2')
  await linked(first, authority)
  await linked(second, authority)
  await sleep(300)
  t.alike([...first.net.members.keys()], [authority.publicKey])
})

test('another protocol version is refused, and both sides can read why', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  await linked(processor, authority)
  const conn = await rawMember(t, authority, 'gateway', processor)
  const reason = await closed(rawLink(conn, 'gateway', { protocolVersion: 99, version: '9.9.9' }))
  t.is(reason.code, 'VERSION_MISMATCH')
  t.ok(reason.message.includes(`speaks protocol 99 (infermesh 9.9.9), this side ${PROTOCOL_VERSION}`), reason.message)

  const view = await until(() => processor.net.views().find(({ name, reason }) => name === 'raw' && reason), 'a reason')
  t.is(view.state, 'down')
  t.ok(view.reason?.includes('speaks protocol 99'), view.reason)
  const text = await processor.registry.metrics()
  t.ok(text.includes('infermesh_link_closed_total{reason="VERSION_MISMATCH"} 1'))
  t.ok(text.includes('infermesh_bad_frames_total 0'), 'an honest other version is no garbage')
})

test('a client of another version is told so, and one of this version hears no load reports', async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  await linked(gateway, authority)
  const hello = (protocolVersion: number) => ({ protocolVersion, role: 'client' }) as unknown as Hello
  const refused = rawLink(await dial(t, authority, gateway.publicKey), 'gateway', hello(99))
  const reason = await closed(refused)
  t.is(reason.code, 'VERSION_MISMATCH')
  t.ok(reason.message.includes('speaks protocol 99'), reason.message)

  const taken = rawLink(await dial(t, authority, gateway.publicKey), 'gateway', hello(PROTOCOL_VERSION))
  let reports = 0
  taken.on('load', () => reports++)
  t.ok((await taken.call('ping', {})).at > 0)
  await sleep(1200)
  t.is(reports, 0)
  t.absent(taken.closed)
})

test('a member that claims another role than the directory’s is refused', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  await linked(processor, authority)
  const conn = await rawMember(t, authority, 'gateway', processor)
  const reason = await closed(rawLink(conn, 'metrics'))
  t.is(reason.code, 'REFUSED')
})

test('a stranger is refused by a processor with NOT_A_MEMBER, and taken by a gateway as a client', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  await linked(gateway, processor)
  const refused = rawLink(await dial(t, authority, processor.publicKey), 'gateway')
  t.is((await closed(refused)).code, 'NOT_A_MEMBER')

  const client = rawLink(await dial(t, authority, gateway.publicKey), 'gateway')
  await until(() => client.hello, 'the gateway says hello')
  t.ok((await client.call('ping', {})).at > 0)
  t.is((await failure(client.call('status', {}))).code, 'FORBIDDEN')
  t.absent(gateway.net.members.has(client.publicKey))
})

test('a gateway takes no more clients than it is told to', async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1', { net: { maxClients: 1 } })
  await linked(gateway, authority)
  const first = rawLink(await dial(t, authority, gateway.publicKey), 'gateway')
  await first.call('ping', {})
  const second = rawLink(await dial(t, authority, gateway.publicKey), 'gateway')
  const reason = await closed(second)
  t.is(reason.code, 'BUSY')
  t.absent(first.closed)
})

test('clients from one address take no more than its share of a gateway', (t) => {
  const bounds = { maxClients: 6, maxClientsPerAddress: 2 }
  const code = (address: string, ...others: string[]) => tooManyClients([...others, address], address, bounds)?.code
  t.is(code('10.0.0.1', '10.0.0.1'), undefined)
  t.is(code('10.0.0.1', '10.0.0.1', '10.0.0.1'), 'BUSY')
  t.is(code('10.0.0.2', '10.0.0.1', '10.0.0.1'), undefined, 'others are taken')
  t.is(code('127.0.0.1', '127.0.0.1', '127.0.0.1', '127.0.0.1'), undefined, 'this machine has no share')
  t.is(code('10.0.0.9', ...Array<string>(6).fill('127.0.0.1')), 'BUSY')
  t.is(tooManyClients(Array<string>(5).fill('10.0.0.1'), '10.0.0.1', { ...bounds, maxClientsPerAddress: 0 }), undefined)
})

test('a removed member is cut off within a second, and told so', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const link = await linked(gateway, processor)
  const other = await linked(processor, gateway)
  const atGateway = closed(link)
  const atProcessor = closed(other)
  const began = performance.now()
  await authority.remove(processor.publicKey)
  t.is((await atGateway).code, 'NOT_A_MEMBER')
  const cutMs = performance.now() - began
  t.ok(cutMs < 1000, `cut after ${Math.round(cutMs)} ms`)
  t.is((await atProcessor).code, 'NOT_A_MEMBER')
  await sleep(1000)
  t.absent(gateway.net.members.has(processor.publicKey), 'it stays out')

  await authority.admit(processor)
  const again = performance.now()
  await linked(gateway, processor)
  t.comment(`admitted again after ${Math.round(performance.now() - again)} ms`)
})

test('a member whose time is over is cut off without anybody’s doing', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const { publicKey, role, name } = processor
  const link = await linked(gateway, processor)
  await authority.admit({ publicKey, role, name, notAfter: Date.now() + 1200 })
  await sleep(300)
  t.absent(link.closed)
  t.is((await closed(link)).code, 'NOT_A_MEMBER')
})

function stopped(t: Test, child: Child): () => void {
  const go = () => child.process.kill('SIGCONT')
  t.teardown(go, { order: -2 })
  child.process.kill('SIGSTOP')
  return go
}

test('a worker that hangs is suspect after 1.5 s and cut off after 3 s', async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const child = await spawnMember(t, authority, 'processor', 'p1')
  const link = await linked(gateway, child)
  await until(() => link.load, 'a load report')
  const ended = closed(link)
  const suspect = new Promise((resolve) => link.once('suspect', () => resolve(performance.now())))
  const began = performance.now()
  stopped(t, child)
  const suspectMs = ((await suspect) as number) - began
  t.alike(gateway.net.linksTo('processor'), [], 'a suspect gets no new work')
  const reason = await ended
  const closedMs = performance.now() - began
  t.comment(`suspect after ${Math.round(suspectMs)} ms, closed after ${Math.round(closedMs)} ms`)
  // Silence counts from the last heartbeat, which may be one interval before the stop.
  t.ok(suspectMs > 850 && suspectMs < 2400, 'suspect')
  t.ok(closedMs > 2350 && closedMs < 3900, 'closed')
  t.is(reason.code, 'LINK_CLOSED')
  t.ok(/was silent for 3\d\d\d ms/.test(reason.message), reason.message)
})

test('a worker that hung for less keeps its link, and is no longer suspect', async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const child = await spawnMember(t, authority, 'processor', 'p1')
  const link = await linked(gateway, child)
  const go = stopped(t, child)
  await until(() => link.suspect, 'it is suspect')
  go()
  await until(() => !link.suspect, 'it is no longer', 1000)
  t.ok((await link.call('ping', {})).at > 0)
  t.is(gateway.net.members.get(child.publicKey), link)
})

test('a worker that was killed is linked again within 2 s of its return, at once or late', async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  let child: Child = await spawnMember(t, authority, 'processor', 'p1')
  const { publicKey } = await ready(authority.home, 'processor', 'p1')
  let link = await linked(gateway, { publicKey })
  for (const awayMs of [0, 5000]) {
    child.process.kill('SIGKILL')
    await child.exited
    if (awayMs > 0) {
      const silence = await closed(link)
      t.ok(silence.message.includes('was silent'))
      await sleep(awayMs - 3000)
    }
    const began = performance.now()
    child = spawnNode(t, 'test/worker-child.js', ['processor', authority.home, 'p1'])
    const old = link
    link = await until(
      () => {
        const now = gateway.net.members.get(publicKey)
        return now === old ? undefined : now
      },
      'it is linked again',
      10_000,
    )
    const fromSpawnMs = Math.round(performance.now() - began)
    // From the worker's own start: how long Node needs to load it says nothing of links.
    const backMs = Date.now() - (link.hello?.since ?? 0)
    t.ok(
      backMs < 2000,
      `away for ${awayMs} ms: linked ${backMs} ms after its start, ${fromSpawnMs} ms after its process's`,
    )
    t.ok((await link.call('ping', {})).at > 0)
    await sleep(500)
    t.is(gateway.net.members.get(publicKey), link, 'and stays')
  }
})

test('a worker that stops says goodbye', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  await linked(processor, authority)
  const link = await linked(authority, processor)
  const reason = closed(link)
  const began = performance.now()
  await processor.stop()
  t.is((await reason).code, 'SHUTTING_DOWN')
  t.is((await reason).message, 'The other side closed the link: processor stops')
  t.ok(performance.now() - began < 1000)
})

test('while the authority and its bootstrap node are away, the other links stay', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const link = await linked(gateway, processor)
  await until(() => gateway.directory.known && processor.directory.known, 'both know the directory')
  await authority.stop()
  await sleep(1500)
  t.absent(link.closed)
  t.absent(link.suspect)
  t.ok((await link.call('ping', {})).at > 0)
  const err = await failure(Promise.resolve().then(() => gateway.net.authority()))
  t.is(err.code, 'AUTHORITY_DOWN')
})

test('a member that cannot be reached is down, and the view says which step failed', async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const { publicKey } = new TestWorker('processor', testOptions(authority.home, 'p1'))
  await authority.admit({ publicKey, role: 'processor', name: 'p1' })
  const view = await until(() => gateway.net.views().find(({ name, reason }) => name === 'p1' && reason), 'a reason')
  t.is(view.state, 'down')
  t.is(view.reason, 'processor p1 is not in the DHT: it is not running, or it runs on another network')
})

test('a change of load is told at once', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const link = await linked(authority, processor)
  const delays: number[] = []
  for (let running = 1; running <= 5; running++) {
    await sleep(130)
    const began = performance.now()
    processor.extraLoad = { running }
    processor.net.loadChanged()
    await until(() => link.load?.running === running, 'it is known')
    delays.push(performance.now() - began)
  }
  const worst = Math.max(...delays)
  t.ok(worst < 400, `at most ${Math.round(worst)} ms`)
})

test('heartbeats measure the round trip, not the wait between them', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const link = await linked(authority, processor)
  const rttMs = await until(() => link.rttMs, 'a round trip is measured')
  t.comment(`${rttMs.toFixed(2)} ms`)
  t.ok(rttMs < 250)
  t.ok((await authority.registry.metrics()).includes('infermesh_link_rtt_seconds{role="processor"} 0.0'))
})

/** A gateway and a processor that serves `processor.embed` with the handler. */
async function serving(t: Test, handler: Handler<'processor.embed'>): Promise<Link> {
  const authority = await startAuthority(t)
  const serve = (net: Net) => net.dispatcher.respond('processor.embed', handler)
  const processor = await startMember(t, authority, 'processor', 'p1', {}, serve)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  return linked(gateway, processor)
}

test('cancelling a call aborts its handler', async (t) => {
  let signal: AbortSignal | undefined
  const link = await serving(t, (_request, context) => {
    signal = context.signal
    return new Promise(() => {})
  })
  const controller = new AbortController()
  const call = failure(link.call('processor.embed', { input: ['x'] }, { signal: controller.signal }))
  await until(() => signal, 'the handler runs')
  const began = performance.now()
  controller.abort()
  t.is((await call).code, 'CANCELLED')
  await until(() => signal?.aborted, 'its signal aborts')
  t.comment(`after ${(performance.now() - began).toFixed(1)} ms`)
  t.is((signal?.reason as MeshError | undefined)?.code, 'CANCELLED')
})

test('a call that was cancelled before it began is not sent', async (t) => {
  let calls = 0
  const link = await serving(t, async () => {
    calls++
    throw new Error('not reached')
  })
  t.is(
    (await failure(link.call('processor.embed', { input: ['x'] }, { signal: AbortSignal.abort() }))).code,
    'CANCELLED',
  )
  await link.call('ping', {}).catch(() => {})
  t.is(calls, 0)
})

test('a deadline ends the call on both sides', async (t) => {
  let signal: AbortSignal | undefined
  let leftMs = 0
  const link = await serving(t, (_request, context) => {
    signal = context.signal
    leftMs = context.deadline - performance.now()
    return new Promise(() => {})
  })
  const began = performance.now()
  const err = await failure(link.call('processor.embed', { input: ['x'] }, { timeoutMs: 200 }))
  const tookMs = performance.now() - began
  t.is(err.code, 'TIMEOUT')
  t.ok(tookMs > 190 && tookMs < 1000, `${Math.round(tookMs)} ms`)
  t.ok(leftMs > 0 && leftMs <= 200)
  await until(() => signal?.aborted, 'the handler’s signal aborts', 500)
})

test('a link that ends aborts what runs for it, and fails what waits on it', async (t) => {
  let signal: AbortSignal | undefined
  const link = await serving(t, (_request, context) => {
    signal = context.signal
    return new Promise(() => {})
  })
  const call = failure(link.call('processor.embed', { input: ['x'] }))
  await until(() => signal, 'the handler runs')
  link.close(MeshError.LINK_CLOSED('the test closes it'))
  t.is((await call).code, 'LINK_CLOSED')
  await until(() => signal?.aborted, 'its signal aborts', 1000)
})

test('a call that takes long holds nothing else up, not even what came in one packet with it', async (t) => {
  const link = await serving(t, () => new Promise(() => {}))
  link.mux.cork()
  const slow = failure(link.call('processor.embed', { input: ['x'] }, { timeoutMs: 2500 }))
  const began = performance.now()
  const ping = link.call('ping', {})
  link.mux.uncork()
  await ping
  t.ok(performance.now() - began < 500, 'another call is answered')
  t.is((await slow).code, 'TIMEOUT')
  t.absent(link.suspect, 'heartbeats came all the time')
  t.absent(link.closed)
})

test('what a handler throws arrives as an error, and a fault of its own as INTERNAL', async (t) => {
  const faults: unknown[] = [
    MeshError.BUSY('All slots are busy', { retryAfterMs: 7 }),
    new TypeError('a fault with a secret in it'),
    new RangeError('another'),
    'a text',
    undefined,
  ]
  const link = await serving(t, async () => {
    throw faults.shift()
  })
  const busy = await failure(link.call('processor.embed', { input: ['x'] }))
  t.is(busy.code, 'BUSY')
  t.is(busy.message, 'All slots are busy')
  t.is(busy.retryAfterMs, 7)
  for (let i = 0; i < 4; i++) {
    const internal = await failure(link.call('processor.embed', { input: ['x'] }))
    t.is(internal.code, 'INTERNAL')
    t.absent(internal.message.includes('secret'))
  }
  t.ok((await link.call('ping', {})).at > 0)
})

test('a call is refused when its method is unknown, not for the caller, or its body is wrong', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const toProcessor = await linked(gateway, processor)
  const toAuthority = await linked(processor, authority)
  t.is((await failure(toProcessor.call('processor.embed', { input: ['x'] }))).code, 'UNKNOWN_METHOD')
  t.is((await failure(toAuthority.call('metrics.collect', {}))).code, 'FORBIDDEN')
  const wrong = await failure(toAuthority.call('ping', { x: 1 } as never))
  t.is(wrong.code, 'BAD_REQUEST')
  t.is(wrong.details.param, 'x')
  t.is((await failure(toAuthority.call('ping', { x: 'x'.repeat(5_000_000) } as never))).code, 'MESSAGE_TOO_LARGE')
  const text = await authority.registry.metrics()
  t.ok(text.includes('infermesh_rpc_refused_total{reason="role"} 1'))
  t.ok(text.includes('infermesh_rpc_duration_seconds_count{method="ping",code="BAD_REQUEST"} 1'))
})
