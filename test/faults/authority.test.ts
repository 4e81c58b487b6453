import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { homeFiles, readProfile, writeProfile } from '../../lib/home/index.js'
import { decodeInvite, type Role } from '../../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'
import { Machine } from '../helpers/machine.js'
import { type Child, ready, spawnProgram, until } from '../helpers/mesh.js'
import { noNamespaces, plugBack, plugIn, removeMachines, unplug } from '../helpers/namespaces.js'
import { testUnless } from '../helpers/needs.js'
import { onTeardown } from '../helpers/teardown.js'

/** The authority's machine goes away, comes back, and comes back elsewhere: who finds whom, and how soon. */

/** What a new client may take to connect, in a process that runs already. */
const CONNECT_MS = 2000
const RETURN_MS = 2000
const MOVED_MS = 10_000

/** Prints how long a client took to connect, or why it did not. */
const CLIENT = `
import { MeshClient } from ${JSON.stringify(join(PACKAGE_ROOT, 'dist', 'lib', 'client', 'index.js'))}
const [mesh, home] = process.argv.slice(1)
const began = performance.now()
try {
  const client = await MeshClient.connect({ ...(mesh && { mesh, network: 'lan' }), home })
  console.log(Math.round(performance.now() - began), client.gateway.name)
  await client.close()
} catch (err) {
  console.log('failed', Math.round(performance.now() - began), err.code, err.message)
}`

/** A machine with one worker, in a process of its own. Both have the machine's name. */
class Site {
  readonly name: string
  readonly role: Role
  readonly machine: Machine
  readonly #t: Test
  readonly #enter: string[]
  #child: Child | undefined

  private constructor(t: Test, name: string, role: Role, machine: Machine, enter: string[]) {
    this.#t = t
    this.name = name
    this.role = role
    this.machine = machine
    this.#enter = enter
  }

  static async make(t: Test, name: string, host: number, role: Role): Promise<Site> {
    const enter = plugIn(name, host)
    return new Site(t, name, role, await Machine.make(t, enter), enter)
  }

