import { EventEmitter } from 'node:events'
import test from 'brittle'
import DHT from 'hyperdht'
import { encodeKey, type Member, MeshError, type MeshProfile, type Role } from '../lib/protocol/index.js'
import { type Dial, Dialling } from '../lib/worker-base/net/dialling.js'

const key = (seed: number): string => encodeKey(DHT.keyPair(Buffer.alloc(32, seed)).publicKey)
/** Public keys in their order: of two gateways, the lower one dials. */
const [A = '', B = '', C = '', D = ''] = [1, 2, 3, 4].map(key).sort()

class FakeConn extends EventEmitter implements Dial {
  destroying = false
  error: Error | undefined

  destroy(err?: Error): void {
    this.destroying = true
    this.error = err
    if (err !== undefined) this.emit('error', err)
    this.emit('close')
  }
}

/** Dialling in the test's hands: its clock, its directory, and a swarm that does nothing but note what it is told. */
function setUp({
  role = 'gateway' as Role,
  own = B,
  kind = 'local' as MeshProfile['network']['kind'],
  members = [] as [string, Role][],
} = {}) {
  const world = {
    now: 1000,
    online: true,
    joined: new Set<string>(),
    conns: new Map<string, FakeConn>(),
    open: new Set<Dial>(),
    linked: new Set<string>(),
    placed: new Set<string>(),
    logged: [] as string[],
    members: new Map<string, Member>(),
    admit(publicKey: string, memberRole: Role) {
      world.members.set(publicKey, { publicKey, role: memberRole, name: memberRole, addedAt: 0 })
    },
  }
  for (const [publicKey, memberRole] of members) world.admit(publicKey, memberRole)
  const { joined, conns } = world
  const dialling = new Dialling({
    swarm: {
      joinPeer: (publicKey) => joined.add(encodeKey(Buffer.from(publicKey))),
      leavePeer: (publicKey) => joined.delete(encodeKey(Buffer.from(publicKey))),
      _allConnections: { get: (publicKey) => conns.get(encodeKey(Buffer.from(publicKey))) },
    },
    publicKey: own,
    role,
    profile: { address: A, authority: A, network: { kind, bootstrap: ['127.0.0.1:1'] } },
    directory: {
      members: world.members,
      member: (publicKey) => world.members.get(publicKey),
      membersWithRole: (wanted) => [...world.members.values()].filter((member) => member.role === wanted),
    },
    isOpen: (conn) => world.open.has(conn),
    isLinked: (publicKey) => world.linked.has(publicKey),
    isPlaceKnown: (publicKey) => world.placed.has(publicKey),
    isOnline: () => world.online,
    log: { info: (facts: { code?: string }) => world.logged.push(facts.code ?? '') },
    now: () => world.now,
  })
  /** Hyperswarm dials. */
  const dial = (publicKey: string): FakeConn => {
    const conn = new FakeConn()
    conns.set(publicKey, conn)
    dialling.watch()
    return conn
  }
  return { dialling, world, dial }
}

const failure = (code: string): Error => Object.assign(new Error(code), { code })

test('everyone dials the authority, before the directory is known', (t) => {
  for (const role of ['gateway', 'processor', 'metrics'] as const) {
    const { dialling, world } = setUp({ role })
    dialling.reconcile()
    t.alike([...world.joined], [A], role)
  }
  const { dialling, world } = setUp({ role: 'auth', own: A, members: [[B, 'gateway']] })
  dialling.reconcile()
  t.is(world.joined.size, 0, 'the authority dials nobody')
})

test('a gateway dials processors, and of two gateways one dials', (t) => {
  const { dialling, world } = setUp({
    members: [
      [A, 'auth'],
      [B, 'gateway'],
      [C, 'gateway'],
      [D, 'processor'],
    ],
  })
  dialling.reconcile()
  t.alike([...world.joined].sort(), [A, C, D])
  const other = setUp({ own: C, members: [...world.members.values()].map(({ publicKey, role }) => [publicKey, role]) })
  other.dialling.reconcile()
  t.alike([...other.world.joined].sort(), [A, D])
})

test('dials follow the directory, and a stopped worker dials nobody new', (t) => {
  const { dialling, world } = setUp()
  dialling.reconcile()
  world.admit(D, 'processor')
  dialling.reconcile()
  t.ok(world.joined.has(D))
  dialling.lost(D, MeshError.LINK_CLOSED('gone'))
  dialling.lost(A, MeshError.LINK_CLOSED('gone'))
  world.members.delete(D)
  dialling.reconcile()
  t.absent(world.joined.has(D), 'removed')
  t.absent(dialling.reasonFor(D), 'and forgotten')
  t.ok(dialling.reasonFor(A), 'the authority is known without a directory')
  dialling.stop()
  world.admit(D, 'processor')
  dialling.reconcile()
  t.absent(world.joined.has(D))
})

test('a dial that takes too long is ended, the next may take twice and four times as long', (t) => {
  const { dialling, world, dial } = setUp()
  dialling.reconcile()
  const given: number[] = []
  for (let i = 0; i < 5; i++) {
    const conn = dial(A)
    const began = world.now
    while (!conn.destroying) {
      world.now += 100
      dialling.tick()
    }
    given.push(world.now - began)
  }
  t.alike(given, [900, 1700, 3300, 3300, 3300], 'looked at every 100 ms')
  dialling.linked(A)
  const again = dial(A)
  world.now += 900
  dialling.tick()
  t.ok(again.destroying, 'a link makes it forget')
  const far = setUp({ kind: 'public' })
  far.dialling.reconcile()
  const conn = far.dial(A)
  far.world.now += 12_000
  far.dialling.tick()
  t.absent(conn.destroying, 'over the internet it may take longer')
})

