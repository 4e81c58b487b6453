import { MeshError } from '../protocol/index.js'

/** One of the parts a worker is made of. They start in order and stop in reverse. */
export interface Facility {
  readonly name: string
  start(): Promise<void>
  /** Called also where `start` failed half-way. */
  stop(): Promise<void>
}

/**
 * The deadline alone keeps no process running: one in which nothing else is under way has failed already.
 * @throws MeshError TIMEOUT when the work is not done in time; the work itself goes on
 */
export async function withDeadline<T>(work: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(MeshError.TIMEOUT(`${what} was not done within ${ms} ms`)), ms)
        timer.unref()
      }),
    ])
  } finally {
    clearTimeout(timer)
  }
}