  /** Starts the worker, and waits until it is ready. @returns when it was, in milliseconds since the epoch */
  async start(...settings: string[]): Promise<number> {
    const { role, name, machine } = this
    const facility = role === 'gateway' ? ['http.port=0'] : role === 'processor' ? ['engine.embedded=false'] : []
    const all = ['net.kind=lan', ...facility, ...settings].flatMap((one) => ['--set', one])
    const worker = [
      join(PACKAGE_ROOT, 'dist', 'worker.js'),
      '--wtype',
      role,
      '--rack',
      name,
      '--data-dir',
      machine.home,
    ]
    const command = [...this.#enter, process.execPath, ...worker, ...all]
    this.#child = spawnProgram(this.#t, command, { env: { HOME: machine.home } })
    await ready(machine.home, role, name, this.#child.process.pid, 30_000)
    return Date.now()
  }

  async kill(): Promise<void> {
    this.#child?.process.kill('SIGKILL')
    await this.#child?.exited
  }

  /** How long after a moment its log says for the first time that it is linked with the authority. */
  async linkedAfter(moment: number, withinMs: number): Promise<number> {
    const at = () => {
      const log = homeFiles(this.machine.home).log(this.role, this.name)
      // A worker that has just been started has none.
      if (!existsSync(log)) return undefined
      const lines = readFileSync(log, 'utf8').trim().split('\n')
      const entries = lines.map((line) => JSON.parse(line) as { time: number | string; msg: string; peer?: string })
      const isLink = ({ msg, peer }: { msg: string; peer?: string }) => msg === 'linked' && peer?.startsWith('auth')
      const times = entries.filter(isLink).map(({ time }) => new Date(time).getTime())
      return times.find((time) => time > moment)
    }
    return (await until(at, `${this.name} is linked with the authority`, withinMs)) - moment
  }
}

/** How long a new client takes. @param mesh empty: as its home says */
async function connect(guest: Machine, mesh: string, home: string): Promise<number> {
  const { stdout, stderr } = await guest.program([process.execPath, '--input-type=module', '-e', CLIENT, mesh, home])
  const ms = Number(stdout.split(' ')[0])
  if (!Number.isFinite(ms) || stdout === '') throw new Error(stdout + stderr)
  return ms
}

testUnless(
  noNamespaces,
  'while the authority’s machine is gone its mesh is found, and once it is back, there or elsewhere, its members find it',
  { timeout: 240_000 },
  async (t) => {
    onTeardown(t, removeMachines)
    const hub = await Site.make(t, 'hub', 11, 'auth')
    const g1 = await Site.make(t, 'g1', 12, 'gateway')
    const g2 = await Site.make(t, 'g2', 13, 'gateway')
    const p1 = await Site.make(t, 'p1', 14, 'processor')
    const members = [g1, g2, p1]
    const guest = await Machine.make(t, plugIn('guest', 15))

    await hub.start()
    for (const { name, role, machine } of members) {
      const { invite } = await hub.machine.infermesh<{ invite: string }>('invite', '--role', role)
      await machine.infermesh('join', invite, '--name', name)
    }
    const made = Date.now()
    await Promise.all(members.map((site) => site.start()))
    for (const site of members) await site.linkedAfter(made - 30_000, 15_000)
    const profile = () => readProfile(hub.machine.home)
    const invited = async () => decodeInvite((await hub.machine.infermesh<{ invite: string }>('invite')).invite).profile
    await until(async () => (await invited()).network.bootstrap.length === 3, 'an invite names the gateways’ nodes')
    const { address, network } = await invited()
    t.alike(
      network.bootstrap.map((node) => node.split(':')[0]).sort(),
      ['10.213.7.11', '10.213.7.12', '10.213.7.13'],
      'the authority and the gateways',
    )
    t.is(network.bootstrap[0], `10.213.7.11:26700`, 'at the ports that a firewall’s rules name')
    const mesh = `${address}@${network.bootstrap.join(',')}`
    const known = await t.tmp()
    t.comment(`all there: ${await connect(guest, mesh, known)} ms`)

    const isFound = async (what: string): Promise<void> => {
      const fresh = await connect(guest, mesh, await t.tmp())
      const again = await connect(guest, `${address}@${network.bootstrap[0]}`, known)
      t.comment(`${what}: a new client connects in ${fresh} ms, one whose home remembers in ${again} ms`)
      t.ok(fresh < CONNECT_MS && again < CONNECT_MS, what)
    }
    await hub.kill()
    unplug('hub')
    await isFound('the authority’s machine is gone')
    await g1.kill()
    await isFound('and a gateway was killed')
    await g1.start()
    await g2.kill()
    await isFound('that one is back, and the other was killed')
    await g2.start()
    await isFound('both are back, without the authority')

    plugBack('hub', 11)
    let back = await hub.start()
    for (const site of members) {
      const ms = await site.linkedAfter(back - 5000, 15_000)
      t.comment(`the authority is back: ${site.name} is linked ${ms - 5000} ms after it is ready`)
      t.ok(ms - 5000 < RETURN_MS, `${site.name} has seen the authority return`)
    }
    await isFound('the authority is back')

    await hub.kill()
    unplug('hub')
    // Long enough for everybody to have given it up.
    await new Promise((resolve) => setTimeout(resolve, 5000))
    plugBack('hub', 31)
    rmSync(join(homeFiles(hub.machine.home).worker('auth', 'hub'), 'dht.port'))
    writeProfile(hub.machine.home, { ...profile(), network: { kind: 'lan', bootstrap: [] } })
    back = await hub.start('net.port=26900')
    t.is(profile().network.bootstrap[0], '10.213.7.31:26900', 'another address, another port')
    for (const site of members) {
      const ms = await site.linkedAfter(back - 5000, 15_000)
      t.comment(`the authority is elsewhere: ${site.name} is linked ${ms - 5000} ms after it is ready`)
      t.ok(ms - 5000 < MOVED_MS, `${site.name} has found it`)
    }
    await isFound('the authority is elsewhere')
  },
)
