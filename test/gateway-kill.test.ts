import { join } from 'node:path'
import test from 'brittle'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import {
  adminKey,
  spawnGateway,
  start,
  startAuth,
  startStranger,
  testHome,
  testOptions,
  until,
} from './helpers/mesh.js'

/** A gateway's process is killed under load: the usage must know every request whose answer came, and none twice. */

const RUNS = 3
const CALLERS = 20
/** Answers after which the gateway is killed. */
const ANSWERS = 150

test('a gateway that is killed under load has lost no answered request, and counts none twice', {
  timeout: 120_000,
}, async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const modulePath = join(PACKAGE_ROOT, 'dist', 'bench', 'stand-in-engine.js')
  const env = { STAND_IN_TICK_MS: '0' }
  const options = testOptions(home, 'p1', { engine: { gpu: 'off', slots: CALLERS } })
  await start(t, new ProcessorWorker({ ...options, engine: { modulePath, env } }))
  const authority = await startStranger(t, home, auth.publicKey)
  const key = adminKey(home)
  const counted = async (): Promise<number> => {
    const { rows } = await authority.call('usage.query', { by: ['user'] }, { key })
    return rows[0]?.requests ?? 0
  }

  let asked = 0
  let answered = 0
  for (let run = 0; run < RUNS; run++) {
    const { child, url } = await spawnGateway(t, home, 'g1')
    const before = answered
    const ask = async (): Promise<void> => {
      for (;;) {
        asked++
        const response = await fetch(`${url}/v1/completions`, {
          method: 'POST',
          headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
          body: JSON.stringify({ prompt: 'count', max_tokens: 2 }),
        })
        if ((await response.text()).includes('"usage"')) answered++
        if (answered - before >= ANSWERS) child.process.kill('SIGKILL')
      }
    }
    // Each ends when its connection breaks.
    await Promise.allSettled(Array.from({ length: CALLERS }, ask))
    await child.exited
  }
  await spawnGateway(t, home, 'g1')
  await until(async () => (await counted()) >= answered, 'every answered request is in the usage')
  const total = await counted()
  t.ok(answered >= RUNS * ANSWERS, `${answered} answered of ${asked} asked`)
  t.ok(total >= answered && total <= asked, `${total} counted`)
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.is(await counted(), total, 'and no more come')
})
