import { type SignSet, signSet } from '../grammar/index.js'
import { ANY, rangesOf } from './classes.js'

/** Counts what working with automata takes. @throws MeshError BAD_REQUEST */
export type Spend = (steps: number) => void

/** Signs that no set tells apart are one class, so that an automaton has few ways on from a state. */
export class Alphabet {
  /** By class: the ranges of its signs. */
  readonly #ranges: [number, number][][] = []
  readonly #classes = new Map<string, number[]>()
  readonly #signs = new Map<string, SignSet>()

  /** @param sets all that will be asked for, besides the set of any sign */
  constructor(sets: readonly SignSet[], spend: Spend) {
    const unique = new Map([ANY, ...sets].map((set) => [set.join(), set]))
    const events = new Map<number, number[]>()
    const at = (sign: number, id: number) => {
      const ids = events.get(sign)
      if (ids) ids.push(id)
      else events.set(sign, [id])
    }
    const members: number[][] = []
    for (const [key, set] of unique) {
      const classes: number[] = []
      const id = members.push(classes) - 1
      this.#classes.set(key, classes)
      for (const [first, last] of rangesOf(set)) {
        at(first, id)
        at(last + 1, id)
      }
    }
    const inside = new Set<number>()
    const known = new Map<string, number>()
    const cuts = [...events.keys()].sort((a, b) => a - b)
    for (const [i, cut] of cuts.entries()) {
      for (const id of events.get(cut) ?? []) if (!inside.delete(id)) inside.add(id)
      spend(1 + inside.size)
      if (inside.size === 0) continue
      const key = [...inside].sort((a, b) => a - b).join()
      let one = known.get(key)
      if (one === undefined) {
        one = this.#ranges.push([]) - 1
        known.set(key, one)
        for (const id of inside) members[id]?.push(one)
      }
      this.#ranges[one]?.push([cut, (cuts[i + 1] ?? cut + 1) - 1])
    }
  }

  /** How many classes there are; they are numbered from 0. */
  get size(): number {
    return this.#ranges.length
  }

  /** The classes that make up a set which the alphabet was made with. */
  classesOf(set: SignSet): readonly number[] {
    return this.#classes.get(set.join()) ?? []
  }

  /** The class of one sign; undefined for what no text holds. */
  classOf(sign: number): number | undefined {
    const one = this.#ranges.findIndex((ranges) => ranges.some(([first, last]) => first <= sign && sign <= last))
    return one < 0 ? undefined : one
  }

  signsOf(classes: readonly number[]): SignSet {
    const key = classes.join()
    let signs = this.#signs.get(key)
    if (signs === undefined) {
      signs = signSet(classes.flatMap((one) => this.#ranges[one] ?? []))
      this.#signs.set(key, signs)
    }
    return signs
  }
}
