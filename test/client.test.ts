import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test, { type Test } from 'brittle'
import c from 'compact-encoding'
import Corestore from 'corestore'
import DHT, { type KeyPair } from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import ProtomuxRPC from 'protomux-rpc'
import { MeshClient, type MeshClientOptions } from '../lib/client/index.js'
import { homeFiles, readProfile } from '../lib/home/index.js'
import { CONTROL_PROTOCOL } from '../lib/link/control.js'
import { acceptGenerations, encodeAnswer, type GenerationSink } from '../lib/link/index.js'
import {
  decodeInvite,
  decodeKey,
  encodeJson,
  encodeKey,
  type Hello,
  MeshError,
  newApiKey,
  PROTOCOL_VERSION,
  readGeneration,
  SCOPES,
} from '../lib/protocol/index.js'
import { METHOD_NAMES } from '../lib/protocol/methods.js'
import type { AuthWorker } from '../workers/auth/index.js'
import {
  adminKey,
  codeOf,
  spawnNode,
  start,
  startAuth,
  TestWorker,
  testHome,
  testOptions,
  until,
  untilJoined,
} from './helpers/mesh.js'

/** The client library against a real authority. Gateways are stand-ins where a fault must be injected into a stream. */

const root = fileURLToPath(new URL('../../', import.meta.url))
const HELLO = { messages: [{ role: 'user' as const, content: 'a prompt nobody else may read' }] }

type Behaviour = (sink: GenerationSink, worker: TestWorker) => Promise<void>

/** Three words and the gateway's name. */
const answers: Behaviour = async (sink, worker) => {
  sink.push({ type: 'started', processor: worker.name })
  for (const [index, text] of ['one ', 'two ', worker.name].entries()) {
    sink.push({ type: 'tokens', index, ids: [index], text })
  }
  sink.finish({ reason: 'stop', usage: { promptTokens: 1, cachedTokens: 0, completionTokens: 3 } })
}

/** Tokens until nobody reads them any more. */
const goesOn: Behaviour = async (sink) => {
  for (let index = 0; !sink.signal.aborted; index++) {
    sink.push({ type: 'tokens', index, ids: [index], text: 'more ' })
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

interface StandIn {
  worker: TestWorker
  seen: { prompts: number; keys: Set<string>; cancelled: number }
}

/** A member with the role gateway that answers as the test says. */
async function startGateway(t: Test, home: string, name: string, behaviour: Behaviour): Promise<StandIn> {
  const worker = await start(t, new TestWorker('gateway', testOptions(home, name)))
  const seen = { prompts: 0, keys: new Set<string>(), cancelled: 0 }
  worker.net.dispatcher.authenticate = (key) => {
    seen.keys.add(key)
    return { keyId: 'test', user: 'admin', role: 'admin', scopes: SCOPES, limits: { key: {}, parents: [], user: {} } }
  }
  worker.net.dispatcher.respond('models', async () => ({ models: [], has_more: false }))
  worker.net.onGenerate(['client'], async (request, sink) => {
    readGeneration(request)
    seen.prompts++
    if (request.key !== undefined) seen.keys.add(request.key)
    sink.signal.addEventListener('abort', () => seen.cancelled++, { once: true })
    await behaviour(sink, worker)
  })
  await untilJoined(worker)
  return { worker, seen }
}

function startClient(t: Test, options: MeshClientOptions): MeshClient {
  const mesh = new MeshClient(options)
  t.teardown(() => mesh.close())
  return mesh
}

async function meshOf(t: Test): Promise<{ home: string; auth: AuthWorker }> {
  const home = await testHome(t)
  return { home, auth: await startAuth(t, home) }
}

/** A home that knows where the DHT is, but none of the mesh's files. */
async function otherHome(t: Test, home: string): Promise<MeshClientOptions> {
  const { address, network } = readProfile(home)
  return { home: await testHome(t), mesh: `${address}@${network.bootstrap.join(',')}` }
}

test('a script of ten lines streams an answer through the package’s entry', async (t) => {
  const { home } = await meshOf(t)
  await startGateway(t, home, 'g1', answers)
  const script = `
    import { MeshClient } from 'infermesh'
    const mesh = new MeshClient()
    const answer = mesh.chat({ messages: [{ role: 'user', content: 'Hello' }] })
    for await (const { text } of answer) process.stdout.write(text)
    const { finish } = await answer.result
    console.log('', finish.reason)
    await mesh.close()
  `
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
    cwd: root,
    env: { ...process.env, INFERMESH_HOME: home, INFERMESH_MESH: '', INFERMESH_KEY: '' },
  })
  t.is(stdout, 'one two g1 stop\n')
})

