import RPC from '@hyperswarm/rpc'
import test, { type Test } from 'brittle'
import c from 'compact-encoding'
import type { NoiseStream } from 'hyperdht'
import type Protomux from 'protomux'
import { Peer } from '../lib/client/peer.js'
import { encodeCredit } from '../lib/link/credit.js'
import { encodeEvent } from '../lib/link/events.js'
import { GENERATE_PROTOCOL } from '../lib/link/generate.js'
import { acceptFetches, acceptGenerations, type FetchRequest, Generation, Link } from '../lib/link/index.js'
import {
  encodeAsk,
  type GenerateInput,
  type Hello,
  MeshError,
  type MeshProfile,
  newRequestId,
  PROTOCOL_VERSION,
} from '../lib/protocol/index.js'
import { openCorestore } from '../lib/store/index.js'
import { connect, listen } from './helpers/connection.js'
import {
  codeOf,
  linked,
  sleep,
  spawnMember,
  start,
  startAuthority,
  startMember,
  TestAuthority,
  testOptions,
  until,
} from './helpers/mesh.js'

const helloOf = (fields: object = {}): Hello => ({
  protocolVersion: PROTOCOL_VERSION,
  version: '0.0.0',
  role: 'processor',
  name: 'p1',
  since: 0,
  addresses: {},
  ...fields,
})

/** Both ends of one link. @param serve attaches what the far end serves */
async function connectLinks(t: Test, own: Hello = helloOf(), serve?: (link: Link) => void) {
  let far: Link | undefined
  const { conn } = await connect(t, (mux) => {
    far = new Link({ conn: mux.stream as NoiseStream, hello: helloOf({ name: 'far' }), roleOf: () => 'processor' })
    serve?.(far)
  })
  const near = new Link({ conn, hello: own, roleOf: () => 'processor' })
  return { near, far: await until(() => far, 'the far end is there') }
}

const closed = (link: Link) => new Promise<MeshError>((resolve) => link.once('close', resolve))

async function failureOf(work: Promise<unknown>): Promise<MeshError> {
  return work.then(
    () => MeshError.INTERNAL('it did not fail'),
    (err: unknown) => MeshError.from(err),
  )
}

async function readAll(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

const generateInput = (): GenerateInput => ({
  requestId: newRequestId(),
  request: { kind: 'completion', prompt: 'x' },
})
const fetchInput = (): FetchRequest => ({
  requestId: newRequestId(),
  method: 'GET',
  path: '/v1/models',
  headers: [],
  body: false,
})

test('what is under way on a link fails with the reason why it ended, and what comes later too', async (t) => {
  const { near, far } = await connectLinks(t, helloOf(), (link) => {
    link.rpc.respond('ping', () => new Promise(() => {}))
    acceptGenerations(link.mux, () => new Promise(() => {}))
    acceptFetches(link.mux, () => new Promise(() => {}))
  })
  const work = [near.call('ping', {}), readAll(near.generate(generateInput())), near.fetch(fetchInput()).response].map(
    failureOf,
  )
  await sleep(50)
  far.close(MeshError.SHUTTING_DOWN('the far end stops'))
  for (const failure of await Promise.all(work)) {
    t.is(failure.code, 'LINK_CLOSED')
    t.ok(failure.message.endsWith('The other side closed the link: the far end stops'), failure.message)
  }
  const later = [
    near.call('ping', {}),
    Promise.resolve().then(() => near.generate(generateInput())),
    Promise.resolve().then(() => near.fetch(fetchInput())),
  ].map(failureOf)
  for (const failure of await Promise.all(later)) {
    t.is(failure.code, 'LINK_CLOSED')
    t.ok(failure.message.includes('the far end stops'), failure.message)
  }
})

test('a connection that breaks is told with the name of the peer', async (t) => {
  const { near, far } = await connectLinks(t, helloOf(), (link) => {
    link.rpc.respond('ping', () => new Promise(() => {}))
  })
  await until(() => near.hello, 'the far end says hello')
  const call = failureOf(near.call('ping', {}))
  await sleep(20)
  far.conn.destroy()
  const { code, message } = await call
  t.is(code, 'LINK_CLOSED')
  t.ok(message.startsWith('The link closed while ping was under way: '), message)
  t.ok(message.includes('processor far'), message)
})

test('fields that a later version adds to its hello are ignored; a name that is none is refused', async (t) => {
  const later = await connectLinks(t, helloOf({ features: ['takeover'], lease: { ms: 1 } }))
  t.is((await until(() => later.far.hello, 'the hello is read')).name, 'p1')
  t.absent(later.far.closed)

  let garbage = 0
  let ended: Promise<MeshError> | undefined
  await connectLinks(t, helloOf({ name: '\u001b[2Jp1' }), (far) => {
    far.on('garbage', () => garbage++)
    ended = closed(far)
  })
  t.is((await ended)?.code, 'BAD_REQUEST')
  t.is(garbage, 1)
})

test('a generation takes no more than it gave credit for, and says so', async (t) => {
  const { mux } = await connect(t, (far) => {
    far.pair({ protocol: GENERATE_PROTOCOL }, (id) => {
      const channel = far.createChannel({ protocol: GENERATE_PROTOCOL, id, handshake: c.raw })
      const event = channel?.addMessage<Uint8Array>({ encoding: c.raw })
      channel?.open(Buffer.alloc(0))
      for (let index = 0; index < 1000; index++)
        event?.send(encodeEvent({ type: 'tokens', index, ids: [index], text: 'x' }))
    })
  })
  const generation = new Generation(mux, generateInput())
  await generation.done
  let tokens = 0
  const failure = await failureOf(
    (async () => {
      for await (const event of generation) if (event.type === 'tokens') tokens++
    })(),
  )
  t.is(failure.code, 'LINK_CLOSED')
  t.ok(failure.message.includes('more than its credit'), failure.message)
  t.ok(tokens > 32 && tokens <= 64, `${tokens} events were taken`)
})

/** Opens a generation by hand, sends these credits, and reads nothing. @returns how many events came, and the last */
async function withCredits(mux: Protomux, credits: Uint8Array[]) {
  const events: Uint8Array[] = []
  const channel = mux.createChannel({
    protocol: GENERATE_PROTOCOL,
    id: Buffer.from(newRequestId()),
    handshake: c.raw,
  })
  channel?.addMessage<Uint8Array>({ encoding: c.raw, onmessage: (bytes) => events.push(Buffer.from(bytes)) })
  const credit = channel?.addMessage<Uint8Array>({ encoding: c.raw })
  channel?.open(encodeAsk(generateInput()))
  for (const bytes of credits) credit?.send(bytes)
  await sleep(300)
  channel?.close()
  return { events: events.length, last: events.at(-1) }
}

test('excessive credit does not widen a generation’s window, and what is no credit ends it', async (t) => {
  const { mux } = await connect(t, (far) =>
    acceptGenerations(far, async (_request, sink) => {
      await sleep(100)
      for (let index = 0; index < 1000; index++) sink.push({ type: 'tokens', index, ids: [index], text: 'x' })
    }),
  )
  const { events } = await withCredits(mux, Array(10).fill(encodeCredit(0xffff_ffff)))
  t.ok(events <= 64, `${events} events came`)
  const { last } = await withCredits(mux, [Buffer.from([1, 2])])
  t.is(last?.[0], 4, 'an error')
  t.is(JSON.parse(Buffer.from(last ?? []).toString('utf8', 1)).code, 'BAD_REQUEST')
})

test('a clock that is set back does not hide a member’s silence, nor one set forward cut its link', async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const child = await spawnMember(t, authority, 'processor', 'p1')
  const link = await linked(gateway, child)
  const { now } = Date
  t.teardown(() => (Date.now = now), { order: -10 })
  Date.now = () => now() + 3_600_000
  await sleep(700)
  t.absent(link.closed)
  t.absent(link.suspect)
  Date.now = () => now() - 3_600_000
  await sleep(700)
  t.teardown(() => child.process.kill('SIGCONT'), { order: -9 })
  const began = performance.now()
  const ended = closed(link)
  child.process.kill('SIGSTOP')
  const { message } = await ended
  t.ok(/was silent for 3\d\d\d ms/.test(message), message)
  t.ok(performance.now() - began < 4000)
})

