import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import createTestnet from 'hyperdht/testnet.js'
import {
  findProfile,
  homeFiles,
  readNodes,
  readProfile,
  readSettings,
  settingsPath,
  writeProfile,
} from '../lib/home/index.js'
import { decodeInvite, type MeshProfile } from '../lib/protocol/index.js'
import { portsOf } from '../lib/worker-base/net/ports.js'
import { AuthWorker } from '../workers/auth/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import {
  infermesh,
  linked,
  readStatus,
  ready,
  spawnNode,
  start,
  startAuth,
  testHome,
  testOptions,
  until,
} from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { onTeardown } from './helpers/teardown.js'
import { NEEDS, Terminal } from './helpers/terminal.js'

/** A mesh that was made for one machine, and others that find it afterwards: on loopback, which is a LAN like others. */

const PORTS = ['--http-port', '0', '--metrics-port', '0']
const UP = ['up', '--detach', '--no-check', ...PORTS]

interface Network {
  mesh: string
  kind: string
  bootstrap: string[]
  changed?: boolean
  restarted?: boolean
  restart?: string[]
  changedHere?: boolean
  http?: string[]
}

async function json<T>(home: string, ...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await infermesh([...args, '--json'], { home })
  if (code !== 0) throw new Error(`infermesh ${args.join(' ')} ended with ${code}: ${stderr}`)
  return JSON.parse(stdout) as T
}

async function refused(t: Test, home: string, args: string[], code: number, expected: RegExp): Promise<void> {
  const exit = await infermesh(args, { home })
  t.is(exit.code, code, `${args.join(' ')}: ${exit.stdout}${exit.stderr}`)
  t.ok(expected.test(exit.stderr), exit.stderr)
}

/** Whether the first node has a port of the authority's. */
function isOfRange([node = '']: string[]): boolean {
  const { first, last } = portsOf('auth', { port: 26_700 }) ?? { first: 0, last: 0 }
  const port = Number(node.split(':')[1])
  return node.startsWith('127.0.0.1:') && port >= first && port <= last
}

function stopAfter(t: Test, home: string): void {
  t.teardown(() => infermesh(['down'], { home }))
}

test('a mesh of one machine becomes one of a LAN, and another machine joins it', { timeout: 180_000 }, async (t) => {
  const home = await testHome(t)
  stopAfter(t, home)
  const { mesh, key } = await json<{ mesh: string; key: string }>(home, ...UP)
  t.alike(await json<Network>(home, 'network').then(({ kind, changedHere }) => [kind, changedHere]), ['local', true])
  t.ok((await infermesh(['users', 'add', 'ann'], { home })).code === 0)

  await refused(t, home, ['invite'], 78, /`infermesh network lan` lets machines of your LAN find it/)
  t.alike(
    (await json<{ invites: { reusable: boolean }[] }>(home, 'invite', 'ls')).invites.filter((one) => !one.reusable),
    [],
  )
  await refused(t, home, ['up', '--network', 'lan'], 78, /is local\. `infermesh network lan` changes that/)

  const before = readStatus(home, 'gateway', 'gateway')?.pid
  const changed = await json<Network>(home, 'network', 'lan', '--net-host', '127.0.0.1')
  t.alike([changed.mesh, changed.kind, changed.changed, changed.restarted], [mesh, 'lan', true, true])
  t.ok(isOfRange(changed.bootstrap), `at a port that a firewall's rules name: ${changed.bootstrap}`)
  t.not(readStatus(home, 'gateway', 'gateway')?.pid, before, 'the workers were started anew')
  t.is(readSettings(settingsPath(homeFiles(home).configDir, 'net')).host, '127.0.0.1', 'for later starts too')
  t.ok(readProfile(home).network.bootstrap.length > 1, 'the gateway is named, too')
  t.absent((await json<Network>(home, 'network', 'lan')).changed, 'twice is once')
  t.is(readFileSync(homeFiles(home).adminKey, 'utf8').trim(), key, 'the key is the same')
  t.ok((await infermesh(['users', 'ls'], { home })).stdout.includes('ann'), 'and users are')

  const { invite } = await json<{ invite: string }>(home, 'invite')
  const invited = decodeInvite(invite).profile
  t.alike([invited.address, invited.network.kind], [mesh, 'lan'], 'the invite names the network')
  t.is(invited.network.bootstrap[0], changed.bootstrap[0])
  const other = await testHome(t)
  stopAfter(t, other)
  await json(other, 'join', invite, '--name', 'p2')
  await json(other, ...UP)
  const served = async () =>
    (await json<{ models: { processors: string[] }[] }>(home, 'models', 'ls')).models[0]?.processors.includes('p2')
  await until(served, 'the other machine serves', 20_000)
  t.absent((await json<Network>(other, 'network')).changedHere)
  await refused(t, other, ['network', '--http-host', '0.0.0.0'], 78, /starts no gateway/)
  const door = await json<Network>(home, 'network', '--http-host', '0.0.0.0')
  t.alike([door.changed, door.restarted, door.restart, door.http?.length], [true, true, [], 1])
  t.absent(/127\.0\.0\.1|0\.0\.0\.0/.test(door.http?.[0] ?? ''), `others reach ${door.http?.[0]}`)
  const again = await json<Network>(home, 'network', '--http-host', '0.0.0.0')
  t.alike([again.changed, again.http], [false, door.http], 'twice is once')

  const testnet = await createTestnet(3)
  onTeardown(t, () => testnet.destroy())
  const nodes = testnet.bootstrap.map(({ host, port }) => `${host}:${port}`)
  const began = performance.now()
  await json(home, 'network', 'private', ...nodes.flatMap((node) => ['--bootstrap', node]))
  await until(() => findProfile(other)?.network.kind === 'private', 'the other machine has heard of it')
  t.alike(findProfile(other)?.network.bootstrap, nodes)
  await until(served, 'and has followed', 30_000)
  t.comment(`it serves there after ${((performance.now() - began) / 1000).toFixed(1)} s`)
  const back = await json<Network>(home, 'network', 'lan')
  t.ok(isOfRange(back.bootstrap), `${back.bootstrap}`)
  await until(served, 'and back again, where the authority said last that it would be', 30_000)
  t.alike(findProfile(other)?.network.bootstrap.slice(0, 1), back.bootstrap.slice(0, 1))
  await refused(t, other, ['network', 'public'], 78, /has joined a mesh that was made elsewhere/)
  await refused(
    t,
    other,
    ['up', '--network', 'public'],
    78,
    /`infermesh network public` changes that where the mesh was/,
  )
})

