import { MeshError } from '../../../../lib/errors/index.js'
import { refuse } from './gbnf.js'
import { isObject } from './schema.js'

/** How much a schema may hold; docs/openai.md tells these. OpenAI's own are lower. */
export const SCHEMA_LIMITS = {
  /** Schemas within each other. */
  nested: 64,
  /** Described properties. */
  properties: 10_000,
  /** Values in all lists of choices. */
  enumValues: 10_000,
  /** Characters of keys and texts, wherever they stand. */
  chars: 1_000_000,
  /** Schemas, parts of `allOf` and keywords that are looked at: more where a part is used in several places. */
  steps: 150_000,
  /** Steps of making automata of patterns, formats, lengths and multiples. */
  automatonSteps: 1_500_000,
  /** States of these that are written down. */
  automatonStates: 60_000,
} as const

/** What attempts may take that come to nothing, all together, as a share of what converting may. */
const ATTEMPTS_SHARE = 1 / 3

/** Counts what converting takes, over all schemas of one grammar. */
export class SchemaBudget {
  readonly #limit: number
  /** How much of its share attempts have taken in vain, from 0 to 1. */
  #wasted = 0
  #attempt: { steps: number; automatonSteps: number; automatonStates: number } | undefined
  #steps = 0
  #automatonSteps = 0
  #automatonStates = 0
  #properties = 0
  #enumValues = 0
  #chars = 0

  constructor(limit: number = SCHEMA_LIMITS.steps) {
    this.#limit = limit
  }

  get steps(): number {
    return this.#steps
  }

  /** @throws MeshError BAD_REQUEST */
  spend(path: string, steps: number): void {
    this.#steps += steps
    check(path, 'steps to convert it', Math.ceil(this.#steps), this.#limit)
    this.#endAttempt(path)
  }

  /** For automata. @throws MeshError BAD_REQUEST */
  spendOnAutomata(path: string, steps: number): void {
    this.#automatonSteps += steps
    const what = 'steps to follow its patterns, formats, lengths and multiples together'
    check(path, what, Math.ceil(this.#automatonSteps), SCHEMA_LIMITS.automatonSteps)
    this.#endAttempt(path)
  }

  /** For the states of an automaton that is written down. @throws MeshError BAD_REQUEST */
  spendStates(path: string, states: number): void {
    this.#automatonStates += states
    check(
      path,
      'states of its patterns, formats, lengths and multiples',
      this.#automatonStates,
      SCHEMA_LIMITS.automatonStates,
    )
    this.#endAttempt(path)
  }

  /**
   * What is made, or undefined where that costs too much, so that something simpler can be made instead. What was spent in vain
   * counts for later attempts alone: a schema that can do without one is not refused for it.
   */
  attempt<T>(make: () => T): T | undefined {
    // One within another is a part of it.
    if (this.#attempt !== undefined) return make()
    if (this.#wasted >= 1) return undefined
    const before = { steps: this.#steps, automatonSteps: this.#automatonSteps, automatonStates: this.#automatonStates }
    this.#attempt = before
    try {
      return make()
    } catch (err) {
      if (!(err instanceof MeshError) || err.details.limit === undefined) throw err
      this.#wasted += this.#shareSince(before)
      this.#steps = before.steps
      this.#automatonSteps = before.automatonSteps
      this.#automatonStates = before.automatonStates
      return undefined
    } finally {
      this.#attempt = undefined
    }
  }

  #endAttempt(path: string): void {
    // One takes half of what is left at most, so that there is something for others.
    if (this.#attempt === undefined || this.#shareSince(this.#attempt) <= (1 - this.#wasted) / 2) return
    throw refuse(path, 'too complex to be tried', { limit: ATTEMPTS_SHARE })
  }

  /** How much of the share of attempts was taken, whichever of the counts took most. */
  #shareSince(before: { steps: number; automatonSteps: number; automatonStates: number }): number {
    const taken = Math.max(
      (this.#steps - before.steps) / this.#limit,
      (this.#automatonSteps - before.automatonSteps) / SCHEMA_LIMITS.automatonSteps,
      (this.#automatonStates - before.automatonStates) / SCHEMA_LIMITS.automatonStates,
    )
    return taken / ATTEMPTS_SHARE
  }

  /**
   * Counts what a schema holds, before anything is done with it.
   * @throws MeshError BAD_REQUEST with what is too much
   */
  admit(schema: unknown, path: string): void {
    const open = [schema]
    for (let one = open.pop(); one !== undefined; one = open.pop()) {
      if (typeof one === 'string') this.#chars += one.length
      else if (Array.isArray(one)) for (const item of one) open.push(item)
      else if (isObject(one)) {
        for (const described of [one.properties, one.patternProperties]) {
          if (isObject(described)) this.#properties += Object.keys(described).length
        }
        if (Array.isArray(one.enum)) this.#enumValues += one.enum.length
        for (const [key, value] of Object.entries(one)) {
          this.#chars += key.length
          open.push(value)
        }
      }
    }
    check(path, 'properties', this.#properties, SCHEMA_LIMITS.properties)
    check(path, 'enum values', this.#enumValues, SCHEMA_LIMITS.enumValues)
    check(path, 'characters', this.#chars, SCHEMA_LIMITS.chars)
  }
}

function check(path: string, what: string, count: number, limit: number): void {
  if (count > limit) throw refuse(path, `too complex: ${count} ${what}; at most ${limit} are allowed`, { limit })
}
