import { join } from 'node:path'
import { PACKAGE_ROOT, runWorker } from '../lib/worker-base/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'

/** A processor whose engine only keeps time. Usage: node stand-in-processor.js <home> [name] */
const [, , home = '', name = 'processor'] = process.argv
const slots = Number(process.env.STAND_IN_SLOTS ?? 256)

await runWorker(
  (options) =>
    new ProcessorWorker({
      ...options,
      engine: { modulePath: join(PACKAGE_ROOT, 'dist', 'bench', 'stand-in-engine.js') },
    }),
  { home, name, flags: { log: { level: 'warn' }, engine: { slots, gpu: 'off' } } },
)
