import { readFileSync } from 'node:fs'
import test, { type Test } from 'brittle'
import c from 'compact-encoding'
import DHT, { type KeyPair, type NoiseStream } from 'hyperdht'
import Protomux, { type Channel } from 'protomux'
import ProtomuxRPC from 'protomux-rpc'
import { homeFiles, readProfile } from '../lib/home/index.js'
import { CONTROL_PROTOCOL } from '../lib/link/control.js'
import { GENERATE_PROTOCOL } from '../lib/link/generate.js'
import { CANCEL_EVENT, type Link } from '../lib/link/index.js'
import { callMethod } from '../lib/link/rpc.js'
import {
  decodeInvite,
  decodeKey,
  encodeAsk,
  encodeJson,
  type GenerateInput,
  type MeshProfile,
  PROTOCOL_VERSION,
  type Role,
} from '../lib/protocol/index.js'
import { METHOD_NAMES } from '../lib/protocol/methods.js'
import { Dice } from './helpers/dice.js'
import { type Child, linked, ready, sleep, spawnNode, start, TestWorker, testOptions, until } from './helpers/mesh.js'

const FRAMES = Number(process.env.FUZZ_FRAMES ?? 10_000)
const SEED = Number(process.env.FUZZ_SEED ?? 20_260_131)
const FRAMES_PER_CONNECTION = 40

const validRequest: GenerateInput = {
  requestId: 'req_fuzz',
  key: 'im_ybndrfg8ejkmc_ybndrfg8ejkmcpqxot1uwisza345h769ybndrfg8ejkmcpqxot1uwi',
  request: { kind: 'chat', messages: [{ role: 'user', content: 'hi' }], maxTokens: 4 },
}
const validHello = (role: Role) => ({
  protocolVersion: PROTOCOL_VERSION,
  version: '0.1.0',
  role,
  name: 'fuzz',
  since: 1,
  addresses: {},
})
const validReport = { seq: 1, echo: { seq: 1, heldMs: 1 }, load: { state: 'ready', running: 0, queued: 0, models: [] } }
const bodies: Partial<Record<(typeof METHOD_NAMES)[number], unknown>> = {
  join: { id: 'x', secret: 'y', role: 'processor', name: 'fuzz' },
  chat: validRequest.request,
  embed: { input: ['x'] },
  'processor.embed': { input: ['x'] },
  'keys.create': { label: 'x', limits: { requestsPerMinute: 1 } },
  'models.announce': { name: 'm', hash: 'h', sizeBytes: 1 },
}

/** One connection in hostile hands. */
class Attack {
  readonly #conn: NoiseStream
  readonly #dice: Dice
  readonly #mux: Protomux
  readonly #role: Role
  readonly #coreIds: Buffer[]
  #rpc: { request: (bytes: Buffer) => void; answer: (bytes: Buffer) => void } | undefined
  #control: { channel: Channel; report: (bytes: Buffer) => void; goodbye: (bytes: Buffer) => void } | undefined
  #generations: { channel: Channel; credit: (bytes: Buffer) => void; event: (bytes: Buffer) => void }[] = []

  constructor(conn: NoiseStream, dice: Dice, role: Role, coreIds: Buffer[]) {
    this.#conn = conn
    this.#dice = dice
    this.#role = role
    this.#coreIds = coreIds
    conn.on('error', () => {})
    this.#mux = Protomux.from(conn)
    // What the other side opens must find its half here, or it closes the connection before the attack begins.
    this.#openRpc()
    if (dice.below(3) > 0) this.#openControl(dice.below(3) > 0)
  }

  get over(): boolean {
    return this.#conn.destroyed || this.#conn.destroying
  }

  strike(): void {
    const dice = this.#dice
    switch (dice.below(8)) {
      case 0:
        return this.#raw(dice.bytes(1 + dice.below(100)))
      case 1:
        // Control session: batch, open, reject, close, and more.
        return this.#raw(Buffer.concat([Buffer.from([0, dice.below(5)]), dice.bytes(dice.below(30))]))
      case 2:
      case 3:
        return this.#rpcFrame()
      case 4:
        return this.#controlFrame()
      case 5:
      case 6:
        return this.#generateFrame()
      default:
        return this.#replicationFrame()
    }
  }

