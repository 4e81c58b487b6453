import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { homeFiles } from '../lib/home/index.js'
import type { WorkerStatus } from '../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { adminKey, spawnNode, start, startAuth, startStranger, testHome, testOptions, until } from './helpers/mesh.js'

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
  const settings = ['log.level=silent', 'http.port=0'].flatMap((one) => ['--set', one])
  const args = ['--wtype', 'gateway', '--rack', 'g1', '--data-dir', home, ...settings]

  /** Starts the gateway and waits until it serves. */
  const startGateway = async () => {
    const child = spawnNode(t, 'worker.js', args)
    const file = homeFiles(home).status('gateway', 'g1')
    let url = ''
    const serves = async (): Promise<boolean> => {
      const status = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as WorkerStatus) : undefined
      if (status?.pid !== child.process.pid || status?.addresses.http === undefined) return false
      url = status.addresses.http
      return (await fetch(`${url}/readyz`)).ok
    }
    await until(() => serves().catch(() => false), 'the gateway serves', 20_000)
    return { child, url }
  }
  const counted = async (): Promise<number> => {
    const { rows } = await authority.call('usage.query', { by: ['user'] }, { key })
    return rows[0]?.requests ?? 0
  }

  let asked = 0
  let answered = 0
  for (let run = 0; run < RUNS; run++) {
    const { child, url } = await startGateway()
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
  await startGateway()
  await until(async () => (await counted()) >= answered, 'every answered request is in the usage')
  const total = await counted()
  t.ok(answered >= RUNS * ANSWERS, `${answered} answered of ${asked} asked`)
  t.ok(total >= answered && total <= asked, `${total} counted`)
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.is(await counted(), total, 'and no more come')
})
