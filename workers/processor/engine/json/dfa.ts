import type { Spend } from './alphabet.js'

/**
 * A deterministic automaton over the classes of an alphabet. States are numbered from 0, where a text begins, and each can
 * come to an end: whatever was written so far, there is a way to finish.
 */
export interface Dfa {
  /** Classes of the alphabet. */
  readonly width: number
  /** By state and class, the next state; NONE where the sign may not come. */
  readonly next: Int32Array
  /** By state, 1 where a text may end. */
  readonly accepts: Uint8Array
}

export const NONE = -1
/** Looking at so many ways on counts as a step. */
export const WAYS_A_STEP = 8
/** Further rounds of telling states apart would take longer than what they save. */
const MOST_ROUNDS = 40

/** How many states there are. None: nothing is accepted. */
export function sizeOf({ accepts }: Dfa): number {
  return accepts.length
}

/** The states behind a state, once for each class that leads there. */
export function* waysOf({ next, width }: Dfa, state: number): Generator<number> {
  for (let at = state * width; at < (state + 1) * width; at++) {
    const to = next[at] ?? NONE
    if (to !== NONE) yield to
  }
}

/** By state, how many signs it takes to come to an end at least; -1 where no end can be reached. */
export function distances(dfa: Dfa): Int32Array {
  const size = sizeOf(dfa)
  const before: number[][] = Array.from({ length: size }, () => [])
  for (let state = 0; state < size; state++) for (const to of waysOf(dfa, state)) before[to]?.push(state)
  const distance = new Int32Array(size).fill(-1)
  const found: number[] = []
  for (const [state, accepts] of dfa.accepts.entries()) {
    if (accepts === 0) continue
    distance[state] = 0
    found.push(state)
  }
  // Each is looked at once, the nearest first.
  for (let i = 0; i < found.length; i++) {
    const state = found[i] ?? 0
    for (const from of before[state] ?? []) {
      if (distance[from] !== -1) continue
      distance[from] = (distance[state] ?? 0) + 1
      found.push(from)
    }
  }
  return distance
}

/** The same language without states from which no end can be reached. */
export function trimmed(dfa: Dfa): Dfa {
  const of = distances(dfa)
  let count = 0
  for (const [state, distance] of of.entries()) of[state] = distance === -1 ? NONE : count++
  return count === sizeOf(dfa) ? dfa : joined(dfa, { of, count })
}

/** The same, and states that are alike made one, as far as that can be found out in little time. */
export function tidied(whole: Dfa, spend: Spend): Dfa {
  const dfa = folded(trimmed(whole), spend)
  const { width, next } = dfa
  const size = sizeOf(dfa)
  // States with different distances are never alike, and most that are not have different ones.
  let of = distances(dfa)
  let count = 0
  for (let round = 0; round < MOST_ROUNDS; round++) {
    spend((size * width) / WAYS_A_STEP)
    const rows = new Rows(width + 1)
    const finer = Int32Array.from(of, (block, state) => {
      rows.row[0] = block
      for (let i = 0; i < width; i++) rows.row[i + 1] = blockOf(of, next[state * width + i])
      return rows.id()
    })
    if (rows.size === count) return count === size ? dfa : joined(dfa, { of: finer, count })
    of = finer
    count = rows.size
  }
  return dfa
}

/** Those states made one that lead to the same ones, from the ends back to where automata go in circles. */
function folded(dfa: Dfa, spend: Spend): Dfa {
  const { width, next, accepts } = dfa
  const size = sizeOf(dfa)
  spend((size * width) / WAYS_A_STEP)
  const before: number[][] = Array.from({ length: size }, () => [])
  const left = new Int32Array(size)
  for (let state = 0; state < size; state++) {
    for (const to of waysOf(dfa, state)) {
      before[to]?.push(state)
      left[state] = (left[state] ?? 0) + 1
    }
  }
  const of = new Int32Array(size).fill(NONE)
  const rows = new Rows(width + 1)
  const open = [...left.keys()].filter((state) => left[state] === 0)
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    rows.row[0] = accepts[state] ?? 0
    for (let i = 0; i < width; i++) rows.row[i + 1] = blockOf(of, next[state * width + i])
    of[state] = rows.id()
    for (const from of before[state] ?? []) {
      left[from] = (left[from] ?? 0) - 1
      if (left[from] === 0) open.push(from)
    }
  }
  let count = rows.size
  for (const [state, block] of of.entries()) if (block === NONE) of[state] = count++
  return count === size ? dfa : joined(dfa, { of, count })
}

function blockOf(of: Int32Array, state = NONE): number {
  return state === NONE ? NONE : (of[state] ?? NONE)
}

