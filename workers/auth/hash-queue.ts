import { MeshError } from '../../lib/protocol/index.js'

/**
 * Who waits for a password to be hashed, in the order in which they come to their turn: logins from where the same person
 * logged in before, other logins, and new passwords.
 */
export type HashLane = 'known' | 'login' | 'change'

/** Most that wait in each lane. A login that is the last of its lane waits about three seconds. */
const MAX_WAITING: Record<HashLane, number> = { known: 32, login: 32, change: 16 }
/** Most that wait for one owner in one lane. */
const MAX_OWN = 2
/** After so many others a new password has its turn, however many logins wait. */
const CHANGE_EVERY = 5
const RETRY_MS = 2000

interface Job {
  start(): Promise<void>
}

/**
 * One password is hashed at a time, because the thread pool that hashes is also the one that the stores write with. Within
 * a lane the owners (users, or names that a login gave) take turns, so that one who sends many delays only itself.
 */
export class HashQueue {
  readonly #lanes: Record<HashLane, Map<string, Job[]>> = { known: new Map(), login: new Map(), change: new Map() }
  #isRunning = false
  #sinceChange = 0

  /**
   * Does work that hashes, when its turn comes.
   * @param signal work whose caller has gone is not done
   * @throws MeshError BUSY where too many wait already, and what the work throws
   */
  run<T>(lane: HashLane, owner: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const owners = this.#lanes[lane]
    const own = owners.get(owner) ?? []
    let waiting = 0
    for (const jobs of owners.values()) waiting += jobs.length
    if (own.length >= MAX_OWN || waiting >= MAX_WAITING[lane]) {
      throw MeshError.BUSY('Too many passwords are being checked or set right now. Try again shortly', {
        retryAfterMs: RETRY_MS,
      })
    }
    return new Promise<T>((resolve, reject) => {
      const start = async (): Promise<void> => {
        try {
          signal?.throwIfAborted()
          resolve(await work())
        } catch (err) {
          reject(err)
        }
      }
      owners.set(owner, [...own, { start }])
      if (!this.#isRunning) void this.#runAll()
    })
  }

  async #runAll(): Promise<void> {
    this.#isRunning = true
    for (let job = this.#next(); job !== undefined; job = this.#next()) await job.start()
    this.#isRunning = false
  }

  #next(): Job | undefined {
    const { known, login, change } = this.#lanes
    if (this.#sinceChange < CHANGE_EVERY - 1) {
      const job = takeFrom(known) ?? takeFrom(login)
      if (job !== undefined) {
        this.#sinceChange++
        return job
      }
    }
    this.#sinceChange = 0
    return takeFrom(change) ?? takeFrom(known) ?? takeFrom(login)
  }
}

/** The next of the owner whose turn it is; the owner goes to the end. */
function takeFrom(owners: Map<string, Job[]>): Job | undefined {
  for (const [owner, [job, ...rest]] of owners) {
    owners.delete(owner)
    if (rest.length > 0) owners.set(owner, rest)
    if (job !== undefined) return job
  }
  return undefined
}
