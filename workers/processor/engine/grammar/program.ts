import type { SignSet } from './signs.js'

/**
 * A compiled grammar. Rules are sequences of elements, one behind the other in `elements`: END, a set of signs, or a
 * reference to a rule. It is plain data, so that another thread can make it.
 */
export interface Program {
  /** Each element: see `signs`, `reference` and END. */
  readonly elements: Int32Array
  /** Where the alternatives of each rule begin in `elements`. */
  readonly rules: readonly (readonly number[])[]
  readonly sets: readonly SignSet[]
  /** The rule that the whole text follows. */
  readonly root: number
}

export const END = -1

export const signs = (set: number): number => set * 2
export const reference = (rule: number): number => rule * 2 + 1
export const isReference = (element: number): boolean => element !== END && element % 2 === 1
/** The set or the rule that an element names. */
export const target = (element: number): number => element >> 1
