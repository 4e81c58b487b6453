/** Has the changes of one thing come one after the other. */
export class OneAtATime {
  /** The last change of each thing that has some under way. */
  readonly #tails = new Map<string, Promise<unknown>>()

  /** Does the work once all that was asked for before it is done. @throws what the work throws */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve()
    const own = before.then(work, work)
    this.#tails.set(key, own)
    try {
      return await own
    } finally {
      if (this.#tails.get(key) === own) this.#tails.delete(key)
    }
  }

  /** Resolves once all that is under way is done. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#tails.values())
  }
}
