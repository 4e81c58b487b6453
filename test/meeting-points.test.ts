import { createSocket } from 'node:dgram'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import DHT from 'hyperdht'
import { homeFiles, readNodes, rememberNodes } from '../lib/home/index.js'
import { encodeKey, MAX_NODES, type MemberNode, type MeshProfile, type Role } from '../lib/protocol/index.js'
import type { NetConfig } from '../lib/worker-base/net/config.js'
import { openNode } from '../lib/worker-base/net/dht.js'
import { MeetingPoints } from '../lib/worker-base/net/meeting-points.js'
import { OwnAddress } from '../lib/worker-base/net/own-address.js'
import { Places } from '../lib/worker-base/net/places.js'
import { choosePort, keepPort, PORTS, PORTS_PER_ROLE, portsOf } from '../lib/worker-base/net/ports.js'
import { codeOf } from './helpers/mesh.js'

/** The DHT nodes that others may begin at: which live, where they are, and which ports they have. */

const key = (seed: number): string => encodeKey(DHT.keyPair(Buffer.alloc(32, seed)).publicKey)
const node = (seed: number, port = 1000 + seed, role: Role = 'gateway'): MemberNode => ({
  publicKey: key(seed),
  role,
  host: '10.0.0.1',
  port,
})
const MESH = key(99)

/** Meeting points in the test's hands: its clock, and who answers. */
function setUp() {
  const world = { now: 0, answers: new Set<string>(), probed: [] as string[], told: [] as [string[], string[]][] }
  const points = new MeetingPoints({
    probe: async (point) => {
      world.probed.push(point)
      return world.answers.has(point)
    },
    onChange: (alive, returned) => world.told.push([alive, returned]),
    now: () => world.now,
  })
  const second = async (): Promise<void> => {
    world.now += 1000
    points.tick()
    await new Promise(setImmediate)
  }
  return { points, world, second }
}

test('nodes are asked side by side, and those that answer are told at once', async (t) => {
  const { points, world, second } = setUp()
  world.answers.add('b:2')
  points.consider(['a:1', 'b:2'])
  await new Promise(setImmediate)
  t.alike(world.probed, ['a:1', 'b:2'], 'without waiting for the first')
  t.alike(world.told, [[['b:2'], ['b:2']]])
  points.tick()
  t.is(world.probed.length, 2, 'not again within the second')
  world.answers.add('a:1')
  await second()
  t.alike(world.told[1], [['a:1', 'b:2'], ['a:1']], 'one that comes back is told a second later')
})

test('a node is given up after three silent seconds, not after one, and one that nobody names any more at once', async (t) => {
  const { points, world, second } = setUp()
  for (const point of ['a:1', 'b:2']) world.answers.add(point)
  points.consider(['a:1', 'b:2'])
  await second()
  world.answers.delete('a:1')
  await second()
  await second()
  t.alike(points.alive, ['a:1', 'b:2'])
  await second()
  t.alike(points.alive, ['b:2'])
  points.consider(['a:1'])
  t.alike(points.alive, [])
})

test('no more nodes are asked than a bound, whatever is named', async (t) => {
  const { points, world } = setUp()
  points.consider(Array.from({ length: 500 }, (_, i) => `10.0.0.1:${i + 1}`))
  t.is(world.probed.length, 32)
})

test('a member is called at each place that is known of it in turn, where it was seen last first', (t) => {
  const removed = new Set<string>()
  const directory = {
    nodes: [node(1, 5, 'auth'), node(2)],
    known: true,
    member: (publicKey: string) =>
      removed.has(publicKey) ? undefined : { publicKey, role: 'gateway' as const, name: 'a', addedAt: 0 },
  }
  let remembered = [node(1, 4, 'auth'), node(3, 3, 'processor'), node(4)]
  const places = new Places({
    profile: { address: MESH, authority: key(1), network: { kind: 'lan', bootstrap: ['10.0.0.9:7'] } },
    directory,
    remembered: () => remembered,
  })
  const authority = DHT.keyPair(Buffer.alloc(32, 1)).publicKey
  places.saw(key(1), { host: '10.0.0.8', port: 8 })
  const called = [1, 2, 3, 4, 5].map(() => places.next(authority)[0]?.port)
  t.alike(called, [8, 5, 4, 7, 8])
  t.alike(places.next(DHT.keyPair(Buffer.alloc(32, 50)).publicKey), [], 'nothing is known of a stranger')
  const points = ['10.0.0.9:7', '10.0.0.1:5', '10.0.0.1:1002', '10.0.0.1:4']
  t.alike(places.meetingPoints, [...points, '10.0.0.1:1004'], 'no processor is one')
  removed.add(key(4))
  t.alike(places.meetingPoints, points, 'nor who was removed')
  remembered = [node(5)]
  t.alike(places.meetingPoints, points)
  places.rememberAgain()
  t.alike(places.meetingPoints, [...points.slice(0, 3), '10.0.0.1:1005'], 'another worker of the home has learnt more')
})

test('a machine that has another address is told after some seconds, and one that has none for a while is waited for', (t) => {
  const world = { now: 0, all: ['10.0.0.1', '172.17.0.1'], likely: ['10.0.0.1'] }
  const own = new OwnAddress({ host: '10.0.0.1', addresses: () => world, now: () => world.now })
  const after = (ms: number): string | undefined => {
    let moved: string | undefined
    for (const end = world.now + ms; world.now < end && moved === undefined; world.now += 250) moved = own.movedTo()
    return moved
  }
  t.is(after(60_000), undefined)
  Object.assign(world, { all: ['172.17.0.1'], likely: [] })
  t.is(after(60_000), undefined, 'only a container’s is left')
  Object.assign(world, { all: ['10.0.0.2', '172.17.0.1'], likely: ['10.0.0.2'] })
  t.is(after(3000), undefined)
  Object.assign(world, { all: ['10.0.0.1', '10.0.0.2'], likely: ['10.0.0.2', '10.0.0.1'] })
  t.is(after(60_000), undefined, 'it has its own again, and another')
  Object.assign(world, { all: ['10.0.0.2'], likely: ['10.0.0.2'] })
  const since = world.now
  t.is(after(60_000), '10.0.0.2')
  t.ok(world.now - since <= 8000, `${world.now - since} ms`)
})

