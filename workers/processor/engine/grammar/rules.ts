import { MeshError } from '../../../../lib/errors/index.js'
import { GRAMMAR_LIMITS, tooComplex } from './limits.js'
import { END, type Program, reference, signs } from './program.js'
import { growsLeft } from './recursion.js'
import type { SignSet } from './signs.js'

/** So many elements a repetition may write out in its place; more become rules, which others can share. */
const MOST_INLINE = 16

/** The rules of a grammar while it is read. What is repeated alike is one rule, wherever it stands. */
export class Rules {
  readonly #param: string
  readonly #names = new Map<string, number>()
  readonly #rules: (readonly (readonly number[])[] | undefined)[] = []
  readonly #groups = new Map<string, number>()
  readonly #sets: SignSet[] = []
  readonly #setIds = new Map<string, number>()
  /** Rules of repetitions, by what is repeated and how; those that count, in order of their count. */
  readonly #repeats = new Map<string, number[]>()
  #elements = 0

  constructor(param: string) {
    this.#param = param
  }

  /** The number of the rule with this name, which may be defined later. */
  named(name: string): number {
    let rule = this.#names.get(name)
    if (rule === undefined) {
      rule = this.#unnamed()
      this.#names.set(name, rule)
    }
    return rule
  }

  #unnamed(): number {
    this.#rules.push(undefined)
    return this.#rules.length - 1
  }

  /** @throws MeshError BAD_REQUEST where the grammar becomes too large */
  define(rule: number, choices: readonly (readonly number[])[]): void {
    this.#rules[rule] = choices
    for (const choice of choices) this.#elements += choice.length + 1
    if (this.#elements > GRAMMAR_LIMITS.elements) {
      throw tooComplex(`has ${this.#elements} elements, or more`, GRAMMAR_LIMITS.elements, this.#param)
    }
  }

  referenceTo(name: string): number {
    return reference(this.named(name))
  }

  /** The element for one of these choices. Groups that are alike are one rule. */
  group(choices: readonly (readonly number[])[]): number {
    const key = choices.map((choice) => choice.join()).join('|')
    let rule = this.#groups.get(key)
    if (rule === undefined) {
      rule = this.#unnamed()
      this.#groups.set(key, rule)
      this.define(rule, choices)
    }
    return reference(rule)
  }

  signs(set: SignSet): number {
    const key = set.join()
    let id = this.#setIds.get(key)
    if (id === undefined) {
      id = this.#sets.push(set) - 1
      this.#setIds.set(key, id)
    }
    return signs(id)
  }

  /** The elements that say a sequence so many times; `most` undefined: any number of times. */
  repeated(sequence: readonly number[], least: number, most: number | undefined): number[] {
    const key = sequence.join()
    const inline = sequence.length * least <= MOST_INLINE
    if (most === undefined || most > least) {
      const tail = most === undefined ? this.#anyTimes(key, sequence) : this.#upTo(key, sequence, most - least)
      return inline ? [...copies(sequence, least), tail] : [this.#exactly(key, sequence, least, tail)]
    }
    return inline ? copies(sequence, least) : [this.#exactly(key, sequence, least)]
  }

  /** @throws MeshError BAD_REQUEST where a rule is missing, or one recurses to the left */
  program(root: string): Program {
    const start = this.#names.get(root)
    for (const [name, rule] of this.#names) {
      if (this.#rules[rule] === undefined) throw this.#malformed(`there is no rule ${name}`)
    }
    if (start === undefined) throw this.#malformed(`there is no rule ${root}`)
    const elements = new Int32Array(this.#elements)
    let at = 0
    const rules = this.#rules.map((choices = []) =>
      choices.map((choice) => {
        const from = at
        elements.set(choice, at)
        at += choice.length
        elements[at++] = END
        return from
      }),
    )
    const program = { elements, rules, sets: this.#sets, root: start }
    const growing = growsLeft(program)
    if (growing !== undefined) {
      const [name = 'a group'] = [...this.#names].find(([, rule]) => rule === growing) ?? []
      throw this.#malformed(`left recursion: the rule ${name} can begin with itself`)
    }
    return program
  }

  #anyTimes(key: string, sequence: readonly number[]): number {
    const known = this.#repeats.get(`${key}*`) ?? []
    if (known.length === 0) {
      const self = this.#unnamed()
      known.push(self)
      this.#repeats.set(`${key}*`, known)
      this.define(self, [[...sequence, reference(self)], []])
    }
    return reference(known[0] ?? END)
  }

  #upTo(key: string, sequence: readonly number[], most: number): number {
    return this.#chain(`${key}?`, most, (rest) => [[...sequence, ...rest], []])
  }

  #exactly(key: string, sequence: readonly number[], times: number, tail?: number): number {
    const last = tail === undefined ? [] : [tail]
    return this.#chain(`${key}!${last.join()}`, times, (rest, i) => [[...sequence, ...(i === 0 ? last : rest)]])
  }

  /** A rule for each count up to this one, which those with larger counts go on with. */
  #chain(key: string, length: number, link: (rest: number[], i: number) => number[][]): number {
    const known = this.#repeats.get(key) ?? []
    this.#repeats.set(key, known)
    for (let i = known.length; i < length; i++) {
      const rule = this.#unnamed()
      const rest = known.at(-1)
      this.define(rule, link(rest === undefined ? [] : [reference(rest)], i))
      known.push(rule)
    }
    return reference(known[length - 1] ?? END)
  }

  #malformed(why: string): MeshError {
    return MeshError.BAD_REQUEST(`The grammar does not compile: ${why}`, { param: this.#param })
  }
}

function copies(sequence: readonly number[], times: number): number[] {
  return Array.from({ length: times }, () => sequence).flat()
}
