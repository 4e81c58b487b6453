/** How often this machine's addresses are looked at, and how often one must be gone in a row. */
const LOOK_MS = 2000
const GONE_LOOKS = 3

export interface OwnAddressOptions {
  /** The IPv4 address that a worker's node was opened at. */
  host: string
  /** Those that this machine has now, and those of them that others most likely reach it at. */
  addresses: () => { all: readonly string[]; likely: readonly string[] }
  /** Milliseconds of a clock that never steps. */
  now: () => number
}

/** Whether this machine has another address now than the one that its worker tells others. */
export class OwnAddress {
  readonly #options: OwnAddressOptions
  #lookedAt: number
  #gone = 0

  constructor(options: OwnAddressOptions) {
    this.#options = options
    this.#lookedAt = options.now()
  }

  /**
   * Call it often. A machine that is on no network for a while, or on those of its containers only, is waited for.
   * @returns the address that it has instead; undefined while there is nothing to do about it
   */
  movedTo(): string | undefined {
    const { host, addresses, now } = this.#options
    if (now() - this.#lookedAt < LOOK_MS) return undefined
    this.#lookedAt = now()
    const { all, likely } = addresses()
    const [other] = likely
    this.#gone = all.includes(host) || other === undefined ? 0 : this.#gone + 1
    return this.#gone >= GONE_LOOKS ? other : undefined
  }
}
