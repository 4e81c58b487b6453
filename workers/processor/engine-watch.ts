/** How long an engine may be silent or make no progress, in beats; each beat it is asked for a sign of life. */
export interface WatchBounds {
  beatMs: number
  /** From here on it gets no new work. */
  quietBeats: number
  /** Its main thread has said nothing, although it was asked. */
  silentBeats: number
  /** The same while it loads its model: a slow disk may stop it that long. */
  loadingBeats: number
  /**
   * Its main thread answers, but no piece of a prompt and no token of a request was done: the smallest piece takes 64
   * tokens through the model. Just less than the gateway's `stallMs`, so that the engine's processor speaks first.
   */
  stuckBeats: number
}

export const WATCH_BOUNDS: WatchBounds = {
  beatMs: 1000,
  quietBeats: 2,
  silentBeats: 5,
  loadingBeats: 30,
  stuckBeats: 100,
}

/**
 * How long an engine has been silent. It counts its own beats and looks at no clock: where this process was paused, or
 * the whole machine slept, there were no beats, and nothing is held against the engine.
 */
export class EngineWatch {
  readonly #bounds: WatchBounds
  #beats = 0

  constructor(bounds: WatchBounds) {
    this.#bounds = bounds
  }

  /** True where it has been asked again and again, and says nothing. */
  get quiet(): boolean {
    return this.#beats > this.#bounds.quietBeats
  }

  /** The engine has said something. */
  heard(): void {
    this.#beats = 0
  }

  /**
   * A beat in which the engine is asked for a sign of life.
   * @returns false once it is beyond hope
   */
  beat(loading: boolean): boolean {
    return ++this.#beats <= (loading ? this.#bounds.loadingBeats : this.#bounds.silentBeats)
  }
}
