import { LAST_SIGN, type SignSet } from '../grammar/index.js'
import type { Alphabet } from './alphabet.js'
import { ANY, common, rangesOf, unionOf, without } from './classes.js'
import { type Dfa, NONE, sizeOf } from './dfa.js'
import { hex, oneOf, quoted } from './gbnf.js'
import type { Regex } from './regex.js'
import type { GrammarRules } from './rules.js'

/** Automata and expressions as grammar: for texts as JSON strings hold them. */

/** Signs that a JSON string does not hold as they are, and DEL, which nobody can see. */
const ESCAPED: SignSet = unionOf([
  [0x00, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x7f, 0x7f],
])
const PLAIN = without(ESCAPED)
/** What stands behind a backslash, by the sign that it means. */
const SHORT: ReadonlyMap<number, string> = new Map(
  ['"', '\\', '\b', '\f', '\n', '\r', '\t'].map((sign) => [sign.charCodeAt(0), JSON.stringify(sign)[2] ?? '']),
)
/** What is longer becomes a rule, so that it stands in the grammar once. */
const LONGEST_INLINE = 40
/** So many states are written within each other. */
const MOST_NESTED = 40

/** Any of these signs. What has a long escape is left out where something else is there. */
export function writeSigns(set: SignSet, rules: GrammarRules): string {
  if (set === ANY || set.join() === ANY.join()) return 'sign'
  const [first = 0, last] = set
  if (set.length === 2 && first === last) return quoted(JSON.stringify(String.fromCodePoint(first)).slice(1, -1))
  const plain = common(set, PLAIN)
  const short = [...SHORT].filter(([sign]) => holds(set, sign)).map(([, text]) => text)
  const choices: string[] = []
  if (plain.length > 0) choices.push(writeClass(plain, rules))
  if (short.length > 0) choices.push(`"\\\\" [${short.map(hex).join('')}]`)
  if (choices.length > 0) return oneOf(choices)
  const long = rangesOf(set).flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i))
  return oneOf(long.map((sign) => quoted(`\\u00${sign.toString(16).padStart(2, '0')}`)))
}

function holds(set: SignSet, sign: number): boolean {
  return rangesOf(set).some(([from, to]) => from <= sign && sign <= to)
}

function writeClass(set: SignSet, rules: GrammarRules): string {
  const others = without(set)
  const negated = others.length < set.length
  const ranges = rangesOf(negated ? unionOf([others, [0xd800, 0xdfff]]) : set)
  const body = `[${negated ? '^' : ''}${ranges.map(writeRange).join('')}]`
  return body.length > LONGEST_INLINE ? rules.rule(body) : body
}

function writeRange([from, to]: [number, number]): string {
  return from === to ? writeSign(from) : `${writeSign(from)}-${writeSign(to)}`
}

function writeSign(sign: number): string {
  if (sign < 0x80) return hex(String.fromCharCode(sign))
  const isText = sign < 0xd800 || (sign > 0xdfff && sign < LAST_SIGN)
  return isText ? String.fromCodePoint(sign) : `\\U${sign.toString(16).padStart(8, '0')}`
}

const TEXT = /^"(?:[^"\\]|\\.)*"$/s
const ONE_ELEMENT = /^[\w-]+$|^"(?:[^"\\]|\\.)"$|^\[(?:[^\]\\]|\\.)*\]$/s

/** Expressions one behind the other: what is said several times in a row is counted, and texts are joined. */
function sequence(parts: readonly string[]): string {
  const written: string[] = []
  for (let i = 0; i < parts.length; ) {
    const part = parts[i] ?? ''
    let times = 1
    while (parts[i + times] === part) times++
    i += times
    const before = written.at(-1)
    if (part === '' || part === '""') continue
    if (times > 1) written.push(writeTimes(part, times, times))
    else if (TEXT.test(part) && before !== undefined && TEXT.test(before)) {
      written[written.length - 1] = before.slice(0, -1) + part.slice(1)
    } else written.push(part)
  }
  return written.join(' ')
}

/**
 * An expression as grammar, as it stands; undefined where that cannot be: it looks ahead or behind, or has a class of no
 * sign.
 */
export function writeRegex(regex: Regex, rules: GrammarRules): string | undefined {
  switch (regex.is) {
    case 'signs':
      return regex.set.length === 0 ? undefined : writeSigns(regex.set, rules)
    case 'sequence': {
      const parts = regex.parts.map((part) => writeRegex(part, rules))
      const known = parts.filter((part) => part !== undefined)
      return known.length < parts.length ? undefined : sequence(known) || '""'
    }
    case 'choice': {
      const choices = regex.choices.map((choice) => writeRegex(choice, rules))
      const known = choices.filter((choice) => choice !== undefined)
      return known.length < choices.length ? undefined : oneOf(known)
    }
    case 'times': {
      const body = writeRegex(regex.body, rules)
      return body === undefined ? undefined : writeTimes(body, regex.least, regex.most)
    }
    default:
      return undefined
  }
}