  #raw(bytes: Buffer): void {
    this.#conn.write(bytes)
  }

  #openRpc(): void {
    const { isInitiator, remotePublicKey, publicKey } = this.#conn
    const channel = this.#mux.createChannel({
      protocol: 'protomux-rpc',
      id: isInitiator ? remotePublicKey : publicKey,
    })
    if (channel === null) return
    const request = channel.addMessage<Uint8Array>({ encoding: c.raw })
    const answer = channel.addMessage<Uint8Array>({ encoding: c.raw })
    channel.open()
    this.#rpc = { request: (bytes) => void request.send(bytes), answer: (bytes) => void answer.send(bytes) }
  }

  #openControl(valid: boolean): void {
    const channel = this.#mux.createChannel({ protocol: CONTROL_PROTOCOL, handshake: c.raw })
    if (channel === null) return
    const report = channel.addMessage<Uint8Array>({ encoding: c.raw })
    const goodbye = channel.addMessage<Uint8Array>({ encoding: c.raw })
    const hello = validHello(this.#role)
    channel.open(valid ? encodeJson(hello) : this.#dice.spoilt(hello))
    this.#control = {
      channel,
      report: (bytes) => void report.send(bytes),
      goodbye: (bytes) => void goodbye.send(bytes),
    }
  }

  #rpcFrame(): void {
    const dice = this.#dice
    const name =
      dice.below(20) === 0 ? dice.one(['', '__proto__', 'toString', 'x'.repeat(999)]) : dice.one(METHOD_NAMES)
    const method = dice.below(8) === 0 ? CANCEL_EVENT : name
    const valid = { requestId: `r${dice.below(9)}`, timeoutMs: 50, body: bodies[name as keyof typeof bodies] ?? {} }
    const value = dice.below(10) === 0 ? Buffer.alloc(0) : dice.below(4) === 0 ? encodeJson(valid) : dice.spoilt(valid)
    const id = dice.one([0, 1, 1, 2, 77, 0xffffffff])
    const encoded = Buffer.concat([
      c.encode(c.uint, id),
      c.encode(c.string, method),
      dice.below(10) === 0 ? value : c.encode(c.buffer, value),
    ])
    if (dice.below(6) === 0) this.#rpc?.answer(dice.below(2) === 0 ? dice.bytes(dice.below(40)) : dice.mutated(encoded))
    else this.#rpc?.request(dice.below(4) === 0 ? dice.mutated(encoded) : encoded)
  }

  #controlFrame(): void {
    const dice = this.#dice
    if (this.#control === undefined || this.#control.channel.closed) return this.#openControl(dice.below(2) === 0)
    if (dice.below(5) === 0) this.#control.goodbye(dice.spoilt({ code: 'BUSY', message: 'x' }))
    else this.#control.report(dice.below(2) === 0 ? encodeJson(validReport) : dice.spoilt(validReport))
  }

  #generateFrame(): void {
    const dice = this.#dice
    const open = this.#generations.filter(({ channel }) => !channel.closed)
    const chosen = open[dice.below(open.length + 1)]
    if (chosen === undefined || open.length === 0) {
      const channel = this.#mux.createChannel({
        protocol: GENERATE_PROTOCOL,
        id: dice.one([Buffer.from(`req_${dice.below(1e6)}`), dice.bytes(dice.below(80)), null]),
        handshake: c.raw,
      })
      if (channel === null) return
      const ask = encodeAsk(validRequest)
      const head = ask.subarray(0, 2 + ask.readUInt16LE())
      const event = channel.addMessage<Uint8Array>({ encoding: c.raw })
      const credit = channel.addMessage<Uint8Array>({ encoding: c.raw })
      channel.open(dice.one([ask, dice.mutated(ask), Buffer.concat([head, dice.spoilt(validRequest.request)])]))
      this.#generations = [
        ...open,
        { channel, event: (bytes) => void event.send(bytes), credit: (bytes) => void credit.send(bytes) },
      ]
      return
    }
    switch (dice.below(4)) {
      case 0:
        return chosen.event(dice.bytes(dice.below(50)))
      case 1:
        return chosen.channel.close()
      default:
        return chosen.credit(
          dice.below(2) === 0
            ? dice.bytes(dice.below(10))
            : Buffer.from(c.encode(c.uint, dice.one([0, 1, 64, 2 ** 50]))),
        )
    }
  }

  #replicationFrame(): void {
    const dice = this.#dice
    const channel = this.#mux.createChannel({
      protocol: 'hypercore/alpha',
      id: dice.one(this.#coreIds),
      handshake: c.raw,
    })
    if (channel === null) return
    const messages = Array.from({ length: 12 }, () => channel.addMessage<Uint8Array>({ encoding: c.raw }))
    // A handshake that hypercore takes: no flags but the seeks', a 32-byte capability.
    channel.open(dice.below(3) === 0 ? dice.bytes(dice.below(50)) : Buffer.concat([Buffer.from([1]), dice.bytes(32)]))
    for (let i = dice.below(4); i > 0; i--) dice.one(messages).send(dice.bytes(dice.below(60)))
    if (dice.below(2) === 0) channel.close()
  }
}

