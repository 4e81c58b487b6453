/** How often silence is looked at: a link is closed this much late at most. */
export const CHECK_MS = 100
/** A look that comes later than this was held up by this process itself. */
const OWN_PAUSE_MS = 500
/** A link that has been silent for this long is closed. */
export const SILENT_MS = 3000
/** Who slept for so long that others have closed its links hears from those who have not within this time. */
const AFTER_LONG_PAUSE_MS = 1000

/**
 * How long the other side of a link has said nothing. What this process slept through (suspended laptop, SIGSTOP, a long
 * garbage collection) was its own silence, and does not count; after a pause in which the other side must have closed the
 * link, one second is left to hear that it has not. Times are milliseconds of a clock that never steps.
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
    if (ownPauseMs > SILENT_MS) this.#heardAt = Math.min(this.#heardAt, now - SILENT_MS + AFTER_LONG_PAUSE_MS)
    return now - this.#heardAt
  }
}