interface Blocks {
  readonly of: Int32Array
  readonly count: number
}

/** Numbers for rows of numbers, from 0 on. */
class Rows {
  /** The row to be numbered. */
  readonly row: Int32Array
  readonly #known = new Map<number, { id: number; row: Int32Array }[]>()
  size = 0

  constructor(width: number) {
    this.row = new Int32Array(width)
  }

  id(): number {
    let hash = 0
    for (const one of this.row) hash = Math.imul(hash ^ one, 0x01000193) + (hash >>> 15)
    const alike = this.#known.get(hash) ?? []
    for (const { id, row } of alike) if (this.#isSame(row)) return id
    alike.push({ id: this.size, row: this.row.slice() })
    this.#known.set(hash, alike)
    return this.size++
  }

  #isSame(other: Int32Array): boolean {
    for (let i = 0; i < other.length; i++) if (other[i] !== this.row[i]) return false
    return true
  }
}

/** States by their blocks, of which the first state's becomes the first. */
function joined({ width, next, accepts }: Dfa, { of: blocks, count }: Blocks): Dfa {
  const start = blocks[0] ?? NONE
  const of = blocks.map((block) => (block === start ? 0 : block === 0 ? start : block))
  // Where no text is accepted, not even the beginning is left.
  if (start === NONE) return { width, next: new Int32Array(0), accepts: new Uint8Array(0) }
  const joint = { width, next: new Int32Array(count * width).fill(NONE), accepts: new Uint8Array(count) }
  for (const [state, block] of of.entries()) {
    if (block === NONE) continue
    joint.accepts[block] = accepts[state] ?? 0
    for (let i = 0; i < width; i++) {
      const to = next[state * width + i] ?? NONE
      joint.next[block * width + i] = to === NONE ? NONE : (of[to] ?? NONE)
    }
  }
  return joint
}

/** All texts that this one does not accept. */
export function complement({ width, next, accepts }: Dfa, spend: Spend): Dfa {
  const size = accepts.length
  if (size === 0) return { width, next: new Int32Array(width), accepts: new Uint8Array([1]) }
  const others: Dfa = {
    width,
    next: new Int32Array((size + 1) * width).fill(size),
    accepts: new Uint8Array(size + 1).fill(1),
  }
  for (const [i, to] of next.entries()) if (to !== NONE) others.next[i] = to
  for (const [state, accept] of accepts.entries()) others.accepts[state] = 1 - accept
  return tidied(others, spend)
}

/** True for a state from which any text whatever is accepted. */
export function takesAll({ width, next, accepts }: Dfa, state: number): boolean {
  if (accepts[state] !== 1) return false
  for (let at = state * width; at < (state + 1) * width; at++) if (next[at] !== state) return false
  return true
}

/** Rows of an automaton while it is made. */
export class DfaRows {
  readonly #width: number
  readonly #next: number[] = []
  readonly #accepts: number[] = []

  constructor(width: number) {
    this.#width = width
  }

  /** Adds the next state. */
  add(accepts: boolean): number {
    for (let i = 0; i < this.#width; i++) this.#next.push(NONE)
    return this.#accepts.push(accepts ? 1 : 0) - 1
  }

  lead(from: number, by: number, to: number): void {
    this.#next[from * this.#width + by] = to
  }

  dfa(): Dfa {
    return { width: this.#width, next: Int32Array.from(this.#next), accepts: Uint8Array.from(this.#accepts) }
  }
}

/** The texts that both accept. */
export function both(a: Dfa, b: Dfa, spend: Spend): Dfa {
  const rows = new DfaRows(a.width)
  if (sizeOf(a) === 0 || sizeOf(b) === 0) return rows.dfa()
  const ids = new Map<number, number>()
  const open: [number, number][] = []
  const idOf = (one: number, other: number) => {
    const key = one * sizeOf(b) + other
    let id = ids.get(key)
    if (id === undefined) {
      id = rows.add(a.accepts[one] === 1 && b.accepts[other] === 1)
      ids.set(key, id)
      open.push([one, other])
    }
    return id
  }
  idOf(0, 0)
  for (let i = 0; i < open.length; i++) {
    const [one = 0, other = 0] = open[i] ?? []
    spend(1 + a.width / WAYS_A_STEP)
    for (let by = 0; by < a.width; by++) {
      const to = a.next[one * a.width + by] ?? NONE
      const otherTo = b.next[other * a.width + by] ?? NONE
      if (to !== NONE && otherTo !== NONE) rows.lead(i, by, idOf(to, otherTo))
    }
  }
  return tidied(rows.dfa(), spend)
}
