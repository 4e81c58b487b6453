import type { Effort } from './effort.js'
import { END, isReference, type Program, target } from './program.js'
import type { Room } from './room.js'
import { LAST_SIGN, meets, type SignSet } from './signs.js'

/**
 * What can follow a text, found as texts come by. A grammar's rules hold each other, so one way of going on is an element
 * and, below it, what is to follow once its rule ends. All ways together are a state: each sign leads from one state to
 * the next, whatever the number of ways that led here, and a state that comes again is the one that was there before.
 */

/** What is still to come on one way: the element at `at`, and then what is below. */
interface Way {
  readonly id: number
  readonly at: number
  readonly below: Way | undefined
}

/** Ways whose next sign is of the same set. */
interface Group {
  readonly set: SignSet
  readonly ways: Way[]
}

/** A point in a text, as far as a grammar is concerned. */
export interface State {
  /** How often its automaton had forgotten everything when this was found. */
  readonly age: number
  /** True where the text may end here. */
  readonly complete: boolean
  /** How many ways there are. */
  readonly size: number
  /** Ways by a sign that is alone in its set. */
  readonly single: ReadonlyMap<number, readonly Way[]>
  readonly groups: readonly Group[]
  /** The state behind a sign; undefined where it may not come. */
  readonly next: Map<number, State | undefined>
  /** The same by the groups that a sign is in. */
  readonly nextOf: Map<string, State>
  /** For those who want to keep something of their own beside a state. */
  kept: Uint8Array | undefined
}

/** Signs beyond these are not remembered one by one. */
const REMEMBERED_SIGNS = 0x250
/** What a state costs in memory besides its ways, in ways. */
const STATE_COST = 16
/** What one way takes, about. */
const BYTES_A_WAY = 128
/** A sign is tried on so many groups for one step. */
const GROUPS_A_STEP = 8

/** One grammar at work, for all texts that follow it. What it finds out it remembers, as long as there is room. */
export class Automaton {
  readonly #program: Program
  readonly #room: Room
  #ways = new Map<number, Way>()
  #states = new Map<string, State>()
  #lastId = 0
  #age = 0
  #start: State | undefined

  constructor(program: Program, room: Room) {
    this.#program = program
    this.#room = room
  }

  /** Before any sign. @throws MeshError BAD_REQUEST */
  start(effort: Effort): State {
    this.#start ??= this.#close(
      (this.#program.rules[this.#program.root] ?? []).map((at) => this.#way(at, undefined)),
      effort,
    )
    return this.#start
  }

  /** The state behind a sign; undefined where it may not come. @throws MeshError BAD_REQUEST */
  step(state: State, sign: number, effort: Effort): State | undefined {
    if (sign < REMEMBERED_SIGNS) {
      const known = state.next.get(sign)
      if (known !== undefined || state.next.has(sign)) return known
    }
    this.#room.tidy()
    const next = this.#step(state, sign, effort)
    if (sign < REMEMBERED_SIGNS) state.next.set(sign, next)
    return next
  }

  /** True where a sign from `first` to `last` may come next. */
  allows(state: State, first: number, last: number, effort: Effort): boolean {
    effort.spend((state.groups.length + state.single.size) / GROUPS_A_STEP)
    if (state.groups.some(({ set }) => meets(set, first, last))) return true
    for (const sign of state.single.keys()) if (sign >= first && sign <= last) return true
    return false
  }

  /** Keeps something beside a state for as long as there is room. */
  keep(state: State, kept: Uint8Array): void {
    state.kept = kept
    this.#room.take(this, kept.length / BYTES_A_WAY)
  }

