import { MeshError } from '../../../lib/protocol/index.js'
import type { Slot, SlotRequest } from './slot.js'

/** A request that waits for a slot. */
export interface Waiting extends SlotRequest {
  readonly since: number
  /** Its place in the order of its line: the larger, the later. */
  readonly order: number
  /** The position it was told last, and when. */
  position: number
  toldAt: number
  readonly resolve: (slot: Slot) => void
  /** Ends its waiting, where it waits still. */
  readonly leave: (err: MeshError) => void
  readonly onAbort: () => void
}

/** A long line moves often: nobody is told of a new place more often than this. */
const POSITION_SPACING_MS = 500
/** Of all in a line together, one is looked at for each of these, so that thousands cost no more than a few. */
const POSITION_SPACING_MS_EACH = 5
/** And no more than this at once. */
const POSITIONS_AT_ONCE = 100

/** Those who wait for one model. No operation but `fronts` and `heads` walks it: those are few. */
export class Line {
  /** Everyone, by order. */
  readonly #all: Waiting[] = []
  /** Those that were taken up before, the newest first. They alone may have processors to avoid. */
  readonly #fronts = new Set<Waiting>()
  /** All others, the oldest first, by key. */
  readonly #byKey = new Map<string, Set<Waiting>>()
  readonly #byUser = new Map<string, number>()
  #first = 0
  #last = 0
  /** Whose place is looked at next, and when somebody's was last. */
  #cursor = 0
  #lookedAt: number

  constructor(now: number) {
    this.#lookedAt = now
  }

  get length(): number {
    return this.#all.length
  }

  /** How many requests of a user wait here. */
  ofUser(user: string): number {
    return this.#byUser.get(user) ?? 0
  }

  /** The order of a request that is to be added next. */
  nextOrder({ front }: SlotRequest): number {
    return front ? --this.#first : ++this.#last
  }

  has(waiting: Waiting): boolean {
    return this.#all[this.#indexOf(waiting)] === waiting
  }

  add(waiting: Waiting): void {
    if (waiting.front) {
      this.#all.unshift(waiting)
      this.#fronts.add(waiting)
    } else {
      this.#all.push(waiting)
      const lane = this.#byKey.get(waiting.keyId) ?? new Set()
      this.#byKey.set(waiting.keyId, lane.add(waiting))
    }
    this.#byUser.set(waiting.user, this.ofUser(waiting.user) + 1)
  }

  /** @returns false where it does not wait here any more */
  remove(waiting: Waiting): boolean {
    const index = this.#indexOf(waiting)
    if (this.#all[index] !== waiting) return false
    this.#all.splice(index, 1)
    if (index < this.#cursor) this.#cursor--
    this.#fronts.delete(waiting)
    const lane = this.#byKey.get(waiting.keyId)
    lane?.delete(waiting)
    if (lane?.size === 0) this.#byKey.delete(waiting.keyId)
    const left = this.ofUser(waiting.user) - 1
    if (left === 0) this.#byUser.delete(waiting.user)
    else this.#byUser.set(waiting.user, left)
    return true
  }

  /** Those that were taken up before, the newest first. */
  fronts(): Waiting[] {
    return [...this.#fronts].reverse()
  }

  /** The oldest of each key. */
  *heads(): Generator<Waiting> {
    for (const [oldest] of this.#byKey.values()) if (oldest !== undefined) yield oldest
  }

  everyone(): Waiting[] {
    return [...this.#all]
  }

  /** Tells a newcomer where it stands. */
  tellNew(waiting: Waiting, now: number): void {
    tell(waiting, this.#indexOf(waiting) + 1, now)
  }

  /** Tells of new places, from where the last call ended, as many as the time since then allows. */
  tellPositions(now: number): void {
    const due = Math.floor((now - this.#lookedAt) / POSITION_SPACING_MS_EACH)
    if (due < 1) return
    this.#lookedAt = now
    for (let left = Math.min(due, POSITIONS_AT_ONCE, this.#all.length); left > 0; left--) {
      if (this.#cursor >= this.#all.length) this.#cursor = 0
      const waiting = this.#all[this.#cursor]
      if (waiting === undefined) return
      this.#cursor++
      if (waiting.position === this.#cursor || now - waiting.toldAt < POSITION_SPACING_MS) continue
      tell(waiting, this.#cursor, now)
    }
  }

  /** Where in the line it is, or would be. */
  #indexOf({ order }: Waiting): number {
    let low = 0
    let high = this.#all.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#all[middle]?.order ?? order) < order) low = middle + 1
      else high = middle
    }
    return low
  }
}

function tell(waiting: Waiting, position: number, now: number): void {
  waiting.position = position
  waiting.toldAt = now
  try {
    waiting.onPosition(position)
  } catch (err) {
    // Who cannot be told has gone, which is no matter of those who make it move.
    waiting.leave(MeshError.from(err))
  }
}