test('connecting and verifying takes less than 150 ms on one machine', async (t) => {
  const { home } = await meshOf(t)
  const { worker } = await startGateway(t, home, 'g1', answers)
  await startClient(t, { home }).connect()
  const times: number[] = []
  for (let i = 0; i < 3; i++) {
    const mesh = startClient(t, await otherHome(t, home))
    const startedAt = performance.now()
    await mesh.connect()
    times.push(performance.now() - startedAt)
    t.alike(mesh.gateway, { publicKey: worker.publicKey, name: 'g1' })
    await mesh.close()
  }
  const best = Math.min(...times)
  t.ok(best < 150, `${best.toFixed(0)} ms`)
})

test('an answer can be iterated, awaited, or both, in any order', async (t) => {
  const { home } = await meshOf(t)
  await startGateway(t, home, 'g1', answers)
  const mesh = startClient(t, { home })

  const whole = await mesh.chat(HELLO, { requestId: 'mine' }).result
  t.is(whole.text, 'one two g1')
  t.is(whole.requestId, 'mine')
  t.is(whole.finish.usage.completionTokens, 3)

  const answer = mesh.complete({ prompt: 'Once' })
  await answer.result
  const chunks: number[] = []
  for await (const { index } of answer) chunks.push(index)
  t.alike(chunks, [0, 1, 2], 'read again after its end')

  const types = new Set<string>()
  for await (const { type } of mesh.chat(HELLO).events()) types.add(type)
  t.alike([...types], ['started', 'tokens', 'finish'])
})

test('a stranger that announces the mesh’s address gets neither key nor prompt', async (t) => {
  const { home, auth } = await meshOf(t)
  const key = adminKey(home)
  const spies: Spy[] = []
  for (let i = 0; i < 3; i++) spies.push(await startSpy(auth))
  t.teardown(() => Promise.all(spies.map(({ destroy }) => destroy())))

  const alone = startClient(t, { ...(await otherHome(t, home)), key, timeoutMs: 2500 })
  t.is(await codeOf(alone.chat(HELLO).result), 'UNTRUSTED_GATEWAY', 'nobody but strangers and the authority')
  await alone.close()

  await startGateway(t, home, 'g1', answers)
  const mesh = startClient(t, { ...(await otherHome(t, home)), key })
  t.is((await mesh.chat(HELLO).result).text, 'one two g1', 'among strangers the gateway is found')
  await mesh.close()

  const heard = Buffer.concat(spies.flatMap(({ received }) => received))
  for (const { connections } of spies) t.ok(connections > 0, 'the stranger was dialled')
  t.ok(heard.byteLength > 0, `and heard ${heard.byteLength} bytes`)
  t.absent(heard.includes(key), 'not the key')
  t.absent(heard.includes(key.split('_')[2] as string), 'not its secret')
  t.absent(heard.includes(HELLO.messages[0]?.content as string), 'not the prompt')
})

interface Spy {
  received: Buffer[]
  connections: number
  connect(publicKey: string): void
  disconnect(): void
  destroy: () => Promise<void>
}

/**
 * A stranger that announces the address of a mesh and does all that a gateway does: it answers calls, takes
 * generations and even serves the mesh's own directory. It keeps every byte that it is sent.
 */