/** A mesh of real workers in processes of their own, and one honest member that is linked with all of them. */
async function startMesh(t: Test) {
  const home = await t.tmp()
  const children = new Map<Role, Child>()
  const keys = new Map<Role, string>()
  for (const role of ['auth', 'gateway', 'processor'] as const) {
    const settings = ['http.port=0', 'engine.embedded=false', 'log.level=warn'].flatMap((set) => ['--set', set])
    const child = spawnNode(t, 'worker.js', ['--wtype', role, '--data-dir', home, ...settings], {}, ['--expose-gc'])
    children.set(role, child)
    keys.set(role, (await ready(home, role, role, child.process.pid)).publicKey)
  }
  const honest = await start(t, new TestWorker('metrics', testOptions(home, 'honest')))
  const links = new Map<Role, Link>()
  for (const [role, publicKey] of keys) links.set(role, await linked(honest, { publicKey }))
  return { home, children, keys, honest, links, profile: readProfile(home) }
}

class Attacker {
  readonly dht: DHT
  readonly #dice: Dice
  readonly #coreIds: Buffer[]

  constructor(t: Test, { network }: MeshProfile, dice: Dice, coreIds: Buffer[]) {
    this.dht = new DHT({ bootstrap: network.bootstrap, host: '127.0.0.1' })
    t.teardown(() => this.dht.destroy({ force: true }), { order: -1 })
    this.#dice = dice
    this.#coreIds = coreIds
  }

  async connect(publicKey: string, keyPair: KeyPair): Promise<NoiseStream | undefined> {
    const conn = this.dht.connect(decodeKey(publicKey), { keyPair })
    const opened = await new Promise<boolean>((resolve) => {
      conn.on('open', () => resolve(true))
      conn.on('error', () => resolve(false))
      conn.on('close', () => resolve(false))
    })
    return opened ? conn : undefined
  }

  /** Makes a key pair a member with the home's own invite. */
  async join(home: string, authority: string, role: Role, name: string): Promise<KeyPair> {
    const keyPair = DHT.keyPair()
    const conn = await this.connect(authority, keyPair)
    if (conn === undefined) throw new Error('the authority does not answer')
    const { id, secret } = decodeInvite(readFileSync(homeFiles(home).homeInvite, 'utf8'))
    const rpc = new ProtomuxRPC(conn, { id: conn.remotePublicKey })
    await callMethod(rpc, 'join', { id, secret, role, name })
    conn.destroy()
    return keyPair
  }

