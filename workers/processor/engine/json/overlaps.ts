import { MeshError } from '../../../../lib/errors/index.js'
import type { Spend } from './alphabet.js'
import { alphabetOf, searched } from './automaton.js'
import { dfaOf } from './determinise.js'
import { both, type Dfa, sizeOf } from './dfa.js'
import { type Regex, readRegex } from './regex.js'

/** Which patterns one text may match together. */

/** So many more sets there may be than patterns: six that all overlap have 63. */
const MOST_MORE = 64

/** Patterns that some text matches all of. */
interface Meeting {
  readonly of: readonly number[]
  /** What they have in common; undefined for one alone that no other overlaps by its beginning. */
  readonly dfa: Dfa | undefined
}

/** Texts by which of some patterns they match. */
export interface NameClass {
  readonly like: readonly string[]
  /** Other patterns that some of these texts match; those that none of them matches are not named. */
  readonly unlike: readonly string[]
}

/**
 * Texts that match one pattern or more, by which: each is in one class. Of a class that the patterns it must not match cover
 * together, nothing may be left.
 * @returns undefined where there would be too many, or a pattern cannot be followed
 * @throws MeshError BAD_REQUEST as `spend`
 */
export function classesOf(patterns: readonly string[], spend: Spend): NameClass[] | undefined {
  const regexes = readAll(patterns, spend)
  const sets = regexes && meetingsOf(patterns, regexes, spend)
  if (sets === undefined) return undefined
  const keys = new Set(sets.map(({ of }) => of.join()))
  const named = (of: readonly number[]) => of.map((i) => patterns[i] ?? '')
  return sets.map(({ of }) => {
    // What overlaps a set is a set with it, and so is each part of that.
    const others = [...patterns.keys()].filter((i) => !of.includes(i) && keys.has(withOne(of, i).join()))
    return { like: named(of), unlike: named(others) }
  })
}

/** A pattern for all texts that match none of these. */
export function noneOf(patterns: readonly string[]): string {
  return `^(?![\\s\\S]*(?:${patterns.join('|')}))`
}

/** @returns undefined where one cannot be followed, or its opposite */
function readAll(patterns: readonly string[], spend: Spend): Regex[] | undefined {
  try {
    readRegex(noneOf(patterns), '', spend)
    return patterns.map((pattern) => searched(readRegex(pattern, '', spend)))
  } catch (err) {
    if (err instanceof MeshError && err.details.limit === undefined) return undefined
    throw err
  }
}

/** Every set of patterns that have a text in common. */
function meetingsOf(patterns: readonly string[], regexes: readonly Regex[], spend: Spend): Meeting[] | undefined {
  const mayMeet = (i: number, j: number) => !areApart(patterns[i] ?? '', patterns[j] ?? '')
  const indices = [...patterns.keys()]
  spend(patterns.length * patterns.length)
  const overlapping = indices.filter((i) => indices.some((j) => i !== j && mayMeet(i, j)))
  const alphabet = alphabetOf(
    overlapping.flatMap((i) => regexes[i] ?? []),
    spend,
  )
  const dfas = new Map(
    overlapping.flatMap((i) => {
      const regex = regexes[i]
      return regex === undefined ? [] : [[i, dfaOf(regex, alphabet, spend)]]
    }),
  )
  const sets: Meeting[] = indices
    .map((i) => ({ of: [i], dfa: dfas.get(i) }))
    .filter(({ dfa }) => dfa === undefined || sizeOf(dfa) > 0)
  for (const { of, dfa } of sets) {
    for (const i of overlapping.filter((one) => one > Math.max(...of))) {
      const other = dfas.get(i)
      if (dfa === undefined || other === undefined || !of.every((one) => mayMeet(one, i))) continue
      const met = both(dfa, other, spend)
      if (sizeOf(met) > 0) sets.push({ of: [...of, i], dfa: met })
      if (sets.length > patterns.length + MOST_MORE) return undefined
    }
  }
  return sets
}

function withOne(of: readonly number[], one: number): number[] {
  return [...of, one].sort((a, b) => a - b)
}

/** True where two patterns ask for other beginnings. */
export function areApart(a: string, b: string): boolean {
  const [one, other] = [beginning(a), beginning(b)]
  const length = Math.min(one.length, other.length)
  return one.slice(0, length) !== other.slice(0, length)
}

/** The signs that whatever matches begins with. */
function beginning(pattern: string): string {
  if (pattern.includes('|')) return ''
  const [, signs = '', next = ''] = /^\^([A-Za-z0-9_ -]*)(.?)/s.exec(pattern) ?? []
  return ['*', '?', '{'].includes(next) ? signs.slice(0, -1) : signs
}