test('where members were seen last is remembered for each mesh, for its owner only, and bounded', async (t) => {
  const home = await t.tmp()
  t.alike(readNodes(home, MESH), [])
  rememberNodes(home, MESH, [node(1), node(2)])
  rememberNodes(home, MESH, [node(2, 7)])
  t.alike(readNodes(home, MESH), [node(2, 7), node(1)], 'the newest first')
  t.is(statSync(homeFiles(home).nodes).mode & 0o777, 0o600)
  for (let i = 0; i < 100; i++) rememberNodes(home, MESH, [node(i)])
  t.is(readNodes(home, MESH).length, 4 * MAX_NODES)
  for (let i = 100; i < 120; i++) rememberNodes(home, key(i), [node(1)])
  t.alike(readNodes(home, MESH), [], 'of many meshes the oldest is forgotten')
  t.alike(readNodes(home, key(119)), [node(1)])
  writeFileSync(homeFiles(home).nodes, '[{"mesh":')
  t.alike(readNodes(home, key(119)), [], 'a file that cannot be read is as good as none')
  rememberNodes(home, MESH, [node(1)])
  t.alike(readNodes(home, MESH), [node(1)], 'and is written anew')
})

// --- ports ---

const HOST = '127.0.0.1'
/** Not the default: a mesh of this machine may have that. */
const BASE = 26_300

function taken(t: Test, port: number): Promise<void> {
  const socket = createSocket('udp4')
  t.teardown(() => new Promise<void>((resolve) => socket.close(() => resolve())))
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, HOST, () => resolve())
  })
}

const config = (port = BASE): NetConfig => ({
  kind: 'lan',
  bootstrap: [],
  host: '',
  port,
  bootstrapPort: 0,
  maxClients: 1,
  maxClientsPerAddress: 1,
})

test('each role has UDP ports of its own on a LAN, and a second worker of a role takes the next', async (t) => {
  const workerDir = await t.tmp()
  const choose = (role: Role, kind: 'local' | 'lan' = 'lan', port = BASE) =>
    choosePort({ config: config(port), role, workerDir, kind }, HOST)
  t.alike(
    [await choose('auth'), await choose('gateway'), await choose('processor'), await choose('metrics')],
    [0, 1, 2, 3].map((i) => BASE + i * PORTS_PER_ROLE),
  )
  t.is(portsOf('metrics', config())?.last, BASE + PORTS - 1)
  const auth = { config: config(), role: 'auth', workerDir, kind: 'lan' } as const
  t.is(await choosePort({ ...auth, known: BASE + PORTS + 6 }, HOST), BASE + PORTS + 6, 'what members know comes first')
  await taken(t, BASE)
  t.is(await choose('auth'), BASE + 1)
  t.is(await choosePort({ ...auth, known: BASE }, HOST), BASE + 1, 'where it is free')
  t.is(await choosePort({ ...auth, own: BASE }, HOST), BASE, 'and what the worker itself has is')
  for (let i = 1; i < PORTS_PER_ROLE; i++) await taken(t, BASE + i)
  const beyond = await choose('auth')
  t.ok(beyond > 0 && (beyond < BASE || beyond >= BASE + PORTS), 'past the range any free one')
  for (const port of [await choose('auth', 'local'), await choose('gateway', 'lan', 0)]) {
    t.ok(port > 0 && (port < BASE || port >= BASE + PORTS), 'and on one machine, or where the setting is 0')
  }
})

test('an address that is another machine’s, as after a restore, is named with what this machine has', async (t) => {
  const keyPair = DHT.keyPair()
  const options = {
    keyPair,
    role: 'auth',
    workerDir: await t.tmp(),
    whereIs: () => [],
    mayAnnounce: () => true,
  } as const
  const network: MeshProfile['network'] = { kind: 'lan', bootstrap: ['203.0.113.7:26700'] }
  const opening = openNode(network, { ...options, config: { ...config(), host: '203.0.113.7' } })
  await t.exception(
    opening,
    /net\.host is 203\.0\.113\.7, which is no address of this machine now: .*`infermesh network lan --net-host \S+`/,
  )
  t.is(await codeOf(opening), 'DHT_UNREACHABLE')
})

test('a worker keeps the port that it had, and takes another for good where that was taken', async (t) => {
  const workerDir = await t.tmp()
  const choose = (kind: 'lan' | 'private' = 'lan') =>
    choosePort({ config: config(), role: 'gateway', workerDir, kind }, HOST)
  const had = BASE + PORTS + 5
  keepPort(workerDir, 'lan', had)
  t.is(await choose(), had)
  await taken(t, had)
  const next = await choose()
  t.is(next, BASE + PORTS_PER_ROLE)
  keepPort(workerDir, 'lan', next + 2)
  t.is(await choose(), next + 2)
  t.is(await choose('private'), next, 'not on another kind of network')
  for (const text of ['no port', `${next + 2}`, `${next + 2} lan x`, '']) {
    writeFileSync(join(workerDir, 'dht.port'), text)
    t.is(await choose(), next, `${JSON.stringify(text)} keeps none`)
  }
})
