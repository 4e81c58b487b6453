/** A gateway that did nothing for this long may have missed what every other has been told. */
const PAUSE_MS = 1500
/** How long a check of a key waits for the authority after that; then the gateway goes on with what it knows. */
const PATIENCE_MS = 3000
/** How often a pause is looked for. */
const LOOK_MS = 250

export interface FreshnessOptions {
  /** Asks the authority how far the accounts go, where there is a link to it. With each new link it is asked anyway. */
  ask: () => void
  /** Milliseconds of a clock that never steps. */
  now?: () => number
  /** Milliseconds of the clock that goes on while the machine sleeps. One that is set asks in vain, and harms nobody. */
  wallClock?: () => number
}

/**
 * Whether what this gateway knows of the accounts may be old: after a pause of the process or the machine, and at its
 * start. The authority has told a revocation to all gateways, has heard nothing from this one, and has said so to whoever
 * revoked. So keys are checked only once the authority has been asked again, or has not been there for a while.
 *
 * A revocation waits 2 s for the gateways: one that pauses for less has been told before anybody relies on it.
 */
export class Freshness {
  readonly #ask: () => void
  readonly #now: () => number
  readonly #wallClock: () => number
  readonly #timer: NodeJS.Timeout
  #lookedAt: { now: number; wall: number }
  #doubts = 0
  #settled: { promise: Promise<void>; resolve: () => void; timer: NodeJS.Timeout } | undefined

  /** In doubt from the beginning: what it knows is from before its start. */
  constructor({ ask, now = () => performance.now(), wallClock = Date.now }: FreshnessOptions) {
    this.#ask = ask
    this.#now = now
    this.#wallClock = wallClock
    this.#lookedAt = { now: now(), wall: wallClock() }
    this.#timer = setInterval(() => this.#look(), LOOK_MS)
    this.#timer.unref()
    this.#doubt()
  }

  /** Names the doubt that there is now: who is about to ask the authority gives it back with `confirm`. */
  get doubt(): number {
    this.#look()
    return this.#doubts
  }

  /** What is known is as the authority has it. @param doubt as of when it was asked: an answer may be from before a pause */
  confirm(doubt: number): void {
    this.#look()
    if (doubt === this.#doubts) this.#settle()
  }

  /** Resolves once keys may be checked; undefined where they may now. */
  settled(): Promise<void> | undefined {
    this.#look()
    return this.#settled?.promise
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#settle()
  }

  /** The first thing after a pause may be a request, a timer or an answer: all of them look. */
  #look(): void {
    const [now, wall] = [this.#now(), this.#wallClock()]
    const pausedMs = Math.max(now - this.#lookedAt.now, wall - this.#lookedAt.wall)
    this.#lookedAt = { now, wall }
    if (pausedMs < PAUSE_MS) return
    this.#doubt()
    this.#ask()
  }

  #doubt(): void {
    this.#doubts++
    if (this.#settled !== undefined) {
      this.#settled.timer.refresh()
      return
    }
    let resolve = (): void => {}
    const promise = new Promise<void>((done) => (resolve = done))
    const timer = setTimeout(() => this.#settle(), PATIENCE_MS)
    this.#settled = { promise, resolve, timer }
  }

  #settle(): void {
    if (this.#settled === undefined) return
    clearTimeout(this.#settled.timer)
    this.#settled.resolve()
    this.#settled = undefined
  }
}
