import { MeshError } from '../../../lib/protocol/index.js'

const RETRY_MS = 1000

export interface TurnsOptions {
  /** What runs at a time. */
  most: number
  /** The same of one user. */
  mostPerUser: number
  /** What of one user may wait; more is refused. */
  mostWaiting: number
}

interface Waiting {
  user: string
  begin: () => void
}

/** Lets a bounded number of pieces of work run at a time, of one user fewer, in the order in which they came. */
export class Turns {
  readonly #options: TurnsOptions
  readonly #running = new Map<string, number>()
  readonly #waiting: Waiting[] = []
  #count = 0

  constructor(options: TurnsOptions) {
    this.#options = options
  }

  /** Does the work in its turn. @throws MeshError RATE_LIMITED where too much of the user waits, and what the work throws */
  async run<T>(user: string, work: () => Promise<T>): Promise<T> {
    if (!this.#mayBegin(user)) await this.#wait(user)
    else this.#begin(user)
    try {
      return await work()
    } finally {
      this.#end(user)
    }
  }

  #mayBegin(user: string): boolean {
    return this.#count < this.#options.most && (this.#running.get(user) ?? 0) < this.#options.mostPerUser
  }

  #wait(user: string): Promise<void> {
    const waiting = this.#waiting.reduce((sum, one) => sum + (one.user === user ? 1 : 0), 0)
    if (waiting >= this.#options.mostWaiting) {
      throw MeshError.RATE_LIMITED(`${waiting} reads or writes of what ${user} has stored wait already`, {
        retryAfterMs: RETRY_MS,
      })
    }
    return new Promise((begin) => this.#waiting.push({ user, begin }))
  }

  #begin(user: string): void {
    this.#count++
    this.#running.set(user, (this.#running.get(user) ?? 0) + 1)
  }

  #end(user: string): void {
    this.#count--
    const left = (this.#running.get(user) ?? 1) - 1
    if (left === 0) this.#running.delete(user)
    else this.#running.set(user, left)
    const at = this.#waiting.findIndex((one) => this.#mayBegin(one.user))
    for (const next of at === -1 ? [] : this.#waiting.splice(at, 1)) {
      this.#begin(next.user)
      next.begin()
    }
  }
}