test('the network is changed while nothing runs, and takes what fits its kind', { timeout: 120_000 }, async (t) => {
  const home = await testHome(t)
  await refused(t, home, ['network'], 78, /belongs to no mesh yet/)
  await refused(t, home, ['network', 'lan'], 78, /`infermesh up --network lan` makes one/)
  stopAfter(t, home)
  const auth = ['--role', 'auth', '--role', 'gateway']
  const { mesh } = await json<{ mesh: string }>(home, ...UP, ...auth)
  await infermesh(['down'], { home })

  const wrong: [string[], RegExp][] = [
    [['network', 'mars'], /Allowed choices are local, lan, private, public/],
    [['network', '--net-host', '127.0.0.1'], /go with a kind/],
    [['network', 'private'], /--bootstrap <host:port>/],
    [['network', 'private', '--bootstrap', 'here'], /--bootstrap: expected host:port/],
    [['network', 'lan', '--bootstrap', '10.0.0.1:1'], /goes with `infermesh network private`/],
    [['network', 'lan', '--net-host', '203.0.113.7'], /is no IPv4 address of this machine/],
    [['network', 'local', '--net-host', '127.0.0.1'], /any network but local/],
    [['network', 'lan', '--http-host', '203.0.113.7'], /is no IPv4 address of this machine/],
    [['network', '--http-host', '203.0.113.7'], /is no IPv4 address of this machine/],
    [['network', '--http-host', '0.0.0.0', '--net-host', '127.0.0.1'], /go with a kind/],
  ]
  while (wrong.length > 0) {
    await Promise.all(wrong.splice(0, 3).map(([args, message]) => refused(t, home, args, 64, message)))
  }
  t.is(findProfile(home)?.network.kind, 'local', 'what is refused changes nothing')
  t.absent(existsSync(settingsPath(homeFiles(home).configDir, 'http')))

  const changed = await json<Network>(home, 'network', 'lan', '--net-host', '127.0.0.1')
  t.alike([changed.changed, changed.restarted, changed.restart, changed.bootstrap], [true, false, [], []])
  t.absent((await json<Network>(home, 'network', 'lan')).changed, 'twice is once')
  await json(home, ...UP)
  const lan = readProfile(home).network
  t.ok(lan.kind === 'lan' && isOfRange(lan.bootstrap), `${lan.kind} ${lan.bootstrap}`)
  await infermesh(['down'], { home })

  t.alike((await json<Network>(home, 'network', 'private', '--bootstrap', '127.0.0.1:9')).bootstrap, ['127.0.0.1:9'])
  const back = await json<Network>(home, 'network', 'local')
  t.alike([back.mesh, back.kind], [mesh, 'local'])
  await json(home, ...UP)
  t.ok((await infermesh(['status'], { home })).code === 0, 'and back again')
  t.absent(existsSync(homeFiles(home).worker('processor', 'processor')))
})