async function startSpy(
  auth: AuthWorker,
  {
    store = auth.store.corestore,
    keyPair = DHT.keyPair(),
    hello,
  }: { store?: Corestore; keyPair?: KeyPair; hello?: object } = {},
): Promise<Spy> {
  const { network } = readProfile(auth.home)
  const dht = new DHT({ keyPair, bootstrap: network.bootstrap, host: '127.0.0.1', firewalled: false })
  const swarm = new Hyperswarm({ dht, keyPair })
  // Politely, for forced it would go on announcing; and not waited for, because nodes that stopped make it slow.
  const destroy = async () => void swarm.destroy()
  const spy: Spy = {
    received: [],
    connections: 0,
    connect: (publicKey) => swarm.joinPeer(decodeKey(publicKey)),
    disconnect: () => {
      swarm.leavePeer(decodeKey(auth.publicKey))
      for (const conn of swarm.connections) conn.destroy()
    },
    destroy,
  }
  swarm.on('connection', (conn) => {
    spy.connections++
    conn.on('error', () => {})
    // What the Noise stream gives has been decrypted: all that the other side meant for this one.
    conn.on('data', (bytes) => spy.received.push(Buffer.from(bytes as Buffer)))
    const rpc = new ProtomuxRPC(conn, { id: conn.publicKey })
    for (const method of METHOD_NAMES) rpc.respond(method, async () => encodeAnswer({}))
    acceptGenerations(rpc.mux, async (_request, sink) => {
      sink.finish({ reason: 'stop', usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 } })
    })
    if (hello !== undefined) {
      const control = rpc.mux.createChannel({ protocol: CONTROL_PROTOCOL, handshake: c.raw })
      control?.open(encodeJson(hello))
    }
    store.replicate(conn)
  })
  // A meeting point keeps no stranger's announcement, but for one that has not read its directory yet.
  Object.defineProperty(auth.directory, 'known', { value: false, configurable: true })
  await swarm.join(auth.directory.core.discoveryKey, { server: true, client: false }).flushed()
  Reflect.deleteProperty(auth.directory, 'known')
  return spy
}

test('gateways that speak another version are named as that, and not waited for', async (t) => {
  const { home, auth } = await meshOf(t)
  const spy = await startSpy(auth, { hello: { protocolVersion: 99, version: '9.9.9' } })
  t.teardown(spy.destroy)
  const mesh = startClient(t, { ...(await otherHome(t, home)), key: adminKey(home) })
  const startedAt = performance.now()
  try {
    await mesh.chat(HELLO).result
    t.fail('it answered')
  } catch (err) {
    t.is((err as MeshError).code, 'VERSION_MISMATCH')
    t.ok((err as MeshError).message.includes(`speaks protocol 99 (infermesh 9.9.9), this side ${PROTOCOL_VERSION}`))
  }
  t.ok(performance.now() - startedAt < 3000, `${Math.round(performance.now() - startedAt)} ms`)
})

test('a gateway that was removed is not trusted on the word of a directory from before', async (t) => {
  const { home, auth } = await meshOf(t)
  const { worker } = await startGateway(t, home, 'g1', answers)
  const keyPair = DHT.keyPair(Buffer.alloc(32, 9))
  const admin = startClient(t, { home, seed: Buffer.alloc(32, 9) })
  const { id, secret } = decodeInvite((await admin.admin.invites.create({ role: 'gateway' })).invite)
  await admin.join({ id, secret, role: 'gateway', name: 'g2' })
  await admin.close()
  await until(() => worker.directory.membersWithRole('gateway').length === 2, 'it is a gateway of the mesh')

  const store = new Corestore(await t.tmp())
  t.teardown(() => store.close())
  const copy = store.get({ key: auth.directory.core.key })
  await copy.ready()
  copy.download({ start: 0, end: -1 })
  const hello: Hello = {
    protocolVersion: PROTOCOL_VERSION,
    version: '0.0.0',
    role: 'gateway',
    name: 'g2',
    since: 0,
    addresses: {},
  }
  const spy = await startSpy(auth, { store, keyPair, hello })
  t.teardown(spy.destroy)
  spy.connect(auth.publicKey)
  const { length } = auth.directory.core
  await until(async () => copy.length === length && (await copy.has(0, length)), 'it has a copy of the directory')
  spy.disconnect()
  await startClient(t, { home }).admin.members.remove({ member: 'g2' })
  await until(() => worker.directory.membersWithRole('gateway').length === 1, 'it is removed')
  t.is(copy.length, length, 'its copy lists it still')

  // Only the authority tells that it was removed: the other gateway is gone.
  await worker.stop()
  spy.received.length = 0
  const key = adminKey(home)
  const profile = readProfile(home)
  for (let i = 0; i < 3; i++) {
    const mesh = startClient(t, { home: await testHome(t), mesh: profile, key, timeoutMs: 1000 })
    t.is(await codeOf(mesh.chat(HELLO).result), 'UNTRUSTED_GATEWAY')
    await mesh.close()
  }
  t.ok(spy.connections > 0, 'it was dialled')
  t.absent(Buffer.concat(spy.received).includes(key))
})

