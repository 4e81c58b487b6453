import { MeshError } from '../../../../lib/errors/index.js'

/**
 * What one grammar may cost. Everything that a grammar makes an engine do is counted, so that these hold for any grammar
 * whatever; docs/openai.md tells them.
 */
export const GRAMMAR_LIMITS = {
  /** Characters of a grammar that a caller wrote. */
  chars: 128 * 1024,
  /** Brackets within each other. */
  nested: 256,
  /** A repetition's count. */
  repeats: 2000,
  /** Signs, references and ends of all rules, after repetitions are written out. */
  elements: 1_000_000,
  /** Ways in which one text can be continued, at any point of it. */
  ways: 16_384,
  /** Steps for one token: some 50 ms. A step follows one way to where it can be continued. */
  steps: 250_000,
  /** Steps for each token, over an answer. */
  stepsOnAverage: 25_000,
  /** Milliseconds for one token, on a machine that is far too slow for the steps. */
  ms: 500,
} as const

/**
 * Why a grammar costs too much.
 * @param what is too much, as the beginning of a sentence: "has 3 steps for one token"
 */
export function tooComplex(what: string, limit: number, param: string): MeshError {
  return MeshError.BAD_REQUEST(`${param} is too complex: it ${what}; at most ${limit} are allowed`, { param, limit })
}
