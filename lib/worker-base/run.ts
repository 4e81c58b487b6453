import { complain, surviveStderr } from '../home/index.js'
import { MeshError } from '../protocol/index.js'
import type { BaseWorker, WorkerOptions } from './worker.js'

/** EX_SOFTWARE of sysexits(3). */
const SOFTWARE = 70

/**
 * Runs one worker as this process: starts it, drains it on SIGTERM or SIGINT, ends at once on a second signal, and
 * exits non-zero on anything unexpected, so that its supervisor starts it again.
 */
export async function runWorker(make: (options: WorkerOptions) => BaseWorker, options: WorkerOptions): Promise<void> {
  let worker: BaseWorker | undefined
  let exitCode = 0
  let ending = false

  const end = async (code: number): Promise<void> => {
    exitCode ||= code
    if (ending) process.exit(exitCode || 1)
    ending = true
    await worker?.stop()
    process.exit(exitCode)
  }
  const fail = (err: unknown): void => {
    const failure = MeshError.from(err)
    complain(`infermesh: ${failure.message}`)
    void end(failure.exitCode)
  }

  surviveStderr()
  process.on('SIGTERM', () => void end(0))
  process.on('SIGINT', () => void end(0))
  // Only where a supervisor started this process over a channel: without it nobody would stop or restart this worker.
  process.on('disconnect', () => void end(0))
  // It may have ended while this process was still loading.
  if (process.send !== undefined && !process.connected) return end(0)
  process.on('uncaughtException', (err) => {
    worker?.fatal(err)
    if (worker === undefined) fail(err)
  })
  process.on('unhandledRejection', (err) => {
    worker?.fatal(err)
    if (worker === undefined) fail(err)
  })
  // Nothing is under way that could bring what is waited for. Node would end here as if all were well.
  process.on('beforeExit', () => {
    if (ending) {
      process.stderr.write('infermesh: the worker could not stop in order: it waited for what never came\n')
      process.exit(exitCode || SOFTWARE)
    }
    const doing = worker?.state ?? 'starting'
    const err = MeshError.INTERNAL(`The worker waits, while ${doing}, for what nothing on this machine can bring`)
    if (worker === undefined) fail(err)
    else worker.fatal(err)
  })
  try {
    worker = make({ ...options, onFatal: fail })
    await worker.start()
  } catch (err) {
    if (MeshError.from(err).code === 'INTERNAL') complain(err instanceof Error ? String(err.stack) : String(err))
    fail(err)
  }
}
