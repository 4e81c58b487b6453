/** All sequences wait for the step that a piece is evaluated in, and one that is cancelled is noticed between two. */
const PIECE_MS = 80
/**
 * llama.cpp takes so many tokens of one sequence at a time. Where there are fewer, each costs about as much as one that is
 * generated: behind 1,700 tokens of the embedded model 24 cost five times as much as 128.
 */
export const TILE = 64
/** A whole tile may take so long. A slower model gets smaller pieces, as long as they are really sooner done. */
const TILE_MS = 160
const SMALLEST_PIECE = 16

/** How long the pieces are in which prompts are evaluated beside each other, as the steps of this model turn out. */
export class Pacing {
  readonly #batchSize: number
  #running = 0
  /** Tokens a millisecond, of all prompts together. */
  #speed = TILE / PIECE_MS
  #tileMs = 0
  /** False once a smaller piece has taken about as long as a tile. */
  #smallerIsSooner = true

  /** @param batchSize tokens of one step, of all sequences together */
  constructor(batchSize: number) {
    this.#batchSize = batchSize
  }

  /** Prompts that are evaluated now. */
  get running(): number {
    return this.#running
  }

  /** How many tokens of prompts a step may have for which others wait that generate: whole tiles, at least one. */
  get ofStep(): number {
    return Math.max(1, Math.floor((this.#speed * PIECE_MS) / TILE)) * TILE
  }

  /** One more prompt is evaluated, while `work` runs. */
  async beside<T>(work: (pace: Pace) => Promise<T>): Promise<T> {
    this.#running++
    let most = 0
    const next = (left: number, generates: boolean): number => {
      most = this.#most(generates)
      const odd = left % most
      if (left <= most || odd === 0) return Math.min(left, most)
      return odd < unitOf(generates) ? most + odd : odd
    }
    try {
      return await work({ next, took: (tokens, ms) => this.#took(tokens, ms, most) })
    } finally {
      this.#running--
    }
  }

  /** Whole tiles, as long as one takes no longer than it may. */
  #most(generates: boolean): number {
    const fair = Math.max(1, Math.floor(this.#batchSize / this.#running))
    const wanted = Math.min(fair, (this.#speed * PIECE_MS) / this.#running)
    const isQuick = TILE / this.#speed <= TILE_MS || !this.#smallerIsSooner
    if (wanted < TILE && !isQuick) return Math.max(SMALLEST_PIECE, Math.round(wanted))
    return Math.min(this.#batchSize, inTiles(wanted, generates))
  }

  #took(tokens: number, ms: number, most: number): void {
    if (tokens >= TILE) this.#tileMs = (ms * TILE) / tokens
    else if (tokens < most) return
    else if (ms > this.#tileMs / 2) this.#smallerIsSooner = false
    this.#speed = (tokens * this.#running) / Math.max(0.001, ms)
  }
}

/** The pieces of one prompt. */
export interface Pace {
  /**
   * How many tokens the next piece has. What makes no whole one goes with the first, or before it: behind it, it would
   * often be less than a tile, and cost more than several.
   * @param left tokens that are still to be evaluated
   * @param generates whether other sequences generate
   */
  next: (left: number, generates: boolean) => number
  /** What a piece took, in milliseconds. One of less than a tile that might have had more says nothing of the others. */
  took: (tokens: number, ms: number) => void
}

/**
 * What of a prompt fills one tile. llama.cpp takes equally many tokens of all sequences of a step at a time: one of each
 * where some generate, and what is left of a tile then would be no whole one.
 */
export function unitOf(generates: boolean): number {
  return generates ? TILE + 1 : TILE
}

/** As many whole tiles as `most` tokens hold, at least one. */
export function inTiles(most: number, generates: boolean): number {
  return Math.max(1, Math.floor(most / TILE)) * TILE + (generates ? 1 : 0)
}
