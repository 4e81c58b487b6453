import { writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { MeshError } from '../../../lib/errors/index.js'
import type { FromEngine, ToEngine } from './messages.js'
import type { EngineLog, LoadedModel } from './model.js'
import type { ModelRunner } from './model-runner.js'

/**
 * The engine process: one model, until its processor ends it or goes away.
 *
 * Usage: node main.js [pid of the processor]
 */

/** Of all that runs here, Linux is to end an engine first when memory is short: it comes back by itself. */
const OOM_SCORE = '500'

/** The model library is most of what an engine loads. The guard starts meanwhile. */
const modules = Promise.all([import('./model.js'), import('./model-runner.js')])
// Whoever loads a model is told.
modules.catch(() => {})

const log: EngineLog = (level, message) => send({ type: 'log', level, message })
let runner: ModelRunner | undefined
let loaded: LoadedModel | undefined

function send(message: FromEngine, then: () => void = () => {}): void {
  if (!process.connected) return
  // The callback takes the error of a channel that closed in between: `disconnect` ends us then.
  process.send?.(message, undefined, undefined, then)
}

/** Ends the process once the last message is out. */
function endWith(message: FromEngine, code: number): void {
  send(message, () => process.exit(code))
}

async function load(options: Extract<ToEngine, { type: 'load' }>['options']): Promise<void> {
  try {
    const [{ loadModel }, { ModelRunner: Runner }] = await modules
    loaded = await loadModel(options, log)
    runner = await Runner.of(loaded, send)
    send({ type: 'loaded', info: loaded.info })
  } catch (err) {
    endWith(
      {
        type: 'failed',
        error: MeshError.from(err, 'ENGINE_FAILED', `The engine could not start: ${String(err)}`).toJSON(),
      },
      1,
    )
  }
}

/** A device that cannot be asked now is asked again at the next scrape. */
async function tellMemory(): Promise<void> {
  if (loaded === undefined) return
  try {
    const [{ memoryNow }] = await modules
    send({ type: 'memory', memory: await memoryNow(loaded) })
  } catch (err) {
    log('warn', `the memory of the GPU cannot be read: ${String(err)}`)
  }
}

process.on('message', (message: ToEngine) => {
  if (message.type === 'load') void load(message.options)
  else if (message.type === 'ping') send({ type: 'alive', steps: runner?.steps ?? [] })
  else if (message.type === 'memory') void tellMemory()
  else runner?.handle(message)
})
// Without its processor an engine is of no use, and nobody would ever end it.
process.on('disconnect', () => process.exit(0))
const guard = new Worker(new URL('./guard-thread.js', import.meta.url), {
  workerData: Number(process.argv[2] ?? process.ppid),
  resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1 },
})
guard.unref()
// A terminal's Ctrl-C reaches the whole process group. The processor drains first and ends us itself.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
try {
  writeFileSync('/proc/self/oom_score_adj', OOM_SCORE)
} catch {
  // Not Linux, or a container that does not let us.
}
// Nothing is done here that is not watched.
guard.once('message', () => send({ type: 'ready' }))
