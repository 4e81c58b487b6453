import test, { type Test } from 'brittle'
import DHT from 'hyperdht'
import {
  linked,
  ready,
  sleep,
  spawnNode,
  start,
  startAuth,
  TestWorker,
  testHome,
  testOptions,
  until,
  untilJoined,
} from '../helpers/mesh.js'

/** The authority of a local network serves its DHT: what is to be found again once both are back after a kill. */

/** How soon a worker that starts then finds the members, whose announcements the DHT has forgotten; 1 s as a rule. */
const FOUND_MS = 6000

test('a gateway that starts right after the authority was killed and restarted finds the processors', {
  timeout: 90_000,
}, async (t) => {
  const home = await testHome(t)
  const startAuthority = async () => {
    const args = ['--wtype', 'auth', '--rack', 'auth', '--data-dir', home, '--set', 'log.level=silent']
    const child = spawnNode(t, 'worker.js', args)
    await ready(home, 'auth', 'auth', child.process.pid, 30_000)
    return child
  }
  let authority = await startAuthority()
  const processor = await start(t, new TestWorker('processor', testOptions(home, 'p1')))
  await untilJoined(processor)
  const first = await start(t, new TestWorker('gateway', testOptions(home, 'g1')))
  await linked(first, processor)
  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGKILL'] as const) {
    authority.process.kill(signal)
    await authority.exited
    authority = await startAuthority()
    const began = performance.now()
    const gateway = new TestWorker('gateway', testOptions(home, 'g2'))
    await gateway.start()
    try {
      await linked(gateway, processor, 30_000)
      const foundMs = Math.round(performance.now() - began)
      t.ok(foundMs < FOUND_MS, `${signal}: linked with the processor after ${foundMs} ms`)
    } finally {
      await gateway.stop()
    }
  }
})

/** Whether a DHT node, or any that it names, tells of anybody under a topic. */
async function tellsOf(t: Test, node: string, topic: Buffer): Promise<boolean> {
  const dht = new DHT({ bootstrap: [node], host: '127.0.0.1' })
  t.teardown(() => dht.destroy({ force: true }), { order: -1 })
  for await (const { peers } of dht.lookup(topic)) if (peers.length > 0) return true
  return false
}

test('another mesh that has come to the authority’s port is not taken for it, and it is found at another', {
  timeout: 90_000,
}, async (t) => {
  const home = await testHome(t)
  const first = await startAuth(t, home)
  const gateway = await start(t, new TestWorker('gateway', testOptions(home, 'g1')))
  await untilJoined(gateway)
  const had = first.net.addresses.bootstrap ?? ''
  const topic = first.directory.core.discoveryKey
  t.ok(await tellsOf(t, had, topic))
  await first.stop()

  const other = await startAuth(t, await testHome(t), { net: { bootstrapPort: Number(had.split(':')[1]) } })
  t.is(other.net.addresses.bootstrap, had, 'the other mesh has its port')
  await sleep(4000)
  t.absent(await tellsOf(t, had, topic), 'nobody of the first mesh is announced there')
  const gatewayNode = gateway.net.addresses.dht ?? ''
  t.absent(await tellsOf(t, gatewayNode, other.directory.core.discoveryKey), 'nor the other way round')

  const began = performance.now()
  const again = await startAuth(t, home)
  await linked(gateway, again, 10_000)
  const foundMs = Math.round(performance.now() - began)
  t.not(again.net.addresses.bootstrap, had)
  t.ok(foundMs < FOUND_MS, `the gateway has found it after ${foundMs} ms`)
  await until(
    () => gateway.directory.nodes.some(({ port }) => `127.0.0.1:${port}` === again.net.addresses.bootstrap),
    'told',
  )
})