test('a gateway that was removed from the mesh is dropped', async (t) => {
  const { home, auth } = await meshOf(t)
  const { worker } = await startGateway(t, home, 'g1', answers)
  const mesh = startClient(t, { home })
  await mesh.connect()
  await mesh.admin.members.remove({ member: 'g1' })
  await until(() => mesh.gateway === undefined, 'the client has left the gateway')
  t.absent(auth.directory.member(worker.publicKey))
})

test('each step of connecting that fails has its own code', async (t) => {
  const { home } = await meshOf(t)
  const { address, network } = readProfile(home)
  const none = await testHome(t)
  const connecting = async (options: MeshClientOptions) => codeOf(MeshClient.connect({ home: none, ...options }))
  t.is(await codeOf(Promise.resolve().then(() => new MeshClient({ home: none }))), 'CONFIG_INVALID')
  t.is(await connecting({ mesh: 'no address' }), 'BAD_REQUEST')
  t.is(await connecting({ mesh: address, network: 'private' }), 'BAD_REQUEST')
  t.is(await connecting({ mesh: address, bootstrap: ['127.0.0.1'] }), 'BAD_REQUEST')
  t.is(await connecting({ mesh: address, key: 'no key' }), 'INVALID_API_KEY')
  const [unreachable, notFound, noGateway] = await Promise.all([
    connecting({ mesh: address, bootstrap: ['127.0.0.1:9'] }),
    connecting({ mesh: 'y'.repeat(52), bootstrap: network.bootstrap }),
    connecting({ mesh: address, bootstrap: network.bootstrap, timeoutMs: 1500 }),
  ])
  t.is(unreachable, 'DHT_UNREACHABLE')
  t.is(notFound, 'MESH_NOT_FOUND')
  t.is(noGateway, 'PEER_NOT_FOUND', 'the authority answers, but no gateway does')
})

test('the home’s key is for the home’s mesh only', async (t) => {
  const { home } = await meshOf(t)
  const other = await meshOf(t)
  const { seen } = await startGateway(t, other.home, 'g1', answers)
  const { address, network } = readProfile(other.home)
  const mesh = startClient(t, { home, mesh: address, bootstrap: network.bootstrap })
  t.is(await codeOf(mesh.chat(HELLO).result), 'INVALID_API_KEY')
  t.is(await codeOf(mesh.models()), 'INVALID_API_KEY')
  t.is(seen.keys.size, 0, 'the gateway of the other mesh saw no key')
})

test('a request that is wrong is refused with the name of the field', async (t) => {
  const { home } = await meshOf(t)
  const { seen } = await startGateway(t, home, 'g1', answers)
  const mesh = startClient(t, { home })
  const failure = await mesh.chat({ ...HELLO, maxTokens: 0 }).result.catch((err: unknown) => MeshError.from(err))
  t.is((failure as MeshError).code, 'BAD_REQUEST')
  t.ok((failure as MeshError).details.param?.includes('maxTokens'))
  t.is(seen.prompts, 0)
})

