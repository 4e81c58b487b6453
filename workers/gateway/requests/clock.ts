/** Time as a request's way sees it, so that a test can pass it in an instant. */
export interface Clock {
  /** Milliseconds since the epoch: for dates. */
  date(): number
  /** Milliseconds that only grow: for durations. */
  now(): number
  /** Calls `onTime` once, that many milliseconds from now. */
  timer(ms: number, onTime: () => void): Timer
}

export interface Timer {
  /** Begins its time anew. */
  restart(): void
  stop(): void
}

export const systemClock: Clock = {
  date: Date.now,
  now: () => performance.now(),
  timer(ms, onTime) {
    const timeout = setTimeout(onTime, ms)
    return { restart: () => void timeout.refresh(), stop: () => clearTimeout(timeout) }
  },
}
