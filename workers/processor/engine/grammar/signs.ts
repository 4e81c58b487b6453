/** Sets of code points, as ranges in ascending order that neither overlap nor touch: first, last, first, last and so on. */
export type SignSet = readonly number[]

export const LAST_SIGN = 0x10ffff

/** @param pairs first and last of each range, in any order; a range whose last comes before its first holds nothing */
export function signSet(pairs: readonly (readonly [number, number])[]): SignSet {
  const set: number[] = []
  for (const [first, last] of pairs.filter(([a, b]) => a <= b).sort(([a], [b]) => a - b)) {
    const end = set.at(-1)
    if (end !== undefined && first <= end + 1) set[set.length - 1] = Math.max(end, last)
    else set.push(first, last)
  }
  return set
}

/** Every code point that is not in the set. */
export function otherSigns(set: SignSet): SignSet {
  const others: [number, number][] = []
  let from = 0
  for (let i = 0; i < set.length; i += 2) {
    others.push([from, (set[i] ?? 0) - 1])
    from = (set[i + 1] ?? 0) + 1
  }
  return signSet([...others, [from, LAST_SIGN]])
}

/** True where the set holds one of the code points from `first` to `last`. */
export function meets(set: SignSet, first: number, last: number): boolean {
  // The first range that does not end before `first`, by halving: a set may have thousands.
  let low = 0
  let high = set.length / 2
  while (low < high) {
    const middle = (low + high) >> 1
    if ((set[middle * 2 + 1] ?? 0) < first) low = middle + 1
    else high = middle
  }
  return (set[low * 2] ?? Number.POSITIVE_INFINITY) <= last
}
