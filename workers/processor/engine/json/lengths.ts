import type { Spend } from './alphabet.js'
import { type Dfa, DfaRows, distances, NONE, sizeOf, trimmed, waysOf } from './dfa.js'

/** So many states are made for an upper bound on lengths; where they do not suffice, the bound becomes a lower one. */
const ENOUGH_STATES = 8000

/** How many signs there may be; `most` undefined: any number. */
export interface Lengths {
  readonly least: number
  readonly most: number | undefined
}

/**
 * Those texts of an automaton that have a length within the bounds. Each state is made once for each length at which it can
 * be reached. Where that becomes much, the longest texts are left out.
 */
export function sized(dfa: Dfa, { least, most }: Lengths, spend: Spend): Dfa {
  if (sizeOf(dfa) === 0) return dfa
  const distance = distances(dfa)
  const longest = longestOf(dfa)
  const from = (distance[0] ?? 0) >= least ? 0 : least
  const to = most === undefined || (longest !== undefined && longest <= most) ? undefined : most
  if (from === 0 && to === undefined) return dfa
  const levels = levelsOf(dfa, distance, from, to, spend)
  const last = levels.length - 1
  const rows = new DfaRows(dfa.width)
  const ids: Map<number, number>[] = levels.map((states, length) => {
    const level = new Map<number, number>()
    for (const state of states) level.set(state, rows.add(length >= from && dfa.accepts[state] === 1))
    return level
  })
  for (const [length, level] of ids.entries()) {
    // Without an upper bound, the last level is where lengths no longer matter.
    const next = length < last ? ids[length + 1] : to === undefined ? level : undefined
    for (const [state, id] of level) {
      for (let by = 0; by < dfa.width; by++) {
        const there = next?.get(dfa.next[state * dfa.width + by] ?? NONE)
        if (there !== undefined) rows.lead(id, by, there)
      }
    }
  }
  return trimmed(rows.dfa())
}

/** By length, the states in which texts of that length may be. */
function levelsOf(
  dfa: Dfa,
  distance: Int32Array,
  least: number,
  most: number | undefined,
  spend: Spend,
): ReadonlySet<number>[] {
  const levels: Set<number>[] = [new Set([0])]
  let states = 1
  let fits = false
  for (let length = 0; ; length++) {
    const level = levels[length] ?? new Set()
    fits ||= length >= least && [...level].some((state) => dfa.accepts[state] === 1)
    if (length === most || level.size === 0 || (fits && states > ENOUGH_STATES)) return levels
    if (most === undefined && length === least) {
      levels[length] = reachable(dfa, level)
      return levels
    }
    const next = new Set<number>()
    for (const state of level) {
      spend(2)
      for (const to of waysOf(dfa, state)) {
        if (most === undefined || length + 1 + (distance[to] ?? 0) <= most) next.add(to)
      }
    }
    levels.push(next)
    states += next.size
  }
}

function reachable(dfa: Dfa, from: ReadonlySet<number>): Set<number> {
  const found = new Set(from)
  for (const state of found) for (const to of waysOf(dfa, state)) found.add(to)
  return found
}

/** The length of the longest text; undefined where there is none that is longest. */
function longestOf(dfa: Dfa): number | undefined {
  const size = sizeOf(dfa)
  const incoming = new Int32Array(size)
  for (let state = 0; state < size; state++) for (const to of waysOf(dfa, state)) incoming[to] = (incoming[to] ?? 0) + 1
  const length = new Int32Array(size)
  const open = incoming[0] === 0 ? [0] : []
  let done = 0
  let longest = 0
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    done++
    longest = Math.max(longest, length[state] ?? 0)
    for (const to of waysOf(dfa, state)) {
      length[to] = Math.max(length[to] ?? 0, (length[state] ?? 0) + 1)
      incoming[to] = (incoming[to] ?? 0) - 1
      if (incoming[to] === 0) open.push(to)
    }
  }
  // What stands in a circle is never free of what leads to it.
  return done === size ? longest : undefined
}

/** A text of signs that are all of the same classes, told by its length alone; undefined for other automata. */
export function tallyOf(dfa: Dfa): (Lengths & { classes: number[] }) | undefined {
  const size = sizeOf(dfa)
  let classes: number[] | undefined
  let state = 0
  let least: number | undefined
  for (let length = 0; length < size; length++) {
    if (dfa.accepts[state] === 1) least ??= length
    else if (least !== undefined) return undefined
    const row = [...dfa.next.subarray(state * dfa.width, (state + 1) * dfa.width)]
    const ways = row.flatMap((to, by) => (to === NONE ? [] : [by]))
    if (ways.length === 0)
      return length === size - 1 && classes && least !== undefined ? { classes, least, most: length } : undefined
    const to = row[ways[0] ?? 0] ?? NONE
    if (ways.some((by) => row[by] !== to)) return undefined
    classes ??= ways
    if (classes.join() !== ways.join()) return undefined
    if (to === state)
      return length === size - 1 && least !== undefined ? { classes, least, most: undefined } : undefined
    state = to
  }
  return undefined
}

/** The lesser of two bounds; undefined where there is none. */
export function lesser(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b)
}
