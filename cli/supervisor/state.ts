import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  createSupervisor,
  isAlive,
  readStatuses,
  readSupervisor,
  removeSupervisor,
  type SupervisorState,
} from '../../lib/home/index.js'
import { MeshError, type WorkerStatus } from '../../lib/protocol/index.js'

/** What runs in a home, as its files say, checked against the processes there are. */

/** How long another supervisor may take between making its file and writing into it. */
const WRITING_MS = 50
const MAX_CLAIMS = 3

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
  return state !== undefined && isOurs(state.pid, ' up') ? state : undefined
}

/**
 * Makes this process the home's only supervisor.
 * @throws MeshError STORE_LOCKED naming the process that is it already, CONFIG_INVALID when the file about it cannot be read
 */
export async function claimHome(home: string, roles: SupervisorState['roles']): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    if (createSupervisor(home, { pid: process.pid, startedAt: Date.now(), roles })) return
    const running = await otherSupervisor(home)
    if (running !== undefined || attempt > MAX_CLAIMS) {
      const holder = running === undefined ? 'another process' : `the process with pid ${running.pid}`
      throw MeshError.STORE_LOCKED(
        `${home} is already run by ${holder}. \`infermesh status\` shows it, \`infermesh down\` stops it`,
        { pid: running?.pid },
      )
    }
    removeSupervisor(home)
  }
}

/** The supervisor that runs this home, which may be about to say so. */
async function otherSupervisor(home: string): Promise<SupervisorState | undefined> {
  try {
    return runningSupervisor(home)
  } catch {
    await sleep(WRITING_MS)
    return runningSupervisor(home)
  }
}

export function releaseHome(home: string): void {
  if (readSupervisor(home)?.pid === process.pid) removeSupervisor(home)
}

/** The workers of a home that run, whoever started them. */
export function runningWorkers(home: string): WorkerStatus[] {
  return readStatuses(home)
    .flatMap((file) => ('status' in file ? [file.status] : []))
    .filter(({ pid }) => isWorkerProcess(pid))
}