  #step(state: State, sign: number, effort: Effort): State | undefined {
    if (state.groups.length >= GROUPS_A_STEP) effort.spend(state.groups.length / GROUPS_A_STEP)
    const single = state.single.get(sign)
    let key = single === undefined ? '' : `${sign}`
    const matching: (readonly Way[])[] = single === undefined ? [] : [single]
    for (const [i, { set, ways }] of state.groups.entries()) {
      if (!meets(set, sign, sign)) continue
      key += `,${i}`
      matching.push(ways)
    }
    if (matching.length === 0) return undefined
    let next = state.nextOf.get(key)
    if (next === undefined) {
      const known = new Map<Way, Way>()
      const current = (way: Way | undefined) => (state.age === this.#age ? way : this.#again(way, known, effort))
      next = this.#close(
        matching.flatMap((ways) => ways.map(({ at, below }) => this.#way(at + 1, current(below)))),
        effort,
      )
      state.nextOf.set(key, next)
    }
    return next
  }

  /** A way that was forgotten, as it is known now: the same way must be the same object, or there would seem to be two. */
  #again(way: Way | undefined, known: Map<Way, Way>, effort: Effort): Way | undefined {
    const forgotten: Way[] = []
    let at = way
    while (at !== undefined && !known.has(at)) {
      forgotten.push(at)
      at = at.below
    }
    let below = at && known.get(at)
    for (let one = forgotten.pop(); one !== undefined; one = forgotten.pop()) {
      effort.spend(1)
      below = this.#way(one.at, below)
      if (below !== undefined) known.set(one, below)
    }
    return below
  }

  /** What is to come from an element on; undefined where that is nothing. */
  #way(at: number, below: Way | undefined): Way | undefined {
    if (this.#program.elements[at] === END) return below
    const key = (below?.id ?? 0) * this.#program.elements.length + at
    let way = this.#ways.get(key)
    if (way === undefined) {
      way = { id: ++this.#lastId, at, below }
      this.#ways.set(key, way)
      this.#room.take(this, 1)
    }
    return way
  }

  /** Follows references until signs come next. */
  #close(from: (Way | undefined)[], effort: Effort): State {
    const { elements, rules } = this.#program
    const seen = new Set<Way>()
    const ends: Way[] = []
    let complete = false
    for (let way = from.pop(), left = true; left; left = from.length > 0, way = from.pop()) {
      if (way === undefined) {
        complete = true
        continue
      }
      if (seen.has(way)) continue
      seen.add(way)
      effort.spend(1)
      const element = elements[way.at] ?? END
      if (!isReference(element)) {
        ends.push(way)
        effort.checkWays(ends.length)
        continue
      }
      const below = this.#way(way.at + 1, way.below)
      for (const at of rules[target(element)] ?? []) from.push(this.#way(at, below))
    }
    return this.#state(ends, complete)
  }

  #state(ways: Way[], complete: boolean): State {
    const key = `${complete}${Uint32Array.from(ways, ({ id }) => id)
      .sort()
      .join()}`
    const known = this.#states.get(key)
    if (known !== undefined) return known
    this.#room.take(this, ways.length + STATE_COST)
    const state = this.#grouped(ways, complete)
    this.#states.set(key, state)
    return state
  }

  #grouped(ways: readonly Way[], complete: boolean): State {
    const { elements, sets } = this.#program
    const single = new Map<number, Way[]>()
    const groups = new Map<number, Group>()
    for (const way of ways) {
      const id = target(elements[way.at] ?? END)
      const set = sets[id] ?? []
      const [first = LAST_SIGN, last] = set
      if (set.length === 2 && first === last) {
        const alike = single.get(first)
        if (alike) alike.push(way)
        else single.set(first, [way])
      } else {
        const alike = groups.get(id)
        if (alike) alike.ways.push(way)
        else groups.set(id, { set, ways: [way] })
      }
    }
    return {
      age: this.#age,
      complete,
      size: ways.length,
      single,
      groups: [...groups.values()],
      next: new Map(),
      nextOf: new Map(),
      kept: undefined,
    }
  }

  /** States that are in use go on as they are, and lead to new ones. */
  forget(): void {
    for (const state of this.#states.values()) {
      state.next.clear()
      state.nextOf.clear()
      state.kept = undefined
    }
    this.#ways = new Map()
    this.#states = new Map()
    this.#start = undefined
    this.#age++
  }
}
