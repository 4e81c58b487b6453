interface Forgetful {
  forget(): void
}

/** Ways that are remembered in all grammars of an engine: about 100 MB. */
const MOST_REMEMBERED = 600_000

/** The memory that all grammars of an engine share. Where it is full, all forget what they can find out again. */
export class Room {
  readonly #most: number
  #taken = 0
  readonly #owners = new Set<Forgetful>()

  constructor(most = MOST_REMEMBERED) {
    this.#most = most
  }

  take(owner: Forgetful, ways: number): void {
    this.#owners.add(owner)
    this.#taken += ways
  }

  /** To be called where nobody holds on to what may be forgotten. */
  tidy(): void {
    if (this.#taken <= this.#most) return
    for (const one of this.#owners) one.forget()
    this.#owners.clear()
    this.#taken = 0
  }
}