  /** One connection's worth of frames. @returns how many were sent */
  async attack(target: string, keyPair: KeyPair, role: Role): Promise<number> {
    const conn = await this.connect(target, keyPair)
    if (conn === undefined) return 0
    const attack = new Attack(conn, this.#dice, role, this.#coreIds)
    let sent = 0
    while (sent < FRAMES_PER_CONNECTION && !attack.over) {
      attack.strike()
      sent++
      if (sent % 10 === 0) await new Promise(setImmediate)
    }
    await sleep(5)
    conn.destroy()
    return sent
  }
}

/** One of a worker's numbers, added up over its labels. */
async function metric(link: Link, name: string): Promise<number> {
  const { metrics } = await link.call('metrics.collect', {})
  const found = metrics.find((metric) => (metric as { name?: string }).name === name)
  const { values } = (found ?? { values: [] }) as { values: { value: number }[] }
  return values.reduce((sum, { value }) => sum + value, 0)
}

test('ten thousand hostile frames leave every worker alive, its other links prompt, and nothing behind', {
  timeout: 60_000,
}, async (t) => {
  const mesh = await startMesh(t)
  const { home, profile, keys, links, children } = mesh
  const dice = new Dice(SEED)
  const address = decodeKey(profile.address)
  const discovery = mesh.honest.directory.core.discoveryKey
  const attacker = new Attacker(t, profile, dice, [discovery, address, dice.bytes(32), dice.bytes(5)])
  const authority = keys.get('auth') as string
  const members: [Role, KeyPair][] = []
  for (const role of ['gateway', 'processor', 'metrics'] as const) {
    members.push([role, await attacker.join(home, authority, role, `fuzz-${role}`)])
  }
  await until(() => mesh.honest.directory.members.size === 7, 'the directory lists the attackers')
  await sleep(500)

  const before = new Map<Role, { links: number; heap: number; handles: number }>()
  const measure = async (link: Link) => ({
    links: await metric(link, 'infermesh_links'),
    heap: await metric(link, 'nodejs_heap_size_used_bytes'),
    handles: await metric(link, 'nodejs_active_handles'),
  })
  for (const [role, link] of links) before.set(role, await measure(link))

  let fuzzing = true
  const waits: number[] = []
  const watch = (async () => {
    while (fuzzing) {
      for (const link of links.values()) {
        const began = performance.now()
        await link.call('ping', {}, { timeoutMs: 5000 })
        waits.push(performance.now() - began)
      }
      await sleep(50)
    }
  })()

  const began = performance.now()
  let sent = 0
  const targets = [...keys.values()]
  const worker = async () => {
    while (sent < FRAMES) {
      const target = dice.one(targets)
      const stranger = dice.below(3) === 0
      const [role, keyPair] = stranger ? (['gateway', DHT.keyPair()] as const) : dice.one(members)
      sent += await attacker.attack(target, keyPair, role)
    }
  }
  await Promise.all([worker(), worker(), worker()])
  const tookMs = performance.now() - began
  fuzzing = false
  await watch
  t.comment(`seed ${SEED}: ${sent} frames in ${Math.round(tookMs)} ms`)
  const worst = Math.max(...waits)
  t.comment(`${waits.length} honest calls meanwhile, the slowest ${Math.round(worst)} ms`)
  t.ok(tookMs < 25_000)
  t.ok(worst < 2000, 'the other links stay prompt')

  for (const [role, link] of links) {
    const { process } = children.get(role) as Child
    t.is(process.exitCode ?? process.signalCode, null, `the ${role} lives`)
    t.absent(link.closed, `the honest link to the ${role} is the same as before`)
    const baseline = before.get(role) as { links: number; heap: number; handles: number }
    let after = await measure(link)
    for (let i = 0; i < 40 && after.links > baseline.links; i++) {
      await sleep(250)
      after = await measure(link)
    }
    t.is(after.links, baseline.links, `links of the ${role}`)
    t.ok(after.handles <= baseline.handles + 5, `handles of the ${role}: ${baseline.handles}, then ${after.handles}`)
    const grownMiB = (after.heap - baseline.heap) / 2 ** 20
    t.ok(grownMiB < 48, `heap of the ${role} grew by ${grownMiB.toFixed(1)} MiB`)
    t.ok((await metric(link, 'infermesh_bad_frames_total')) > 0, `the ${role} counted bad frames`)
    const status = await link.call('status', {})
    t.is(status.load.running, 0, `nothing runs at the ${role}`)
  }
})

const uint = (value: number): Buffer => Buffer.from(c.encode(c.uint, value))
const text = (value: string): Buffer => Buffer.from(c.encode(c.string, value))
const NOTHING = Buffer.from([0])

/** A frame that opens a channel: `id` is null where the channel has none. */
function openFrame(channel: number, protocol: string, id: Buffer | null, handshake: Buffer = Buffer.alloc(0)): Buffer {
  const encodedId = id === null ? NOTHING : Buffer.from(c.encode(c.buffer, id))
  return Buffer.concat([Buffer.from([0, 1]), uint(channel), text(protocol), encodedId, handshake])
}

/** A frame of message `type` on a channel. */
function messageFrame(channel: number, type: number, ...parts: Buffer[]): Buffer {
  return Buffer.concat([uint(channel), uint(type), ...parts])
}

/** Batches within a batch. */
function nestedBatches(depth: number): Buffer {
  // The control session's batch (0, 0), for the control session (0), with a part longer than all that follows.
  const layer = Buffer.concat([Buffer.from([0, 0]), uint(1e6)])
  return Buffer.concat([Buffer.from([0]), ...Array.from({ length: depth }, () => layer)])
}

/** Frames that each aim at one weak place, sent on a fresh connection in this order. @param rpcId the id of its RPC channel */
function malice(rpcId: Buffer): Record<string, Buffer[]> {
  const openRpc = openFrame(1, 'protomux-rpc', rpcId)
  const request = (id: number, method: string, value: Buffer) => messageFrame(1, 0, uint(id), text(method), value)
  const hello = encodeJson(validHello('gateway'))
  const generate = (channel: number, id: string, handshake: Buffer) =>
    openFrame(channel, GENERATE_PROTOCOL, Buffer.from(id), handshake)
  return {
    'an open of the control session': [openFrame(0, 'x', null)],
    'batches nested beyond the stack': [nestedBatches(60_000)],
    'a batch that ends in its middle': [Buffer.from([0, 0, 1, 0xff])],
    'a reject of a channel that nobody opened': [Buffer.from([0, 2, 0xfd, 0xff, 0xff])],
    'a reject of every channel': [1, 2, 3, 4, 5, 6].map((channel) => Buffer.from([0, 2, channel])),
    'a close of every channel': [1, 2, 3, 4, 5, 6].map((channel) => Buffer.from([0, 3, channel])),
    'an open far beyond the last channel': [openFrame(2 ** 40, 'x', null)],
    'an open of an open channel': [openFrame(1, 'x', null), openRpc, openRpc],
    'a cancel of nothing': [openRpc, request(0, CANCEL_EVENT, NOTHING), request(1, CANCEL_EVENT, NOTHING)],
    'a cancel without a value': [openRpc, request(1, CANCEL_EVENT, Buffer.alloc(0))],
    'every method without a value': [openRpc, ...METHOD_NAMES.map((name, i) => request(i + 1, name, NOTHING))],
    'a request that ends in its id': [openRpc, messageFrame(1, 0, Buffer.from([0xff]))],
    'an answer to nothing, with every flag': [
      openRpc,
      messageFrame(1, 1, Buffer.from([0x0f, 1]), text('a'), text('b')),
    ],
    'an answer of no known error': [openRpc, messageFrame(1, 1, Buffer.from([0xff]))],
    'a hello that is empty': [openFrame(1, CONTROL_PROTOCOL, null)],
    'a hello that is null': [openFrame(1, CONTROL_PROTOCOL, null, Buffer.from('null'))],
    'a hello nested beyond the stack': [openFrame(1, CONTROL_PROTOCOL, null, Buffer.from('['.repeat(3_000_000)))],
    'a report before the hello': [openFrame(1, CONTROL_PROTOCOL, null, hello), messageFrame(1, 0, Buffer.from('{}'))],
    'a goodbye that is no text': [
      openFrame(1, CONTROL_PROTOCOL, null, hello),
      messageFrame(1, 1, Buffer.from([0xff, 0xfe])),
    ],
    'a generation without a request': [generate(1, 'a', Buffer.alloc(0))],
    'one generation opened twice': [
      generate(1, 'a', encodeAsk(validRequest)),
      generate(2, 'a', encodeAsk(validRequest)),
    ],
    'a generation with a bad id': [
      generate(1, '\n'.repeat(64), encodeAsk(validRequest)),
      generate(2, 'x'.repeat(65), hello),
    ],
    'a credit beyond all numbers': [
      generate(1, 'a', encodeAsk(validRequest)),
      messageFrame(1, 1, Buffer.alloc(9, 0xff)),
      messageFrame(1, 1, Buffer.alloc(0)),
    ],
    'five thousand generations': Array.from({ length: 5000 }, (_, i) => generate(i + 1, `g${i}`, Buffer.from('{'))),
    'a request of eight mebibytes': [
      openRpc,
      request(1, 'ping', Buffer.from(c.encode(c.buffer, Buffer.alloc(8 << 20)))),
    ],
  }
}

test('frames that aim at a weak place end their own link at most', { timeout: 60_000 }, async (t) => {
  const mesh = await startMesh(t)
  const { home, profile, keys, links, children } = mesh
  const attacker = new Attacker(t, profile, new Dice(SEED), [])
  const keyPair = await attacker.join(home, keys.get('auth') as string, 'gateway', 'fuzz')
  await until(() => mesh.honest.directory.members.size === 5, 'the directory lists the attacker')
  for (const [role, target] of keys) {
    const link = links.get(role) as Link
    for (const [what, frames] of Object.entries(malice(decodeKey(target)))) {
      let conn: NoiseStream | undefined
      for (let i = 0; i < 50 && conn === undefined; i++) {
        conn = await attacker.connect(target, keyPair)
        if (conn === undefined) await sleep(20)
      }
      if (conn === undefined) return t.fail(`${what}: the ${role} was not reached`)
      conn.on('error', () => {})
      for (const frame of frames) if (!conn.destroyed) conn.write(frame)
      await sleep(20)
      const pong = await link.call('ping', {}, { timeoutMs: 5000 }).catch(() => undefined)
      const { exitCode, signalCode } = (children.get(role) as Child).process
      conn.destroy()
      if (pong === undefined || exitCode !== null || signalCode !== null) {
        const { stderr } = await (children.get(role) as Child).exited
        return t.fail(`${what} ended the ${role}: ${stderr}`)
      }
    }
    t.absent(link.closed, `the ${role} and its honest link live`)
  }
})
