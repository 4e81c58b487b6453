import { LAST_SIGN, otherSigns, type SignSet, signSet } from '../grammar/index.js'

/** The sets of signs that regular expressions have names for, as ECMAScript means them. */

/** They stand for nothing by themselves, and no text that is well formed holds one. */
const SURROGATES: SignSet = [0xd800, 0xdfff]
/** Every code point that a text may hold. */
export const ANY: SignSet = otherSigns(SURROGATES)

const DIGITS: SignSet = [0x30, 0x39]
export const WORD: SignSet = unionOf([DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]])
const LINE_ENDS: SignSet = unionOf([
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
])
const SPACE: SignSet = unionOf([
  LINE_ENDS,
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
])
/** What a point stands for. */
export const NO_LINE_END: SignSet = without(LINE_ENDS)

/** What a letter behind a backslash stands for. */
export const NAMED: Readonly<Record<string, SignSet>> = {
  d: DIGITS,
  D: without(DIGITS),
  w: WORD,
  W: without(WORD),
  s: SPACE,
  S: without(SPACE),
}

export function unionOf(sets: readonly SignSet[]): SignSet {
  return signSet(sets.flatMap(rangesOf))
}

/** All signs but these. */
export function without(set: SignSet): SignSet {
  return otherSigns(unionOf([set, SURROGATES]))
}

/** The signs that are in both. */
export function common(a: SignSet, b: SignSet): SignSet {
  return without(unionOf([without(a), without(b)]))
}

export function rangesOf(set: SignSet): [number, number][] {
  return Array.from({ length: set.length / 2 }, (_, i) => [set[2 * i] ?? 0, set[2 * i + 1] ?? 0])
}

const PROPERTY = /^[A-Za-z_]{1,40}(?:=[A-Za-z_]{1,40})?$/
const PLANE = 0x10000
/** Properties are looked up in this engine's own tables, which takes some 10 ms each. */
const LOOKUP_STEPS = 20_000
const MOST_KNOWN = 64
const known = new Map<string, SignSet>()
/** All signs there are, one range behind the other. */
const texts: { from: number; width: number; text: string }[] = []

/**
 * The signs with a property of Unicode, such as `L` or `Script=Greek`; undefined where there is none of this name.
 * @throws MeshError BAD_REQUEST as `spend`
 */
export function propertySet(name: string, spend: (steps: number) => void): SignSet | undefined {
  if (!PROPERTY.test(name)) return undefined
  const before = known.get(name)
  if (before !== undefined) return before
  spend(LOOKUP_STEPS)
  let run: RegExp
  try {
    run = new RegExp(`\\p{${name}}+`, 'gu')
  } catch {
    return undefined
  }
  const pairs = allTexts().flatMap(({ from, width, text }) =>
    [...text.matchAll(run)].map(({ index, 0: found }): [number, number] => [
      from + index / width,
      from + (index + found.length) / width - 1,
    ]),
  )
  const set = signSet(pairs)
  if (known.size >= MOST_KNOWN) known.clear()
  known.set(name, set)
  return set
}

function allTexts(): readonly { from: number; width: number; text: string }[] {
  if (texts.length > 0) return texts
  for (let plane = 0; plane <= LAST_SIGN; plane += PLANE) {
    for (const [from, to] of rangesOf(common(ANY, [plane, plane + PLANE - 1]))) {
      const signs = Array.from({ length: to - from + 1 }, (_, i) => String.fromCodePoint(from + i))
      texts.push({ from, width: from < PLANE ? 1 : 2, text: signs.join('') })
    }
  }
  return texts
}
