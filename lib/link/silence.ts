/** How often silence is looked at: a link is closed this much late at most. */
export const CHECK_MS = 100
/** A look that comes later than this was held up by this process itself. */
const OWN_PAUSE_MS = 500

/**
 * How long the other side of a link has said nothing. What this process slept through (suspended laptop, SIGSTOP, a long
 * garbage collection) was its own silence, and does not count. Times are milliseconds of a clock that never steps.
 */
export class Silence {
  #heardAt: number
  #lookedAt: number

  constructor(now: number) {
    this.#heardAt = now
    this.#lookedAt = now
  }

  heard(now: number): void {
    this.#heardAt = now
  }

  /** Milliseconds of silence. Call it every CHECK_MS: longer gaps between two looks are taken for own pauses. */
  look(now: number): number {
    const ownPauseMs = now - this.#lookedAt - CHECK_MS
    this.#lookedAt = now
    if (ownPauseMs > OWN_PAUSE_MS) this.#heardAt = Math.min(now, this.#heardAt + ownPauseMs)
    return now - this.#heardAt
  }
}
