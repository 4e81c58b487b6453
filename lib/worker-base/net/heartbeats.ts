import type { Caller, Hello, Load } from '../../protocol/index.js'

const HEARTBEAT_MS = 500
/** A change of load is told at once, but not more often than this. */
const REPORT_SPACING_MS = 10

/** What heartbeats need of a link. */
export interface BeatingLink {
  /** Undefined until the other side has said that it is a member, and so that it sends heartbeats too. */
  readonly hello: Hello | undefined
  /** What the directory says that the other side is. */
  readonly role: Caller
  report(load: Load): void
  check(now: number): void
}

/** This worker's heartbeats, which tell its load to every member that it is linked with, and the watch over theirs. */
export class Heartbeats {
  readonly #links: Iterable<BeatingLink>
  readonly #load: () => Load
  #lastBeat = Number.NEGATIVE_INFINITY
  #soon: NodeJS.Timeout | undefined
  #stopped = false

  constructor(links: Iterable<BeatingLink>, load: () => Load) {
    this.#links = links
    this.#load = load
  }

  /**
   * Call it every CHECK_MS: reports where a heartbeat is due, and lets each link judge the other side's silence.
   * @param now of a clock that never steps
   * @returns whether a heartbeat was due
   */
  tick(now: number): boolean {
    const isDue = now - this.#lastBeat >= HEARTBEAT_MS
    if (isDue) {
      this.#lastBeat = now
      this.#report()
    }
    for (const link of this.#links) link.check(now)
    return isDue
  }

  /** Tells the load soon: call it when something about it changed. */
  loadChanged(): void {
    if (this.#stopped) return
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined
      this.#report()
    }, REPORT_SPACING_MS)
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#soon)
  }

  #report(): void {
    const load = this.#load()
    for (const link of this.#links) if (link.hello !== undefined && link.role !== 'client') link.report(load)
  }
}
