import test from 'brittle'
import { linked, ready, spawnNode, start, TestWorker, testHome, testOptions, untilJoined } from '../helpers/mesh.js'

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
