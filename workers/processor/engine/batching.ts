import type { BatchItem, CustomBatchingPrioritizationStrategy, PrioritizedBatchItem } from 'node-llama-cpp'
import { TILE } from './pace.js'

/**
 * How often a batch may be put off. Each time only microtasks run, and a sequence needs a few dozen of them between the
 * sampling of one token and the queueing of the next.
 */
const MOST_WAITS = 100

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
  #waits = 0
  #paused = 0
  #resume: (() => void) | undefined
  #resumed: Promise<void> | undefined

  /** From here on steps wait for this slot's tokens. */
  enter(slot: number): void {
    this.#running.add(slot)
  }

  leave(slot: number): void {
    this.#running.delete(slot)
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
    return share(items, size)
  }
}

/**
 * Every sequence that only needs its next token gets its place. What is left is shared between the prompts, in whole
 * tiles: where there is not one for each, those that wait longest get theirs.
 */
function share(items: readonly BatchItem[], size: number): PrioritizedBatchItem[] {
  const ordered = [...items].sort((a, b) => a.evaluationPriority - b.evaluationPriority)
  const all = items.filter((item) => item.tokens.length > 1)
  let left = size - (ordered.length - all.length)
  const prompts = all.slice(0, Math.max(1, Math.floor(left / TILE)))
  let waiting = prompts.length
  const amounts = new Map<BatchItem, number>()
  // The shortest first, so that what a short prompt does not need goes to the longer ones.
  for (const item of [...prompts].sort((a, b) => a.tokens.length - b.tokens.length)) {
    const amount = Math.max(1, Math.min(item.tokens.length, Math.floor(left / waiting)))
    amounts.set(item, amount)
    left -= amount
    waiting--
  }
  return ordered
    .filter((item) => amounts.has(item) || item.tokens.length === 1)
    .map((item) => ({ item, processAmount: amounts.get(item) ?? 1 }))
}
