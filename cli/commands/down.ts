import type { Command } from 'commander'
import { complain, endEnginesOf, homePath, isAlive, type SupervisorState } from '../../lib/home/index.js'
import { MeshError, messageOf, systemCode } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { optionsOf } from '../shared/mesh.js'
import { print, printJson, withSpinner } from '../shared/output.js'
import { integer } from '../shared/parse.js'
import { runningSupervisor, runningWorkers } from '../supervisor/state.js'

const POLL_MS = 25

export function define(down: Command): void {
  down
    .option('--force', 'end everything at once, without finishing what runs')
    .option('--timeout <seconds>', 'how long to wait for what runs', integer, 60)
    .addHelpText('after', '\nExamples:\n  infermesh down\n  infermesh down --force')
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ force?: boolean; timeout: number }>(self)
      const home = homePath(options.home)
      const supervisor = knownSupervisor(home)
      // Also workers that were started one by one, or whose supervisor was killed.
      const workers = runningWorkers(home).map(({ pid }) => pid)
      if (supervisor !== undefined) signal(supervisor.pid, 'SIGTERM')
      else for (const pid of workers) signal(pid, 'SIGTERM')
      if (options.force) for (const pid of [...workers, supervisor?.pid]) if (pid) signal(pid, 'SIGKILL')

      const pids = [...(supervisor === undefined ? [] : [supervisor.pid]), ...workers]
      const deadline = performance.now() + options.timeout * 1000
      const stopped = async (): Promise<void> => {
        if (supervisor !== undefined) {
          await gone(home, [supervisor.pid], deadline, options.timeout)
          // It stops what it started, and nothing else. A worker that gets the signal twice would not finish what it does.
          for (const pid of workers.filter(isAlive)) signal(pid, 'SIGTERM')
        }
        await gone(home, workers, deadline, options.timeout)
      }
      await withSpinner('finishing what runs', options.json === true, stopped())
      // Engines of a processor that was killed, as far as they could not end by themselves.
      const running = new Set(runningWorkers(home).map(({ role, name }) => `${role}-${name}`))
      const engines = endEnginesOf(home, (worker) => running.has(worker)).length
      if (options.json) printJson({ stopped: pids.length > 0, pid: supervisor?.pid, workers: workers.length, engines })
      else
        print(
          pids.length === 0
            ? `Nothing runs in ${home}`
            : `Stopped ${workers.length} ${workers.length === 1 ? 'worker' : 'workers'}`,
        )
      if (engines > 0 && !options.force && !options.json) {
        print(`Ended ${engines === 1 ? 'an engine' : `${engines} engines`} that a killed processor had left`)
      }
    })
}

/** The supervisor; undefined where none runs, or the home's file about it says nothing: its workers have files of their own. */
function knownSupervisor(home: string): SupervisorState | undefined {
  try {
    return runningSupervisor(home)
  } catch (err) {
    complain(`infermesh: ${messageOf(err)}`)
    return undefined
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (err) {
    if (systemCode(err) === 'EPERM') {
      throw MeshError.FORBIDDEN(`The process with pid ${pid} belongs to another user: stop it as that user`)
    }
    // It has just ended by itself.
  }
}

/** @throws MeshError TIMEOUT */
async function gone(home: string, pids: number[], deadline: number, timeoutS: number): Promise<void> {
  while (true) {
    const left = pids.filter(isAlive)
    if (left.length === 0) return
    if (performance.now() > deadline) {
      throw MeshError.TIMEOUT(
        `Still running after ${timeoutS} s: pid ${left.join(', ')}. ${command('down --force', home)} ends it at once`,
      )
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