test('leaving a loop, cancel, a signal and a deadline end the generation at the gateway', async (t) => {
  const { home } = await meshOf(t)
  const { seen } = await startGateway(t, home, 'g1', goesOn)
  const mesh = startClient(t, { home })

  for await (const _ of mesh.chat(HELLO)) break
  await until(() => seen.cancelled === 1, 'the loop that was left is cancelled')

  const answer = mesh.chat(HELLO)
  await answer[Symbol.asyncIterator]().next()
  answer.cancel()
  t.is(await codeOf(answer.result), 'CANCELLED')
  t.ok(answer.text.startsWith('more '), 'what had come is kept')

  const controller = new AbortController()
  const signalled = mesh.chat(HELLO, { signal: controller.signal })
  await signalled[Symbol.asyncIterator]().next()
  controller.abort()
  t.is(await codeOf(signalled.result), 'CANCELLED')
  t.is(await codeOf(mesh.chat(HELLO, { signal: AbortSignal.abort() }).result), 'CANCELLED', 'aborted beforehand')
  t.is(await codeOf(mesh.chat(HELLO, { timeoutMs: 150 }).result), 'TIMEOUT')
  await until(() => seen.cancelled === 4, 'each generation was cancelled')
})

test('a request id that is none, or is taken, is refused alone: the answers beside it go on', async (t) => {
  const { home } = await meshOf(t)
  await startGateway(t, home, 'g1', goesOn)
  const mesh = startClient(t, { home })
  const beside = mesh.chat(HELLO, { requestId: 'mine' })
  const events = beside[Symbol.asyncIterator]()
  await events.next()
  for (const requestId of ['a b', 'x'.repeat(80), '', 5 as unknown as string]) {
    t.is(await codeOf(mesh.chat(HELLO, { requestId }).result), 'BAD_REQUEST', JSON.stringify(requestId))
  }
  t.is(await codeOf(mesh.models({ requestId: 'a b' })), 'BAD_REQUEST')
  t.is(await codeOf(mesh.chat(HELLO, { requestId: 'mine' }).result), 'CONFLICT')
  for (let i = 0; i < 5; i++) t.absent((await events.next()).done)
  beside.cancel()
  t.is(await codeOf(beside.result), 'CANCELLED')
})

test('a lost gateway is replaced on the next call', async (t) => {
  const { home } = await meshOf(t)
  const gateways = [await startGateway(t, home, 'g1', answers), await startGateway(t, home, 'g2', answers)]
  const mesh = startClient(t, { home })
  const first = (await mesh.chat(HELLO).result).text
  const lost = gateways.find(({ worker }) => first.endsWith(worker.name))
  await lost?.worker.stop()
  const second = await mesh.chat(HELLO).result
  t.not(second.text, first, 'another gateway answered')
})

test('a stream that is lost before its first token is asked for once more', async (t) => {
  const { home } = await meshOf(t)
  let cut = 0
  const { seen } = await startGateway(t, home, 'g1', async (sink, worker) => {
    if (cut++ === 0) sink.fail(MeshError.SHUTTING_DOWN('cut by the test'))
    else await answers(sink, worker)
  })
  const mesh = startClient(t, { home })
  t.is((await mesh.chat(HELLO).result).text, 'one two g1')
  t.is(seen.prompts, 2)
})

test('a stream that breaks after its first token fails, and does not look finished', async (t) => {
  const { home } = await meshOf(t)
  const { worker, seen } = await startGateway(t, home, 'g1', goesOn)
  const mesh = startClient(t, { home })
  const answer = mesh.chat(HELLO)
  const chunks = answer[Symbol.asyncIterator]()
  await chunks.next()
  void worker.stop()
  const readAll = async () => {
    while (!(await chunks.next()).done);
  }
  t.is(await codeOf(readAll()), 'LINK_CLOSED')
  t.is(await codeOf(answer.result), 'LINK_CLOSED')
  t.is(seen.prompts, 1, 'not asked again')
})

