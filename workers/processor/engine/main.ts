import { MeshError } from '../../../lib/errors/index.js'
import type { FromEngine, ToEngine } from './messages.js'
import { type EngineLog, loadModel } from './model.js'
import { ModelRunner } from './model-runner.js'

/** The engine process: one model, until its processor ends it or goes away. */

const log: EngineLog = (level, message) => send({ type: 'log', level, message })
let runner: ModelRunner | undefined

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
    const loaded = await loadModel(options, log)
    runner = new ModelRunner(loaded, send)
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

process.on('message', (message: ToEngine) => {
  if (message.type === 'load') void load(message.options)
  else runner?.handle(message)
})
// Without its processor an engine is of no use, and nobody would ever end it.
process.on('disconnect', () => process.exit(0))
// A terminal's Ctrl-C reaches the whole process group. The processor drains first and ends us itself.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
send({ type: 'ready' })