function writeTimes(body: string, least: number, most: number | undefined): string {
  if (body === '""' || most === 0) return '""'
  const one = ONE_ELEMENT.test(body) ? body : `(${body})`
  if (most === undefined) return least === 0 ? `${one}*` : least === 1 ? `${one}+` : `${one}{${least},}`
  return least === most ? `${one}{${least}}` : least === 0 && most === 1 ? `${one}?` : `${one}{${least},${most}}`
}

/** The expression for all that an automaton accepts, which is something. */
export function writeDfa(dfa: Dfa, alphabet: Alphabet, rules: GrammarRules): string {
  return new DfaWriter(dfa, alphabet, rules).whole()
}

class DfaWriter {
  readonly #dfa: Dfa
  readonly #alphabet: Alphabet
  readonly #rules: GrammarRules
  /** By state, where it leads, with the classes that lead there. */
  readonly #ways: readonly ReadonlyMap<number, readonly number[]>[]
  /** By state, how many states lead there. */
  readonly #entries: Int32Array
  readonly #names = new Map<number, string>()
  readonly #written = new Map<string, string>()
  readonly #open: number[] = []

  constructor(dfa: Dfa, alphabet: Alphabet, rules: GrammarRules) {
    this.#dfa = dfa
    this.#alphabet = alphabet
    this.#rules = rules
    this.#entries = new Int32Array(sizeOf(dfa))
    this.#ways = Array.from({ length: sizeOf(dfa) }, (_, state) => waysByState(dfa, state))
    for (const [state, ways] of this.#ways.entries()) {
      for (const to of ways.keys()) if (to !== state) this.#entries[to] = (this.#entries[to] ?? 0) + 1
    }
  }

  whole(): string {
    const root = this.#named(0)
    for (let state = this.#open.pop(); state !== undefined; state = this.#open.pop()) {
      this.#rules.set(this.#named(state), this.#body(state, 0))
    }
    return root
  }

  #named(state: number): string {
    let name = this.#names.get(state)
    if (name === undefined) {
      name = this.#rules.reserve()
      this.#names.set(state, name)
      this.#open.push(state)
    }
    return name
  }

  /** What may follow from a state on. States that one way leads to stand in their place. */
  #body(from: number, depth: number): string {
    const parts: string[] = []
    for (let state = from; ; ) {
      const again = this.#ways[state]?.get(state)
      if (again) parts.push(`${this.#signs(again)}*`)
      const ways = [...(this.#ways[state] ?? [])].filter(([to]) => to !== state)
      const ends = this.#dfa.accepts[state] === 1
      const [[only, classes] = [NONE, []]] = ways
      if (ways.length === 1 && !ends) {
        parts.push(this.#signs(classes))
        if (this.#standsAlone(only)) {
          parts.push(this.#named(only))
          return sequence(parts)
        }
        state = only
        continue
      }
      if (ways.length > 0) {
        const choices = ways.map(([to, by]) => sequence([this.#signs(by), this.#rest(to, depth)]))
        parts.push(ends ? `(${choices.join(' | ')})?` : oneOf(choices))
      }
      return sequence(parts) || '""'
    }
  }

  #rest(state: number, depth: number): string {
    if (this.#standsAlone(state) || depth >= MOST_NESTED) return this.#named(state)
    const rest = this.#body(state, depth + 1)
    return rest === '""' ? '' : rest
  }

  #standsAlone(state: number): boolean {
    if (this.#ways[state]?.size === 0) return false
    return state === 0 || (this.#entries[state] ?? 0) > 1 || this.#names.has(state)
  }

  #signs(classes: readonly number[]): string {
    const key = classes.join()
    let written = this.#written.get(key)
    if (written === undefined) {
      const text = writeSigns(this.#alphabet.signsOf(classes), this.#rules)
      written = text.length > LONGEST_INLINE ? this.#rules.rule(text) : text
      this.#written.set(key, written)
    }
    return written
  }
}

function waysByState({ next, width }: Dfa, state: number): Map<number, number[]> {
  const ways = new Map<number, number[]>()
  for (let by = 0; by < width; by++) {
    const to = next[state * width + by] ?? NONE
    if (to === NONE) continue
    const classes = ways.get(to)
    if (classes) classes.push(by)
    else ways.set(to, [by])
  }
  return ways
}
