import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import {
  homeFiles,
  isAlive,
  makePrivateDir,
  type SupervisorState,
  supervisorStateSchema,
} from '../../lib/home/index.js'
import { MeshError, parseJson, type WorkerStatus, workerStatusSchema } from '../../lib/protocol/index.js'

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

/** The supervisor that runs this home now. */
export function runningSupervisor(home: string): SupervisorState | undefined {
  const state = readState(home)
  return state !== undefined && isOurs(state.pid, ' up') ? state : undefined
}

function readState(home: string): SupervisorState | undefined {
  const { supervisor } = homeFiles(home)
  try {
    return supervisorStateSchema.parse(parseJson(readFileSync(supervisor), supervisor))
  } catch {
    return undefined
  }
}

/**
 * Makes this process the home's only supervisor.
 * @throws MeshError STORE_LOCKED naming the process that is it already
 */
export function claimHome(home: string, roles: SupervisorState['roles']): void {
  makePrivateDir(home)
  const { supervisor } = homeFiles(home)
  const text = `${JSON.stringify({ pid: process.pid, startedAt: Date.now(), roles } satisfies SupervisorState)}\n`
  for (let attempt = 1; ; attempt++) {
    try {
      // Of two that start at once, one creates the file.
      writeFileSync(supervisor, text, { flag: 'wx' })
      return
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'EEXIST') throw err
    }
    const running = runningSupervisor(home)
    if (running !== undefined || attempt > 3) {
      throw MeshError.STORE_LOCKED(
        `${home} is already run by the process with pid ${running?.pid}. \`infermesh status\` shows it, \`infermesh down\` stops it`,
        { pid: running?.pid },
      )
    }
    rmSync(supervisor, { force: true })
  }
}

export function releaseHome(home: string): void {
  if (readState(home)?.pid === process.pid) rmSync(homeFiles(home).supervisor, { force: true })
}

/** What one worker's status file says; undefined where there is none that can be read. */
export function readStatus(path: string): WorkerStatus | undefined {
  try {
    return workerStatusSchema.parse(parseJson(readFileSync(path), path))
  } catch {
    return undefined
  }
}

/** The workers of a home that run, whoever started them. */
export function runningWorkers(home: string): WorkerStatus[] {
  const { statusDir } = homeFiles(home)
  let names: string[]
  try {
    names = readdirSync(statusDir)
  } catch {
    return []
  }
  return names
    .filter((name) => name.endsWith('.json'))
    .map((name) => readStatus(`${statusDir}/${name}`))
    .filter((status) => status !== undefined)
    .filter(({ pid }) => isWorkerProcess(pid))
}
