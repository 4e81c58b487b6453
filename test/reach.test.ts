import DHT from 'hyperdht'
import { encodeInvite, encodeKey, newApiKey } from '../lib/protocol/index.js'
import { Machine } from './helpers/machine.js'
import { CLI } from './helpers/mesh.js'
import { noNamespaces, plugIn, removeMachines, unplug } from './helpers/namespaces.js'
import { testUnless } from './helpers/needs.js'
import { onTeardown } from './helpers/teardown.js'

/** What `join` and clients say where the network keeps them from the mesh: which step failed, and what to look at. */

const key = (seed: number): string => encodeKey(DHT.keyPair(Buffer.alloc(32, seed)).publicKey)
const UNAVAILABLE = 69

testUnless(
  noNamespaces,
  'on a network that leads to no mesh, join and clients say why',
  { timeout: 120_000 },
  async (t) => {
    onTeardown(t, removeMachines)
    const machine = await Machine.make(t, plugIn('alone', 41))
    await Machine.make(t, plugIn('silent', 42))
    const fails = async (what: string, args: string[], expected: string[]): Promise<void> => {
      const { code, stderr } = await machine.program([process.execPath, CLI, ...args, '--home', machine.home])
      t.is(code, UNAVAILABLE, `${what}: ${args[0]} ends with ${UNAVAILABLE}`)
      for (const text of expected) t.ok(stderr.includes(text), stderr.trim())
      t.absent(stderr.includes('    at '), 'and no stack')
    }
    const says = async (name: string, node: string, what: string, ...expected: string[]): Promise<void> => {
      const profile = { address: key(1), authority: key(2), network: { kind: 'lan' as const, bootstrap: [node] } }
      const invite = encodeInvite({ id: 'ybndrfg8ejkmc', secret: key(3), profile })
      await Promise.all([
        fails(what, ['join', invite, '--name', name], expected),
        fails(what, ['status', '--mesh', `${profile.address}@${node}`, '--key', newApiKey().text], expected),
      ])
    }
    const silent = '10.213.7.42:26700'
    await Promise.all([
      says('p1', silent, 'nobody listens there, at a port', `No DHT node answers at ${silent}`, 'UDP port 26700'),
      says('p2', '192.0.2.7:26700', 'another network', 'This machine has no way to 192.0.2.7:26700 (ENETUNREACH)'),
    ])
    unplug('alone')
    await says('p1', silent, 'no network', 'This machine is on no network')
  },
)
