import { once } from 'node:events'
import { Engine } from '../../workers/processor/index.js'
import { chat, engineOptions } from '../engine-kit.js'

/** A process that has an engine whose main thread is stuck, given in its environment; it says the engine's pid. */

const engine = new Engine(
  engineOptions({ watch: { beatMs: 100, quietBeats: 2, silentBeats: 100_000, loadingBeats: 100_000 } }),
)
await engine.load()
engine.generate(chat('please hang'), () => {}).catch(() => {})
while (!engine.quiet) await once(engine, 'change')
process.stdout.write(`${engine.pid}\n`)
