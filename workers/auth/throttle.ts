import { againIn, MeshError } from '../../lib/protocol/index.js'

const MINUTE_MS = 60_000
/** Ids remembered at a time: some cost nothing, so the memory for them must be bounded. */
const MAX_IDS = 10_000

/**
 * Bounds how often each of many does something in a minute. Each may do so many times at once, and gets its turns back
 * evenly.
 */
export class Throttle {
  readonly #perMinute: number
  readonly #now: () => number
  readonly #used = new Map<string, { turns: number; at: number }>()

  /** @param now milliseconds that only grow */
  constructor(perMinute: number, now: () => number = () => performance.now()) {
    this.#perMinute = perMinute
    this.#now = now
  }

  /** @throws MeshError RATE_LIMITED when this id has used up its turns */
  check(id: string, what: string): void {
    const over = this.#turnsOf(id) - (this.#perMinute - 1)
    if (over <= 0) return
    const retryAfterMs = Math.ceil((over / this.#perMinute) * MINUTE_MS)
    throw MeshError.RATE_LIMITED(`More than ${this.#perMinute} ${what} within a minute. ${againIn(retryAfterMs)}`, {
      retryAfterMs,
    })
  }

  /** Counts one. */
  count(id: string): void {
    this.#set(id, this.#turnsOf(id) + 1)
  }

  /** Takes one back that was counted. */
  refund(id: string): void {
    this.#set(id, Math.max(0, this.#turnsOf(id) - 1))
  }

  /** Counts one, where there is a turn left. @throws MeshError RATE_LIMITED */
  take(id: string, what: string): void {
    this.check(id, what)
    this.count(id)
  }

  #turnsOf(id: string): number {
    const used = this.#used.get(id)
    if (used === undefined) return 0
    return Math.max(0, used.turns - ((this.#now() - used.at) / MINUTE_MS) * this.#perMinute)
  }

  #set(id: string, turns: number): void {
    // Insertion order is the order of age: what falls out was used longest ago.
    this.#used.delete(id)
    if (turns > 0) this.#used.set(id, { turns, at: this.#now() })
    const [oldest] = this.#used.keys()
    if (this.#used.size > MAX_IDS && oldest !== undefined) this.#used.delete(oldest)
  }
}
