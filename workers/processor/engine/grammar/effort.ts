import { GRAMMAR_LIMITS, tooComplex } from './limits.js'

/** So many tokens' steps may be spent before their time. */
const AHEAD = 40
/** The clock is read once in so many steps. */
const STEPS_BETWEEN_LOOKS = 8192

/** Counts what a grammar is made to do for one answer, and ends it where that becomes too much. */
export class Effort {
  readonly #param: string
  readonly #now: () => number
  #steps = 0
  #reserve = AHEAD * GRAMMAR_LIMITS.stepsOnAverage
  #beganAt = 0
  #lookAt = 0

  /** @param param what in the request the grammar comes from, for errors */
  constructor(param: string, now: () => number = () => performance.now()) {
    this.#param = param
    this.#now = now
    this.#beganAt = now()
  }

  /** Steps for the token that is looked for. */
  get steps(): number {
    return this.#steps
  }

  /** From here on the next token is looked for. */
  next(): void {
    this.#reserve = Math.min(
      AHEAD * GRAMMAR_LIMITS.stepsOnAverage,
      this.#reserve - this.#steps + GRAMMAR_LIMITS.stepsOnAverage,
    )
    this.#steps = 0
    this.#lookAt = STEPS_BETWEEN_LOOKS
    this.#beganAt = this.#now()
  }

  /** @throws MeshError BAD_REQUEST */
  spend(steps: number): void {
    this.#steps += steps
    if (this.#steps > GRAMMAR_LIMITS.steps) {
      throw tooComplex(`takes more than ${GRAMMAR_LIMITS.steps} steps for one token`, GRAMMAR_LIMITS.steps, this.#param)
    }
    if (this.#steps > this.#reserve) {
      const limit = GRAMMAR_LIMITS.stepsOnAverage
      throw tooComplex(`takes more than ${limit} steps for each token, over ${AHEAD} tokens`, limit, this.#param)
    }
    if (this.#steps > this.#lookAt) {
      this.#lookAt += STEPS_BETWEEN_LOOKS
      const ms = Math.round(this.#now() - this.#beganAt)
      if (ms > GRAMMAR_LIMITS.ms) throw tooComplex(`takes ${ms} ms for one token`, GRAMMAR_LIMITS.ms, this.#param)
    }
  }

  /** @throws MeshError BAD_REQUEST */
  checkWays(ways: number): void {
    const limit = GRAMMAR_LIMITS.ways
    if (ways > limit) throw tooComplex(`can be continued in more than ${limit} ways at one point`, limit, this.#param)
  }
}