test('a gateway that hangs is given up after three seconds of silence', async (t) => {
  const { home } = await meshOf(t)
  const { process: child } = spawnNode(t, 'worker.js', [
    '--wtype',
    'gateway',
    '--data-dir',
    home,
    '--set',
    'http.port=0',
  ])
  const mesh = startClient(t, { home, timeoutMs: 15_000 })
  await mesh.connect()
  await until(async () => (await codeOf(mesh.models())) === undefined, 'the gateway knows the key')
  child.kill('SIGSTOP')
  const startedAt = Date.now()
  t.is(await codeOf(mesh.admin.models.remove({ name: 'none' })), 'LINK_CLOSED')
  const waitedMs = Date.now() - startedAt
  t.ok(waitedMs > 2500 && waitedMs < 4500, `${waitedMs} ms`)
})

test('admin calls go to the authority, and say so when it is down', async (t) => {
  const { home, auth } = await meshOf(t)
  await startGateway(t, home, 'g1', answers)
  const mesh = startClient(t, { ...(await otherHome(t, home)), key: adminKey(home), timeoutMs: 2000 })
  const user = await mesh.admin.users.add({ name: 'ann' })
  t.is(user.role, 'user')
  const { key, ...info } = await mesh.admin.keys.create({ user: 'ann', label: 'laptop' })
  t.ok(key.startsWith(`im_${info.id}_`))
  t.ok((await mesh.admin.keys.list()).some(({ id }) => id === info.id))
  const asAnn = startClient(t, { ...(await otherHome(t, home)), key })
  t.is(await codeOf(asAnn.admin.users.list()), 'FORBIDDEN')
  t.is(await codeOf(startClient(t, { home, key: newApiKey().text }).admin.users.list()), 'INVALID_API_KEY')
  t.alike((await mesh.admin.members.list()).map(({ name }) => name).sort(), ['auth', 'g1'])
  await auth.stop()
  t.is(await codeOf(mesh.admin.users.list()), 'AUTHORITY_DOWN')
  t.is((await mesh.chat(HELLO).result).text, 'one two g1', 'inference goes on')
})

test('a client of the same home finds its gateway while the authority is down', async (t) => {
  const { home, auth } = await meshOf(t)
  const { worker } = await startGateway(t, home, 'g1', answers)
  await until(() => worker.net.addresses.dht !== undefined, 'the gateway has its address')
  writeStatus(worker)
  await auth.stop()
  t.is((await startClient(t, { home }).chat(HELLO).result).text, 'one two g1')
})

test('an invite is spent through the client, which proves the new member’s key', async (t) => {
  const { home, auth } = await meshOf(t)
  const admin = startClient(t, { home })
  const { invite } = await admin.admin.invites.create({ role: 'processor' })
  const { id, secret, profile } = decodeInvite(invite)
  const seed = Buffer.alloc(32, 7)
  const mesh = startClient(t, { home: await testHome(t), mesh: profile, seed })
  const member = await mesh.join({ id, secret, role: 'processor', name: 'p1' })
  t.is(member.publicKey, encodeKey(DHT.keyPair(seed).publicKey))
  await until(() => auth.directory.member(member.publicKey)?.role === 'processor', 'the directory lists it')
  const again = startClient(t, { home: await testHome(t), mesh: profile })
  t.is(await codeOf(again.join({ id, secret, role: 'processor', name: 'p2' })), 'INVITE_INVALID')
})

test('a client writes no files, and closing ends what is under way and refuses more', async (t) => {
  const { home } = await meshOf(t)
  await startGateway(t, home, 'g1', goesOn)
  const before = temporaryFiles()
  const mesh = startClient(t, { home })
  const answer = mesh.chat(HELLO)
  await answer[Symbol.asyncIterator]().next()
  t.alike(temporaryFiles(), before)
  await mesh.close()
  t.is(await codeOf(answer.result), 'LINK_CLOSED')
  t.is(await codeOf(mesh.models()), 'LINK_CLOSED')
})

/** What clients of any process left among the temporary files. */
function temporaryFiles(): string[] {
  return readdirSync(tmpdir()).filter((name) => /^infermesh-(client|in-memory)-/.test(name))
}

function writeStatus(worker: TestWorker): void {
  const { statusDir, status } = homeFiles(worker.home)
  mkdirSync(statusDir, { recursive: true })
  writeFileSync(status(worker.role, worker.name), JSON.stringify(worker.status()))
}
