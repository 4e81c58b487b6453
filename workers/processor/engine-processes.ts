import { writeEngines } from '../../lib/home/index.js'

/** The engine processes of all processors in this process: what still runs when it exits is ended with it. */
const running = new Set<number>()

function endAll(): void {
  for (const pid of running) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has just ended by itself.
    }
  }
}

/** The engine processes of one processor: none outlives it, whatever either of them is doing when it ends. */
export class EngineProcesses {
  readonly #workerDir: string
  readonly #pids = new Set<number>()

  /** @param workerDir where their numbers are kept, for whoever has to end them in our place */
  constructor(workerDir: string) {
    this.#workerDir = workerDir
    if (!process.listeners('exit').includes(endAll)) process.once('exit', endAll)
  }

  /** One was started, or is gone. */
  note(pid: number, runs: boolean): void {
    for (const pids of [running, this.#pids]) {
      if (runs) pids.add(pid)
      else pids.delete(pid)
    }
    writeEngines(this.#workerDir, [...this.#pids])
  }
}
