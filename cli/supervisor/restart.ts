import type { SupervisorState, WorkerName } from '../../lib/home/index.js'
import { findStatus } from '../../lib/home/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { isRunningSupervisor } from './state.js'
import type { Supervisor } from './supervisor.js'

/** How another process has a supervisor start its workers anew. Windows has no such signal. */

const RESTART_SIGNAL = 'SIGUSR2'
const POLL_MS = 50
/** How long the workers may take: to finish what runs, and to be ready again. */
const RESTARTED_MS = 90_000

/** Starts a supervisor's workers anew at each signal that asks for it. `failed` rejects where they do not come back. */
export function restartOnSignal(supervisor: Supervisor) {
  let fail: (err: unknown) => void = () => {}
  const failed = new Promise<never>((_, reject) => {
    fail = reject
  })
  failed.catch(() => {})
  let last = Promise.resolve()
  const onSignal = () => {
    last = last.then(() => supervisor.restart()).catch(fail)
  }
  process.on(RESTART_SIGNAL, onSignal)
  return { failed, release: () => process.off(RESTART_SIGNAL, onSignal) }
}

/** Whether the supervisor can be asked by `askRestart`. */
export function canRestart({ restarts }: SupervisorState): boolean {
  return restarts === true && process.platform !== 'win32'
}

/**
 * Has a supervisor start its workers anew, and waits until all are ready again.
 * @throws MeshError UNAVAILABLE where it ended instead, TIMEOUT
 */
export async function askRestart(home: string, supervisor: SupervisorState, signal: AbortSignal): Promise<void> {
  const pidOf = (worker: WorkerName) => {
    const status = findStatus(home, worker)
    return status?.load.state === 'ready' ? status.pid : undefined
  }
  const before = new Map(supervisor.roles.map((worker) => [worker, pidOf(worker)]))
  process.kill(supervisor.pid, RESTART_SIGNAL)
  const deadline = performance.now() + RESTARTED_MS
  while (true) {
    const waiting = [...before].filter(([worker, pid]) => [undefined, pid].includes(pidOf(worker)))
    if (waiting.length === 0) return
    const names = waiting.map(([{ role, name }]) => `${role} ${name}`).join(', ')
    if (!isRunningSupervisor(supervisor)) {
      throw MeshError.REFUSED(
        `The workers did not start again, and none runs now: ${command('logs', home)} says why (${names})`,
      )
    }
    if (performance.now() > deadline) {
      throw MeshError.TIMEOUT(
        `Not ready again within ${RESTARTED_MS / 1000} s: ${names}. ${command('logs', home)} says more`,
      )
    }
    signal.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
