import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'
import { processStart } from './processes.js'

/**
 * The engine processes of a processor: engines.json. They end with it by themselves; one that was stopped, or hangs in
 * its driver, cannot, and is ended by who finds its number here. No fault of the file is one: it only helps.
 */

const FILE = 'engines.json'
/** A number alone may have gone to somebody else's process since. */
const enginesSchema = z.array(z.object({ pid: z.int().min(2), start: z.string().min(1) }))

/** Says which engine processes there are. */
export function writeEngines(workerDir: string, pids: readonly number[]): void {
  const engines = pids.flatMap((pid) => {
    const start = processStart(pid)
    return start === undefined ? [] : [{ pid, start }]
  })
  try {
    writeFileAtomic(join(workerDir, FILE), `${JSON.stringify(engines)}\n`, { lasting: false })
  } catch {
    // No room, say: engines end by themselves nearly always.
  }
}

/**
 * Ends the engine processes that a processor left behind when it died. To be called only where it is sure to be gone.
 * @returns their pids
 */
export function endEngines(workerDir: string): number[] {
  return leftEngines(workerDir).filter(kill)
}

/** The same for every worker of a home whose process is gone. @param isRunning whether the worker of this folder runs */
export function endEnginesOf(home: string, isRunning: (worker: string) => boolean): number[] {
  const { workersDir } = homeFiles(home)
  return foldersIn(workersDir)
    .filter((worker) => !isRunning(worker))
    .flatMap((worker) => endEngines(join(workersDir, worker)))
}

function leftEngines(workerDir: string): number[] {
  try {
    const engines = enginesSchema.parse(JSON.parse(readFileSync(join(workerDir, FILE), 'utf8')))
    return engines.filter(({ pid, start }) => processStart(pid) === start).map(({ pid }) => pid)
  } catch {
    return []
  }
}

function foldersIn(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function kill(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL')
  } catch {
    return false
  }
}
