/** A slot that gives no tokens is worth as much as one that gives them at this pace. */
const MS_A_TOKEN = 20

/** What each key that has requests waiting or running was served, in tokens: its virtual time. */
export class FairShares {
  readonly #shares = new Map<string, { tokens: number; active: number }>()

  /** One more request of a key. A key that comes back starts level with the least served: it cannot save up turns. */
  enter(keyId: string): void {
    const known = this.#shares.get(keyId)
    if (known !== undefined) {
      known.active++
      return
    }
    const least = Math.min(...[...this.#shares.values()].map(({ tokens }) => tokens))
    this.#shares.set(keyId, { tokens: Number.isFinite(least) ? least : 0, active: 1 })
  }

  /**
   * A request had a slot: what it cost others is its tokens or the time that they could not use the slot, whichever is
   * more, however it ended. No turn is free.
   */
  served(keyId: string, tokens: number, heldMs: number): void {
    const known = this.#shares.get(keyId)
    if (known !== undefined) known.tokens += Math.max(1, tokens, heldMs / MS_A_TOKEN)
  }

  /** A request of a key is gone. */
  leave(keyId: string): void {
    const known = this.#shares.get(keyId)
    if (known !== undefined && --known.active === 0) this.#shares.delete(keyId)
  }

  of(keyId: string): number {
    return this.#shares.get(keyId)?.tokens ?? 0
  }
}
