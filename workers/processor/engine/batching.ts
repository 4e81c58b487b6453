import type { BatchItem, CustomBatchingPrioritizationStrategy, PrioritizedBatchItem } from 'node-llama-cpp'
import { inTiles, TILE, unitOf } from './pace.js'

/**
 * How often a batch may be put off. Each time only microtasks run, and a sequence needs a few dozen of them between the
 * sampling of one token and the queueing of the next.
 */
const MOST_WAITS = 100
/** The longest that prompts wait behind a step of theirs. */
const MOST_PAUSE_MS = 200

/**
 * Fills each decode step. The library dispatches a step before every running sequence has queued its next token, which
 * splits the sequences into groups that take turns; so the step waits until all have queued. And llama.cpp splits a
 * batch whose sequences are not in ascending order into many small ones, so they are put in order: an item does not say
 * which sequence it is of, but its evaluation priority reaches us as it was given, and carries the slot's number.
 */
export class Batching {
  readonly #running = new Set<number>()
  /** Called when a step begins, and so when all tokens of the step before it have been told. */
  onStep: () => void = () => {}
  /** How many tokens of prompts a step may have while others generate. */
  promptTokens: () => number = () => Number.POSITIVE_INFINITY
  #waits = 0
  /** Places that prompts were given so far. */
  #places = 0
  /** When the last step began, and whether prompts had a part in it, or were kept waiting. */
  #lastAt = 0
  #prompts: 'in' | 'waiting' | 'none' = 'none'
  /** How long those that generate go on without prompts. */
  #pauseMs = 0
  #waitedMs = 0
  #paused = 0
  #resume: (() => void) | undefined
  #resumed: Promise<void> | undefined

  readonly #now: () => number

  /** @param now a clock in milliseconds that never goes back */
  constructor(now = () => performance.now()) {
    this.#now = now
  }

  /** From here on steps wait for this slot's tokens. */
  enter(slot: number): void {
    this.#running.add(slot)
  }

  leave(slot: number): void {
    this.#running.delete(slot)
    // What comes next comes whenever it likes: that takes nobody's time.
    if (this.#running.size === 0) this.#prompts = 'none'
  }

  /** A clock, in milliseconds, that stands still while prompts are kept waiting. */
  get promptClock(): number {
    return this.#now() - this.#waitedMs
  }

  /** Slots that steps wait for. */
  get running(): number {
    return this.#running.size
  }

  /** To be awaited before a sequence queues more tokens; undefined where it may do so at once. */
  get gate(): Promise<void> | undefined {
    return this.#resumed
  }

  /**
   * Holds all sequences between two steps while `work` runs. The library keeps its context lock for as long as any
   * sequence queues tokens, so without this a change to one sequence's cache would wait until all others have ended.
   */
  async between<T>(work: () => Promise<T>): Promise<T> {
    this.#paused++
    this.#resumed ??= new Promise((resolve) => {
      this.#resume = resolve
    })
    try {
      return await work()
    } finally {
      if (--this.#paused === 0) {
        this.#resumed = undefined
        this.#resume?.()
      }
    }
  }

  readonly strategy: CustomBatchingPrioritizationStrategy = ({ items, size }) => {
    if (this.#paused === 0 && items.length < this.#running.size && this.#waits < MOST_WAITS) {
      this.#waits++
      return []
    }
    this.#waits = 0
    this.onStep()
    this.#tick()
    return this.#share(items, size)
  }

  /** Beside prompts, those that generate have half of the time: a step with prompts is followed by as long without any. */
  #tick(): void {
    const now = this.#now()
    const tookMs = now - this.#lastAt
    this.#lastAt = now
    if (this.#prompts === 'waiting') this.#waitedMs += tookMs
    this.#pauseMs = this.#prompts === 'in' ? Math.min(tookMs, MOST_PAUSE_MS) : this.#pauseMs - tookMs
  }

  /**
   * Every sequence that only needs its next token gets its place. What is left is shared between the prompts, in whole
   * tiles: where there is not one for each, the one that has waited longest and the shortest get theirs in turn, so that
   * a short prompt does not wait for all of the long ones, and these do not wait for ever.
   */
  #share(items: readonly BatchItem[], size: number): PrioritizedBatchItem[] {
    const ordered = [...items].sort((a, b) => a.evaluationPriority - b.evaluationPriority)
    const all = items.filter((item) => item.tokens.length > 1)
    const generates = all.length < items.length
    const room = size - (items.length - all.length)
    let left = generates ? Math.min(room, this.promptTokens()) : room
    const places = generates && this.#pauseMs > 0 ? 0 : Math.max(1, Math.floor(left / TILE))
    const prompts = places > 0 ? this.#placed(all, places, unitOf(generates)) : []
    if (all.length === 0) this.#prompts = 'none'
    else this.#prompts = prompts.length > 0 ? 'in' : 'waiting'
    let waiting = prompts.length
    let free = room
    const amounts = new Map<BatchItem, number>()
    // The shortest first, so that what a short prompt does not need goes to the longer ones.
    for (const item of prompts.sort(byLength)) {
      const { length } = item.tokens
      const fair = inTiles(left / waiting, generates)
      // Less than a tile that is left behind would cost more than one that goes with it.
      const amount = Math.min(length - fair < TILE ? length : fair, Math.max(1, Math.floor(free / waiting)))
      amounts.set(item, amount)
      left -= amount
      free -= amount
      waiting--
    }
    return ordered
      .filter((item) => amounts.has(item) || item.tokens.length === 1)
      .map((item) => ({ item, processAmount: amounts.get(item) ?? 1 }))
  }

  /**
   * Which prompts are evaluated in a step: those that have a whole tile, or those that have none. Beside less than a tile of
   * one, llama.cpp takes no whole one of another.
   * @param items those that have waited longest first
   */
  #placed(items: readonly BatchItem[], most: number, unit: number): BatchItem[] {
    const [oldest] = items
    const shortest = [...items].sort(byLength)[0]
    if (oldest === undefined || shortest === undefined) return []
    const first = this.#places++ % 2 === 0 ? oldest : shortest
    const isWhole = first.tokens.length >= unit
    const others = items.filter((item) => item !== first && item.tokens.length >= unit === isWhole)
    return [first, ...others].slice(0, most)
  }
}

function byLength(a: BatchItem, b: BatchItem): number {
  return a.tokens.length - b.tokens.length
}
