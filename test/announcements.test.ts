import test from 'brittle'
import DHT from 'hyperdht'
import { homeFiles, loadSeed } from '../lib/home/index.js'
import { encodeKey } from '../lib/protocol/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { linked, start, startAuth, startStranger, testHome, testOptions, until } from './helpers/mesh.js'
import { onTeardown } from './helpers/teardown.js'

/** What strangers of the network may leave at a meeting point. */

/** More than a meeting point keeps. */
const FLOOD = 3000

const keyPair = (seed: number) => DHT.keyPair(Buffer.alloc(32).fill(`stranger ${seed} `))

/** The keys that a node tells under a topic, asked again and again: each answer has twenty at random. */
async function told(dht: DHT, topic: Buffer, node: { host: string; port: number }): Promise<Set<string>> {
  const keys = new Set<string>()
  for (let i = 0; i < 10; i++) {
    for await (const { peers } of dht.lookup(topic, { nodes: [node], onlyClosestNodes: true }))
      for (const { publicKey } of peers) keys.add(encodeKey(publicKey))
  }
  return keys
}

test('under a mesh’s address strangers announce in vain, and what they leave elsewhere is bounded', {
  timeout: 120_000,
}, async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  await linked(auth, gateway)
  const { host, port } = auth.net.ownNode ?? { host: '', port: 0 }
  const node = { host, port }
  const stranger = new DHT({ bootstrap: [node], host: '127.0.0.1' })
  onTeardown(t, () => stranger.destroy({ force: true }))
  const topic = auth.directory.core.discoveryKey
  const announce = (under: Buffer, seed: number) =>
    stranger.announce(under, keyPair(seed), [node], { nodes: [node], onlyClosestNodes: true }).finished()
  for (let i = 0; i < 50; i++) await announce(topic, i)
  const doors = new Set([auth.publicKey, gateway.publicKey])
  await until(async () => (await told(stranger, topic, node)).size >= 2, 'both doors are told')
  t.alike(await told(stranger, topic, node), doors, 'and nobody else')

  const other = Buffer.alloc(32, 7)
  await announce(other, 0)
  t.ok((await told(stranger, other, node)).has(encodeKey(keyPair(0).publicKey)), 'another topic is no matter of ours')
  for (let i = 1; i <= FLOOD; i += 50) await Promise.all(Array.from({ length: 50 }, (_, k) => announce(other, i + k)))
  const held = new Set<string>()
  for (let i = 0; i < 30; i++) for (const key of await told(stranger, other, node)) held.add(key)
  t.ok(held.size > 500 && held.size <= 2 * 1024, `${held.size} of ${FLOOD} are told of still`)
  t.absent(held.has(encodeKey(keyPair(0).publicKey)), 'the oldest are forgotten')
})

test('a node that takes back its own announcement at itself goes on taking calls', async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const { host, port } = auth.net.ownNode ?? { host: '', port: 0 }
  const asker = new DHT({ bootstrap: [{ host, port }], host: '127.0.0.1' })
  onTeardown(t, () => asker.destroy({ force: true }))
  const own = DHT.keyPair(loadSeed(homeFiles(home).worker('auth', 'auth')))
  await asker.unannounce(DHT.hash(own.publicKey), own, { nodes: [{ host, port }], onlyClosestNodes: true })
  const stranger = await startStranger(t, home, auth.publicKey)
  t.ok((await stranger.call('ping', {})).at > 0)
})
