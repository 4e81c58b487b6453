import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { claimSupervisor, isAlive, readStatuses, readSupervisor, type SupervisorState } from '../../lib/home/index.js'
import { MeshError, type WorkerStatus } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'

/** What runs in a home, as its files say, checked against the processes there are. */

/** A process's command line; empty where it is gone or the system does not tell. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    try {
      return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
    } catch {
      return ''
    }
  }
}

/** True where the process lives and is one of ours: after a crash its pid may have gone to another program. */
function isOurs(pid: number, word: string): boolean {
  return isAlive(pid) && commandLine(pid).includes(word)
}

/** True where the process lives and is one of infermesh's workers. */
export function isWorkerProcess(pid: number): boolean {
  return isOurs(pid, 'worker.js')
}

/** The supervisor that runs this home now. @throws MeshError CONFIG_INVALID when the home's file about it cannot be read */
export function runningSupervisor(home: string): SupervisorState | undefined {
  const state = readSupervisor(home)
  return state !== undefined && isRunningSupervisor(state) ? state : undefined
}

/**
 * Makes this process the home's only supervisor.
 * @throws MeshError STORE_LOCKED naming the process that is it already, CONFIG_INVALID when the file about it cannot be read
 */
export function claimHome(home: string, roles: SupervisorState['roles']): void {
  const other = claimSupervisor(
    home,
    { pid: process.pid, startedAt: Date.now(), roles, restarts: true },
    isRunningSupervisor,
  )
  if (other === undefined) return
  throw MeshError.STORE_LOCKED(
    `${home} is already run by the process with pid ${other.pid}. ${command('status', home)} shows it, ${command('down', home)} stops it`,
    { pid: other.pid },
  )
}

/** Whether the process that a supervisor's file names is one still. */
export function isRunningSupervisor({ pid }: Pick<SupervisorState, 'pid'>): boolean {
  return isOurs(pid, ' up')
}

/** The workers of a home that run, whoever started them. */
export function runningWorkers(home: string): WorkerStatus[] {
  return readStatuses(home)
    .flatMap((file) => ('status' in file ? [file.status] : []))
    .filter(({ pid }) => isWorkerProcess(pid))
}
