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

/** How long the pieces are in which prompts are evaluated beside each other. */
export class Pacing {
  readonly #batchSize: number
  #running = 0

  /** @param batchSize tokens of one step, of all sequences together */
  constructor(batchSize: number) {
    this.#batchSize = batchSize
  }

  /** Prompts that are evaluated now. */
  get running(): number {
    return this.#running
  }

  /** One more prompt is evaluated, while `work` runs. */
  async beside<T>(work: (pace: Pace) => Promise<T>): Promise<T> {
    this.#running++
    try {
      return await work(new Pace(this, this.#batchSize))
    } finally {
      this.#running--
    }
  }
}

/** The pieces of one prompt. */
class Pace {
  readonly #pacing: Pacing
  readonly #batchSize: number
  /** Tokens a millisecond, of all prompts together. */
  #speed = TILE / PIECE_MS
  #size = TILE
  #tileMs = 0
  /** False once a smaller piece has taken about as long as a tile. */
  #smallerIsSooner = true

  constructor(pacing: Pacing, batchSize: number) {
    this.#pacing = pacing
    this.#batchSize = batchSize
  }

  /** How many tokens the next piece may have: whole tiles, as long as one takes no longer than it may. */
  get size(): number {
    const fair = Math.max(1, Math.floor(this.#batchSize / this.#pacing.running))
    const wanted = Math.min(fair, (this.#speed * PIECE_MS) / this.#pacing.running)
    const tiles = Math.floor(wanted / TILE)
    const isQuick = TILE / this.#speed <= TILE_MS || !this.#smallerIsSooner
    const smaller = isQuick ? TILE : Math.max(SMALLEST_PIECE, Math.round(wanted))
    this.#size = Math.min(this.#batchSize, tiles > 0 ? tiles * TILE : smaller)
    return this.#size
  }

  /** What a piece took. The last one of a prompt says nothing of those before it. */
  took(tokens: number, ms: number): void {
    if (tokens >= TILE) this.#tileMs = (ms * TILE) / tokens
    else if (tokens < this.#size) return
    else if (ms > this.#tileMs / 2) this.#smallerIsSooner = false
    this.#speed = (tokens * this.#pacing.running) / Math.max(0.001, ms)
  }
}

export type { Pace }
