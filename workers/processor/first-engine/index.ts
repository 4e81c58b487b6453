import { type ChildProcess, fork } from 'node:child_process'
import { ENGINE_MODULE } from '../engine/index.js'

/**
 * A processor's first engine process. It takes longer to load than all else of a processor, so it is started before that:
 * nothing heavy may be imported here. It loads no model until it is told to, which is after the store is the processor's own.
 */

/** The engine's own objects are few and short-lived: a small young generation keeps its memory low at no loss of speed. */
const NODE_FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=512']

let first: ChildProcess | undefined

/** Starts the engine process that the next `forkEngine` gives. It ends with this process, as every engine does. */
export function startFirstEngine(): void {
  const started = forkEngine()
  const forget = () => {
    if (first === started) first = undefined
  }
  // One that cannot be started, or has ended before it was wanted, is replaced by one whose end is told.
  started.once('error', forget).once('exit', forget)
  first = started
}

/** Ends it where nobody has taken it: this processor loads no model at its start. */
export function endFirstEngine(): void {
  first?.disconnect()
  first = undefined
}

/**
 * An engine process: the first one where it still waits, else a new one.
 * @param modulePath the program; absent: the engine @param env variables on top of this process's own
 */
export function forkEngine({
  modulePath,
  env,
}: {
  modulePath?: string
  env?: Record<string, string>
} = {}): ChildProcess {
  const waiting = first
  if (waiting !== undefined && modulePath === undefined && env === undefined) {
    first = undefined
    return waiting
  }
  return fork(modulePath ?? ENGINE_MODULE, [String(process.pid)], {
    execArgv: NODE_FLAGS,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
}
