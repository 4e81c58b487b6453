import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/** Which process opened a worker's store last: store.pid. It only makes messages better, so no fault of it is one. */

const FILE = 'store.pid'

/** Says that this process has the worker's store open. */
export function writeStorePid(workerDir: string): void {
  try {
    writeFileAtomic(join(workerDir, FILE), `${process.pid}\n`, { lasting: false })
  } catch {
    // No room, say: what needs room will tell.
  }
}

/** The process that opened the worker's store last, and may be gone; undefined where nothing tells. */
export function readStorePid(workerDir: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(workerDir, FILE), 'utf8'))
    return Number.isInteger(pid) && pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}

/** The same of every worker that this home ever had. */
export function readStorePids(home: string): { worker: string; pid: number }[] {
  const { workersDir } = homeFiles(home)
  if (!existsSync(workersDir)) return []
  return readdirSync(workersDir).flatMap((worker) => {
    const pid = readStorePid(join(workersDir, worker))
    return pid === undefined ? [] : [{ worker, pid }]
  })
}