test('a profile that is given to a net stays as it is; the net’s own names the bootstrap node', async (t) => {
  let given: MeshProfile | undefined
  class Authority extends TestAuthority {
    protected override async _profile(): Promise<MeshProfile> {
      given = await super._profile()
      return given
    }
  }
  const authority = new Authority(testOptions(await t.tmp(), 'auth'))
  await start(t, authority)
  t.alike(given?.network.bootstrap, [])
  t.alike(authority.profile.network.bootstrap, [authority.net.addresses.bootstrap])
})

/** A client's peer, and the far end of its connection. */
async function dialPeer(t: Test, onConnection: (conn: NoiseStream) => void): Promise<Peer> {
  const { near, publicKey } = await listen(t, onConnection)
  const store = openCorestore(await t.tmp())
  t.teardown(() => store.close(), { order: 1 })
  const rpc = new RPC({ dht: near })
  return new Peer({ rpc, store, publicKey, nodes: [], dialMs: 5000, roleOf: () => 'client' })
}

test('a client whose peer sends garbage is told that the link closed, not that it asked wrongly', async (t) => {
  const peer = await dialPeer(t, (conn) => conn.write(Buffer.from([0, 0, 1, 0xff])))
  const { code, message } = await closed(peer)
  t.is(code, 'LINK_CLOSED')
  t.ok(message.includes('no frame of its protocol'), message)
})

test('a client says nothing when it leaves, and a peer that does not speak the protocol is no open one', async (t) => {
  const heard: Buffer[] = []
  const peer = await dialPeer(t, (conn) => {
    conn.on('data', (bytes) => heard.push(Buffer.from(bytes as Buffer)))
  })
  await until(() => heard.length > 0, 'the client says hello')
  t.absent(peer.opened)
  t.is(await codeOf(peer.call('ping', {}, { timeoutMs: 50 })), 'TIMEOUT')
  const ended = closed(peer)
  peer.close(MeshError.UNTRUSTED_GATEWAY('a secret of this client'))
  t.is((await ended).code, 'UNTRUSTED_GATEWAY')
  await sleep(200)
  t.absent(Buffer.concat(heard).includes('secret'))
})

test('heartbeats go out while a message that came with others is worked on', async (t) => {
  let working = false
  const { near, far } = await connectLinks(t, helloOf(), ({ mux }) => {
    mux.pair({ protocol: 'test/slow' }, () => {
      const channel = mux.createChannel({ protocol: 'test/slow' })
      channel?.addMessage({
        encoding: c.raw,
        onmessage: () => {
          working = true
          return new Promise<void>(() => {})
        },
      })
      channel?.open()
    })
  })
  const channel = near.mux.createChannel({ protocol: 'test/slow' })
  const message = channel?.addMessage({ encoding: c.raw })
  channel?.open()
  t.ok(await channel?.fullyOpened())
  near.mux.cork()
  for (let i = 0; i < 2; i++) message?.send(Buffer.from('x'))
  near.mux.uncork()
  await until(() => working, 'the batch is worked on')
  far.report({ state: 'ready', running: 7, queued: 0, models: [] })
  await until(() => near.load?.running === 7, 'the heartbeat came', 2000)
  t.pass('it came')
})
