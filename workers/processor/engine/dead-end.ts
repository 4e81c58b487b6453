import { MeshError } from '../../../lib/errors/index.js'

/** Sampling one token takes far less. */
const STUCK_MS = 200

/** One generation under a grammar, as far as dead ends are concerned. */
export class GrammarWatch {
  /** True from the moment a token is sampled until it has come. */
  sampling = false
  /** Counts the tokens, to see whether one has come. */
  sampled = 0
  /** True once it will never get another token: whatever it waits for must not be awaited. */
  dead = false
  #fail: (err: MeshError) => void = () => {}
  /** Rejects when it is dead. */
  readonly death = new Promise<never>((_, reject) => {
    this.#fail = reject
  })

  constructor() {
    // Most generations end before anybody waits for this.
    this.death.catch(() => {})
  }

  kill(): void {
    this.dead = true
    this.#fail(
      MeshError.BAD_REQUEST('The grammar came to a dead end: no token of this model can follow the text so far', {
        param: 'format.grammar',
      }),
    )
  }
}

/**
 * A grammar may lead to where no token can follow. The library then rejects a promise that nobody holds, and never
 * answers the sequence that asked; without this one user's grammar would end the engine for all, or a slot for ever.
 */
export class DeadEnds {
  readonly #watches = new Set<GrammarWatch>()

  open(): GrammarWatch {
    const watch = new GrammarWatch()
    this.#watches.add(watch)
    return watch
  }

  close(watch: GrammarWatch): void {
    this.#watches.delete(watch)
  }

  /**
   * Takes an unhandled rejection. It does not say whose it is: the one that stays stuck in sampling.
   * @returns false where it has nothing to do with a grammar
   */
  take(reason: unknown): boolean {
    if (!(reason instanceof Error) || !/grammar|accept token/.test(reason.message)) return false
    const suspects = [...this.#watches]
      .filter(({ sampling }) => sampling)
      .map((watch) => ({ watch, at: watch.sampled }))
    setTimeout(() => {
      for (const { watch, at } of suspects) {
        if (this.#watches.has(watch) && watch.sampling && watch.sampled === at) watch.kill()
      }
    }, STUCK_MS)
    return suspects.length > 0
  }
}