/** What `infermesh network` writes, as soon as the authority has read what was there before. */
class ChangedMeanwhile extends AuthWorker {
  readonly next: MeshProfile['network'] = { kind: 'public', bootstrap: [] }

  protected override async _prepare(): Promise<void> {
    writeProfile(this.home, { ...readProfile(this.home), network: this.next })
    await super._prepare()
  }
}

test('the authority leaves a network alone that is written while it starts, and while gateways come and go', {
  timeout: 60_000,
}, async (t) => {
  const home = await testHome(t)
  const first = await startAuth(t, home)
  const had = readProfile(home).network
  await first.stop()
  const second = await start(t, new ChangedMeanwhile(testOptions(home, 'auth')))
  t.alike(readProfile(home).network, second.next)
  t.alike(second.profile.network, had, 'it counts from the next start')
  await second.stop()

  writeProfile(home, { ...readProfile(home), network: had })
  const auth = await startAuth(t, home)
  writeProfile(home, { ...readProfile(home), network: second.next })
  const other = await testHome(t)
  writeProfile(other, { ...readProfile(home), network: had })
  const options = testOptions(other, 'g1')
  const invite = readFileSync(homeFiles(home).homeInvite, 'utf8').trim()
  const gateway = await start(t, new GatewayWorker({ ...options, environment: { INFERMESH_INVITE: invite } }))
  await linked(auth, gateway)
  await until(() => auth.directory.nodes.length === 2, 'the gateway’s node is in the directory')
  t.alike(readProfile(home).network, second.next)
})

test('a member goes on with mesh.json where nodes.json is damaged, or tells of places where nobody is', {
  timeout: 60_000,
}, async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const invite = readFileSync(homeFiles(home).homeInvite, 'utf8').trim()
  const { address: mesh } = readProfile(home)
  const nowhere = (i: number) => ({ publicKey: auth.publicKey, role: 'auth', host: '127.0.0.1', port: 1 + i })
  const nodes = Array.from({ length: 4 }, (_, i) => nowhere(i))
  const texts = ['', '{', '[{"mesh":1}]', '\0'.repeat(4096), JSON.stringify([{ mesh, nodes }])]
  const goesOnWith = async (text: string): Promise<void> => {
    const other = await testHome(t)
    writeProfile(other, readProfile(home))
    writeFileSync(homeFiles(other).nodes, text)
    const options = { ...testOptions(other, `p${text.length}`), environment: { INFERMESH_INVITE: invite } }
    const gateway = await start(t, new GatewayWorker(options))
    await linked(auth, gateway)
    await until(() => readNodes(other, mesh).some(({ port }) => port === auth.net.ownNode?.port), 'it is written anew')
    t.pass(`linked with a file of ${text.length} characters, which was written anew`)
    await gateway.stop()
  }
  await Promise.all(texts.map(goesOnWith))
})

test('an authority of an earlier build keeps the port that its members know', { timeout: 60_000 }, async (t) => {
  const home = await testHome(t)
  const first = await startAuth(t, home)
  await first.stop()
  const [had = ''] = readProfile(home).network.bootstrap
  // It wrote its port so, and knew no kinds.
  rmSync(join(first.workerDir, 'dht.port'))
  writeFileSync(join(first.workerDir, 'bootstrap.port'), `${had.split(':')[1]}\n`)
  writeProfile(home, { ...readProfile(home), network: { kind: 'lan', bootstrap: [had] } })
  const auth = await start(t, new AuthWorker(testOptions(home, 'auth', { net: { host: '127.0.0.1' } })))
  t.is(auth.profile.network.bootstrap[0], had)
})

test('workers that no supervisor runs are named, for whoever does', { timeout: 60_000 }, async (t) => {
  const home = await testHome(t)
  spawnNode(t, 'worker.js', ['--wtype', 'auth', '--data-dir', home, '--set', 'log.level=silent'])
  await ready(home, 'auth', 'auth')
  const { restarted, restart } = await json<Network>(home, 'network', 'public')
  t.alike([restarted, restart], [false, ['auth auth']])
})

testUnless(missingProgram(NEEDS), 'the chat of `up` goes on in the new network', { timeout: 120_000 }, async (t) => {
  const home = await testHome(t)
  const up = new Terminal(t, home, ['up', '--no-check', ...PORTS])
  await up.sees(/> $/, 60_000)
  up.type('half a line')
  const { restarted } = await json<Network>(home, 'network', 'lan', '--net-host', '127.0.0.1')
  t.ok(restarted)
  t.ok(/The mesh is lan now\.\n[\s\S]*> half a line$/.test(await up.sees(/started anew[\s\S]*half a line$/)))
  up.type('\x15What is the capital of France?\r')
  t.ok(/Paris/.test(await up.sees(/tokens in[\s\S]*> $/)))
  up.type('/exit\r')
  t.is((await up.exited).code, 0)
})
