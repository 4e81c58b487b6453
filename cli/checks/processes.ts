import { createServer } from 'node:net'
import {
  findProfile,
  homeFiles,
  readRoles,
  readSettings,
  readStatuses,
  readStorePids,
  settingsPath,
} from '../../lib/home/index.js'
import type { WorkerStatus } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { isWorkerProcess, runningSupervisor } from '../supervisor/state.js'
import type { Finding } from './finding.js'
import { readable } from './home.js'

/** Who runs on this machine, and the ports of who does not yet. */

/** Who runs here, and what the files of processes that are gone say still. */
export function processes(home: string, workers: WorkerStatus[]): Finding[] {
  const check = 'processes'
  const findings: Finding[] = []
  const supervisor = readable(() => runningSupervisor(home))
  const alive = new Set(workers.map(({ pid }) => pid))
  for (const file of readStatuses(home)) {
    if ('problem' in file || alive.has(file.status.pid)) continue
    findings.push({
      check,
      state: 'warn',
      message: `${file.path} was left by a worker that is gone`,
      advice: `nothing: its next start replaces it. ${command('logs', home)} may say how it ended`,
    })
  }
  if (supervisor !== undefined) {
    findings.push({ check, state: 'ok', message: `supervisor with pid ${supervisor.pid}, ${workers.length} workers` })
    for (const { role, name } of supervisor.roles) {
      if (workers.some((worker) => worker.role === role && worker.name === name)) continue
      findings.push({
        check,
        state: 'fail',
        message: `${role} ${name} does not run`,
        advice: `${command('logs', home)} says why`,
      })
    }
  } else if (workers.length > 0) {
    findings.push({ check, state: 'ok', message: `${workers.length} workers without a supervisor` })
  } else if (readable(() => findProfile(home)) !== undefined) {
    findings.push({
      check,
      state: 'warn',
      message: 'no workers run on this machine',
      advice: `${command('up', home)} starts them`,
    })
  }
  for (const { pid, name } of storesInUse(home, workers)) {
    findings.push({
      check,
      state: 'fail',
      message: `the store of ${name} is held by the process with pid ${pid}, which says nothing of itself`,
      advice: `\`kill ${pid}\` ends it, and lets the worker start`,
    })
  }
  return findings
}

/** Stores that a worker's process holds which has no status file: one that hangs in its start, or was forgotten. */
function storesInUse(home: string, workers: WorkerStatus[]): { pid: number; name: string }[] {
  return readStorePids(home)
    .filter(({ pid }) => isWorkerProcess(pid) && !workers.some((worker) => worker.pid === pid))
    .map(({ worker, pid }) => ({ pid, name: worker }))
}

/** The ports of what does not run here yet, and may. */
export async function ports(home: string, workers: WorkerStatus[]): Promise<Finding[]> {
  const check = 'ports'
  const findings: Finding[] = []
  const roles = readable(() => readRoles(home))
  for (const [facility, role, fallback, flag] of [
    ['http', 'gateway', 8080, '--http-port'],
    ['metrics', 'metrics', 9464, '--metrics-port'],
  ] as const) {
    const running = workers.find((worker) => worker.role === role)
    if (running !== undefined) {
      findings.push({
        check,
        state: 'ok',
        message: `${role} listens at ${running.addresses[facility] ?? 'no address'}`,
      })
      continue
    }
    if (roles !== undefined && !roles.some((worker) => worker.role === role)) continue
    const port = configuredPort(home, facility) ?? fallback
    findings.push(
      (await isFree(port))
        ? { check, state: 'ok', message: `port ${port} is free for the ${role}` }
        : {
            check,
            state: 'warn',
            message: `port ${port}, which a ${role} would use, is taken`,
            advice: `${command(`up ${flag} 0`, home)} takes a free one`,
          },
    )
  }
  return findings
}

function configuredPort(home: string, facility: string): number | undefined {
  const settings = readable(() => readSettings(settingsPath(homeFiles(home).configDir, facility)))
  return typeof settings?.port === 'number' ? settings.port : undefined
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
