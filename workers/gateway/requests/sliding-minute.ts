const WINDOW_MS = 60_000
const BUCKET_MS = 1000
const BUCKETS = WINDOW_MS / BUCKET_MS

/** A sum over the last sixty seconds, exact to the second. Times are milliseconds of a clock that only grows. */
export class SlidingMinute {
  readonly #buckets = new Float64Array(BUCKETS)
  #newest = 0
  total = 0

  #advance(now: number): void {
    const bucket = Math.floor(now / BUCKET_MS)
    if (bucket - this.#newest >= BUCKETS) {
      this.#buckets.fill(0)
      this.total = 0
    } else {
      for (let i = this.#newest + 1; i <= bucket; i++) {
        this.total -= this.#buckets[i % BUCKETS] ?? 0
        this.#buckets[i % BUCKETS] = 0
      }
    }
    this.#newest = Math.max(this.#newest, bucket)
  }

  sum(now: number): number {
    this.#advance(now)
    return this.total
  }

  /** @param at when it counts: a settled request is corrected where it was reserved */
  add(amount: number, at: number, now: number): void {
    this.#advance(now)
    const bucket = Math.floor(at / BUCKET_MS)
    if (this.#newest - bucket >= BUCKETS) return
    this.#buckets[bucket % BUCKETS] = (this.#buckets[bucket % BUCKETS] ?? 0) + amount
    this.total += amount
  }

  /** Milliseconds until at most `room` is left in the window. */
  waitFor(room: number, now: number): number {
    this.#advance(now)
    let left = this.total
    for (let i = this.#newest - BUCKETS + 1; i <= this.#newest && left > room; i++) {
      left -= this.#buckets[i % BUCKETS] ?? 0
      if (left <= room) return (i + BUCKETS) * BUCKET_MS - now
    }
    return left <= room ? 0 : WINDOW_MS
  }
}
