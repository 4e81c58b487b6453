import type { Role } from '../lib/protocol/index.js'
import { runWorker } from '../lib/worker-base/index.js'
import { sleep, TestWorker, testOptions } from './helpers/mesh.js'

/** A test's worker as a process: `node worker-child.js <role> <home> <name> [behaviour]`. */

const [role, home, name, behaviour] = process.argv.slice(2) as [Role, string, string, string | undefined]

class ChildWorker extends TestWorker {
  protected override async _prepare(): Promise<void> {
    if (behaviour === 'waits for nothing') await new Promise(() => {})
    if (behaviour === 'waits for ever') await new Promise((resolve) => setInterval(resolve, 2 ** 30))
  }

  protected override async _stop(): Promise<void> {
    if (behaviour === 'never stops') await new Promise(() => {})
  }

  protected override async _start(): Promise<void> {
    if (behaviour === 'throws') setTimeout(() => failUnexpectedly(), 200)
    if (behaviour === 'rejects') setTimeout(() => Promise.reject(new Error('a rejection nobody handles')), 200)
  }

  protected override async _drain(): Promise<void> {
    if (behaviour === 'drains') await sleep(400)
    if (behaviour === 'never drains') await sleep(60_000)
    process.stderr.write('drained\n')
  }
}

function failUnexpectedly(): void {
  throw new Error('an error nobody expected')
}

const flags = { worker: { startDeadlineMs: behaviour === 'waits for ever' ? 500 : 30_000 } }
await runWorker((options) => new ChildWorker(role, options), testOptions(home, name, flags))
