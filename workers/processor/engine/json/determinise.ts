import type { Alphabet, Spend } from './alphabet.js'
import { WORD } from './classes.js'
import { complement, type Dfa, DfaRows, NONE, sizeOf, takesAll, tidied } from './dfa.js'
import { AFTER_OTHER, AFTER_WORD, type Ahead, ANYTHING, AT_START, looksBehind, type Nfa, nfaOf } from './nfa.js'
import type { Regex } from './regex.js'

/**
 * Expressions to automata that are in one state at a time. Where an expression looks ahead, what must follow is an
 * automaton of its own, which goes along from there: one way through the expression is a place in it and the states of
 * those that go with it. They have to come to a good end together.
 */

/** What has to follow, besides the rest of the expression. */
interface Duty {
  readonly dfa: Dfa
  readonly state: number
}

/** One way through an expression. */
interface Way {
  readonly at: number
  readonly duties: readonly Duty[]
}

/** The automaton for the texts that an expression matches as a whole. */
export function dfaOf(regex: Regex, alphabet: Alphabet, spend: Spend): Dfa {
  return new Subsets(regex, alphabet, spend).from(AT_START)
}

/** True where an expression matches a text as a whole: all ways are followed at once, never by trial and error. */
export function matchesWhole(regex: Regex, text: string, alphabet: Alphabet, spend: Spend): boolean {
  return new Subsets(regex, alphabet, spend).matches(text)
}

class Subsets {
  readonly #alphabet: Alphabet
  readonly #spend: Spend
  readonly #nfa: Nfa
  readonly #looksBehind: boolean
  readonly #wordClasses: ReadonlySet<number>
  readonly #aheads = new Map<Ahead, { what: number; dfa: Dfa }[]>()
  readonly #dfas = new Map<Dfa, number>()

  constructor(regex: Regex, alphabet: Alphabet, spend: Spend) {
    this.#alphabet = alphabet
    this.#spend = spend
    this.#nfa = nfaOf(regex, alphabet, spend)
    this.#looksBehind = looksBehind(regex)
    this.#wordClasses = new Set(alphabet.classesOf(WORD))
  }

  /** @param behind what stands before the text */
  from(behind: number): Dfa {
    const rows = new DfaRows(this.#alphabet.size)
    const ids = new Map<string, number>()
    const sets: Way[][] = []
    const idOf = (found: Map<string, Way>) => {
      const key = [...found.keys()].sort().join(' ')
      let id = ids.get(key)
      if (id === undefined) {
        const ways = [...found.values()]
        id = rows.add(ways.some((way) => this.#ends(way)))
        ids.set(key, id)
        sets.push(ways)
      }
      return id
    }
    idOf(this.#close([{ at: this.#nfa.start, duties: [] }], behind))
    for (let id = 0; id < sets.length; id++) {
      for (const [by, ways] of this.#steps(sets[id] ?? []).entries()) {
        if (ways === undefined) continue
        const next = this.#close(ways, this.#after(by))
        if (next.size > 0) rows.lead(id, by, idOf(next))
      }
    }
    return tidied(rows.dfa(), this.#spend)
  }

  matches(text: string): boolean {
    let ways = [...this.#close([{ at: this.#nfa.start, duties: [] }], AT_START).values()]
    for (const sign of text) {
      const by = this.#alphabet.classOf(sign.codePointAt(0) ?? 0)
      const next = by === undefined ? undefined : this.#steps(ways)[by]
      if (by === undefined || next === undefined) return false
      ways = [...this.#close(next, this.#after(by)).values()]
    }
    return ways.some((way) => this.#ends(way))
  }

  #after(by: number): number {
    return this.#looksBehind && this.#wordClasses.has(by) ? AFTER_WORD : AFTER_OTHER
  }

  #ends({ at, duties }: Way): boolean {
    return this.#nfa.states[at]?.is === 'accept' && duties.every(({ dfa, state }) => dfa.accepts[state] === 1)
  }

  /** By class, where it leads. */
  #steps(ways: readonly Way[]): Way[][] {
    const steps: Way[][] = []
    for (const { at, duties } of ways) {
      const state = this.#nfa.states[at]
      if (state?.is !== 'signs') continue
      this.#spend(1 + state.classes.length / 4)
      for (const by of state.classes) {
        const next = duties.length === 0 ? duties : stepped(duties, by)
        if (next === undefined) continue
        const there = steps[by]
        if (there) there.push({ at: state.to, duties: next })
        else steps[by] = [{ at: state.to, duties: next }]
      }
    }
    return steps
  }

  /** Follows what needs no sign. */
  #close(open: Way[], behind: number): Map<string, Way> {
    const seen = new Set<string>()
    const found = new Map<string, Way>()
    for (let way = open.pop(); way !== undefined; way = open.pop()) {
      const { at, duties } = way
      const key = duties.length === 0 ? `${at}` : `${at};${this.#keyOf(duties)}`
      if (seen.has(key)) continue
      seen.add(key)
      this.#spend(1 + duties.length)
      const state = this.#nfa.states[at]
      switch (state?.is) {
        case 'split':
          for (const to of state.to) open.push({ at: to, duties })
          break
        case 'behind':
          if ((state.what & behind) !== 0) open.push({ at: state.to, duties })
          break
        case 'ahead': {
          const dfa = this.#aheadDfa(state.ahead, behind)
          if (sizeOf(dfa) === 0) break
          open.push({ at: state.to, duties: takesAll(dfa, 0) ? duties : this.#with(duties, { dfa, state: 0 }) })
          break
        }
        default:
          found.set(key, way)
      }
    }
    return found
  }

  #with(duties: readonly Duty[], duty: Duty): readonly Duty[] {
    if (duties.some(({ dfa, state }) => dfa === duty.dfa && state === duty.state)) return duties
    return [...duties, duty]
  }

  #keyOf(duties: readonly Duty[]): string {
    const keys = duties.map(({ dfa, state }) => {
      let id = this.#dfas.get(dfa)
      if (id === undefined) {
        id = this.#dfas.size
        this.#dfas.set(dfa, id)
      }
      return `${id}.${state}`
    })
    return keys.sort().join()
  }

  #aheadDfa(ahead: Ahead, behind: number): Dfa {
    const known = this.#aheads.get(ahead) ?? []
    this.#aheads.set(ahead, known)
    const what = looksBehind(ahead.regex) ? behind : 0
    let one = known.find((other) => other.what === what)
    if (one === undefined) {
      const follows: Regex = { is: 'sequence', parts: [ahead.regex, ANYTHING] }
      const dfa = new Subsets(follows, this.#alphabet, this.#spend).from(behind)
      one = { what, dfa: ahead.not ? complement(dfa, this.#spend) : dfa }
      known.push(one)
    }
    return one.dfa
  }
}

/** Duties behind a sign, without those that are done; undefined where one cannot be met any more. */
function stepped(duties: readonly Duty[], by: number): Duty[] | undefined {
  const next: Duty[] = []
  for (const { dfa, state } of duties) {
    const to = dfa.next[state * dfa.width + by] ?? NONE
    if (to === NONE) return undefined
    if (takesAll(dfa, to)) continue
    if (!next.some((other) => other.dfa === dfa && other.state === to)) next.push({ dfa, state: to })
  }
  return next
}
