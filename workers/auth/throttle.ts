import { MeshError } from '../../lib/protocol/index.js'

const WINDOW_MS = 60_000
/** Peers remembered at a time; public keys cost nothing, so the memory for them must be bounded. */
const MAX_IDS = 10_000

/** Counts what one peer does in a minute, and refuses past a bound. */
export class Throttle {
  readonly #perMinute: number
  readonly #now: () => number
  readonly #windows = new Map<string, { since: number; count: number }>()

  /** @param now milliseconds that only grow */
  constructor(perMinute: number, now: () => number = () => performance.now()) {
    this.#perMinute = perMinute
    this.#now = now
  }

  /** @throws MeshError RATE_LIMITED when this id has used up its minute */
  check(id: string, what: string): void {
    const window = this.#windows.get(id)
    if (window === undefined || window.count < this.#perMinute) return
    const retryAfterMs = window.since + WINDOW_MS - this.#now()
    if (retryAfterMs <= 0) return
    throw MeshError.RATE_LIMITED(
      `More than ${this.#perMinute} ${what} within a minute. Try again in ${Math.ceil(retryAfterMs / 1000)} s`,
      { retryAfterMs },
    )
  }

  /** Counts one. */
  count(id: string): void {
    const now = this.#now()
    const window = this.#windows.get(id)
    if (window !== undefined && now - window.since < WINDOW_MS) {
      window.count++
      return
    }
    // Insertion order is the order of age: what falls out is the oldest window.
    this.#windows.delete(id)
    this.#windows.set(id, { since: now, count: 1 })
    const [oldest] = this.#windows.keys()
    if (this.#windows.size > MAX_IDS && oldest !== undefined) this.#windows.delete(oldest)
  }
}
