import { homeFiles, LogFile } from '../../lib/home/index.js'
import type { Child } from './child.js'

/** pino's numbers, as in the workers' logs. */
const WARN = 40
const ERROR = 50

/** What became of a worker after the start, for people; undefined where it is as it should be. */
export function changeText({ role, name, state, reason }: Child): string | undefined {
  if (state === 'restarting') return `${reason?.message ?? `${role} ${name} ended`}; starting it again`
  if (state === 'failed') return `${reason?.message ?? `${role} ${name} failed`}; it is not started again`
  return undefined
}

/** The supervisor's own log in the home: a line for each worker that ended. */
export class SupervisorLog {
  readonly #file: LogFile

  constructor(home: string) {
    this.#file = new LogFile(homeFiles(home).supervisorLog)
  }

  /** Never throws. */
  tell(child: Child): void {
    const msg = changeText(child)
    if (msg === undefined) return
    const { role, name, state, restarts } = child
    const level = state === 'failed' ? ERROR : WARN
    const line = {
      level,
      time: Date.now(),
      role: 'supervisor',
      worker: 'supervisor',
      of: `${role} ${name}`,
      restarts,
      msg,
    }
    this.#file.write(`${JSON.stringify(line)}\n`)
  }

  close(): void {
    this.#file.close()
  }
}