test('why a dial failed is classified, told once, and forgotten with the link', (t) => {
  const { dialling, world, dial } = setUp({ members: [[D, 'processor']] })
  dialling.reconcile()
  for (let i = 0; i < 3; i++) dial(D).destroy(failure('PEER_NOT_FOUND'))
  t.is(dialling.reasonFor(D)?.code, 'PEER_NOT_FOUND')
  t.ok(dialling.reasonFor(D)?.message.startsWith('processor processor is not in the DHT'))
  dial(D).destroy(failure('HOLEPUNCH_ABORTED'))
  t.is(dialling.reasonFor(D)?.code, 'HOLE_PUNCH_FAILED')
  dial(A).destroy(failure('REMOTE_ABORTED'))
  t.is(dialling.reasonFor(A)?.message, 'the authority refused the connection (REMOTE_ABORTED)')
  world.online = false
  dial(D).destroy(failure('PEER_NOT_FOUND'))
  t.is(dialling.reasonFor(D)?.message, 'No DHT node answers at 127.0.0.1:1')
  t.alike(world.logged, ['PEER_NOT_FOUND', 'HOLE_PUNCH_FAILED', 'REFUSED', 'DHT_UNREACHABLE'])
  dialling.linked(D)
  t.absent(dialling.reasonFor(D))
})

test('the end of a connection that went through, and of one beside a link, is no failed dial', (t) => {
  const { dialling, world, dial } = setUp()
  dialling.reconcile()
  const through = dial(A)
  dialling.connected(A)
  through.destroy(failure('ECONNRESET'))
  const open = new FakeConn()
  open.on('error', () => {})
  world.open.add(open)
  world.conns.set(A, open)
  dialling.watch()
  open.destroy(failure('ECONNRESET'))
  const second = dial(A)
  world.linked.add(A)
  second.destroy(failure('ECONNRESET'))
  t.absent(dialling.reasonFor(A))
  t.alike(world.logged, [])
})

test('a dial that hangs gives way to a peer that calls, a fresh one does not', (t) => {
  const { dialling, world, dial } = setUp()
  dialling.reconcile()
  const conn = dial(A)
  world.now += 300
  dialling.giveWay(A)
  t.absent(conn.destroying, 'the two have just dialled each other')
  world.now += 1
  dialling.giveWay(A)
  t.ok(conn.destroying)
  dialling.giveWay(D)
})

test('those who dial this worker are called once at its start, for two seconds', (t) => {
  const { dialling, world } = setUp({
    role: 'processor',
    own: C,
    members: [
      [A, 'auth'],
      [B, 'gateway'],
      [C, 'processor'],
      [D, 'processor'],
    ],
  })
  dialling.reconcile()
  dialling.greet()
  t.alike([...world.joined].sort(), [A, B], 'gateways dial processors, processors do not')
  world.now += 1999
  dialling.tick()
  t.ok(world.joined.has(B))
  world.now += 1
  dialling.tick()
  t.alike([...world.joined], [A])
})

test('a greeting does not end the dials to one that is dialled anyway', (t) => {
  const { dialling, world } = setUp({ own: B, members: [[C, 'metrics']] })
  dialling.greet()
  t.ok(world.joined.has(C))
  world.members.delete(C)
  world.admit(C, 'processor')
  dialling.reconcile()
  world.now += 5000
  dialling.tick()
  t.ok(world.joined.has(C))
})

test('the authority calls members that are not linked, again and again, where it knows their places', (t) => {
  const { dialling, world } = setUp({
    role: 'auth',
    own: A,
    members: [
      [A, 'auth'],
      [B, 'gateway'],
      [C, 'processor'],
      [D, 'processor'],
    ],
  })
  dialling.reconcile()
  dialling.greet()
  t.alike([...world.joined].sort(), [B, C, D], 'at its start everybody')
  world.linked.add(B)
  for (const publicKey of [B, C]) world.placed.add(publicKey)
  world.now += 2000
  dialling.tick()
  t.is(world.joined.size, 0)
  for (let i = 0; i < 3; i++) {
    world.now += 2000
    dialling.tick()
    t.alike([...world.joined], [C], 'then those that are missing')
    world.now += 2000
    dialling.tick()
  }
  const gateway = setUp({ members: [[C, 'metrics']] })
  gateway.world.placed.add(C)
  gateway.dialling.greet()
  gateway.world.now += 60_000
  gateway.dialling.tick()
  gateway.world.now += 60_000
  gateway.dialling.tick()
  t.is(gateway.world.joined.size, 0, 'nobody else does: whoever dials them finds the authority')
})

test('where somebody who knows the peers has come back, those that are missing are dialled at once', (t) => {
  const { dialling, world } = setUp({ members: [[D, 'processor']] })
  dialling.reconcile()
  world.joined.clear()
  world.linked.add(D)
  dialling.callAgain()
  t.alike([...world.joined], [A])
  dialling.stop()
  world.joined.clear()
  dialling.callAgain()
  t.is(world.joined.size, 0)
})
