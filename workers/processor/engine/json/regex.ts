import type { SignSet } from '../grammar/index.js'
import type { Spend } from './alphabet.js'
import { ANY, common, NAMED, NO_LINE_END, propertySet, unionOf, without } from './classes.js'
import { refuse } from './gbnf.js'

/** A regular expression of ECMAScript with the flag u, as far as a finite automaton can follow it. */
export type Regex =
  | { readonly is: 'signs'; readonly set: SignSet }
  | { readonly is: 'sequence'; readonly parts: readonly Regex[] }
  | { readonly is: 'choice'; readonly choices: readonly Regex[] }
  | { readonly is: 'times'; readonly body: Regex; readonly least: number; readonly most: number | undefined }
  | { readonly is: 'start' | 'end' }
  /** Between a sign of a word and one that is none, or the reverse of that. */
  | { readonly is: 'border'; readonly not: boolean }
  /** What must, or must not, follow from here on. */
  | { readonly is: 'ahead'; readonly body: Regex; readonly not: boolean }

/** Characters of one pattern. */
const LONGEST = 100_000
/** So many of them count as a step. */
const SIGNS_A_STEP = 4
const MOST_REPEATS = 2000
/** Signs of a count in braces; one that is longer is out of bounds anyway. */
const LONGEST_COUNT = 32
const MOST_NESTED = 32
const CONTROL: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, '0': 0 }
const CODE = /^(?:x([\dA-Fa-f]{2})|u([\dA-Fa-f]{4})|u\{([\dA-Fa-f]{1,6})\}|c([A-Za-z]))/
const LOW_HALF = /^\\u([Dd][C-Fc-f][\dA-Fa-f]{2})/
const LONGEST_ESCAPE = 90

/**
 * Reads a pattern.
 * @throws MeshError BAD_REQUEST where it is malformed, or has what no automaton can follow: references back, looking behind
 */
export function readRegex(pattern: string, path: string, spend: Spend): Regex {
  if (pattern.length > LONGEST) throw refuse(path, `has more than ${LONGEST} characters`, { limit: LONGEST })
  spend(pattern.length / SIGNS_A_STEP)
  return new Reader(pattern, path, spend).whole()
}

class Reader {
  readonly #signs: string[]
  readonly #path: string
  readonly #spend: Spend
  #at = 0
  #depth = 0

  constructor(pattern: string, path: string, spend: Spend) {
    this.#signs = [...pattern]
    this.#path = path
    this.#spend = spend
  }

  whole(): Regex {
    const whole = this.#choice()
    if (this.#at < this.#signs.length) throw this.#unknown(`the ) at ${this.#at + 1}`)
    return whole
  }

  #choice(): Regex {
    const choices = [this.#sequence()]
    while (this.#signs[this.#at] === '|') {
      this.#at++
      choices.push(this.#sequence())
    }
    const [only] = choices
    return only !== undefined && choices.length === 1 ? only : { is: 'choice', choices }
  }

  #sequence(): Regex {
    const parts: Regex[] = []
    for (let sign = this.#signs[this.#at]; sign !== undefined && sign !== '|' && sign !== ')'; ) {
      parts.push(this.#counted(this.#atom(sign)))
      sign = this.#signs[this.#at]
    }
    return { is: 'sequence', parts }
  }

  #atom(sign: string): Regex {
    this.#at++
    switch (sign) {
      case '(':
        return this.#group()
      case '[':
        return { is: 'signs', set: this.#class() }
      case '.':
        return { is: 'signs', set: NO_LINE_END }
      case '^':
        return { is: 'start' }
      case '$':
        return { is: 'end' }
      case '\\':
        return this.#escape()
      case '*':
      case '+':
      case '?':
      case '{':
        throw this.#unknown(`the ${sign} at ${this.#at}`)
      default:
        return { is: 'signs', set: common(single(sign), ANY) }
    }
  }

  #group(): Regex {
    if (++this.#depth > MOST_NESTED) throw this.#unknown(`groups more than ${MOST_NESTED} deep`)
    let ahead: { not: boolean } | undefined
    if (this.#signs[this.#at] === '?') {
      const [text = ''] = /^\?(?::|=|!|<(?=[A-Za-z_$])[\w$]{1,64}>)/.exec(this.#rest(70)) ?? []
      if (text === '') throw this.#unknown('a (? group other than (?:, (?=, (?! and (?<name>')
      this.#at += text.length
      if (text === '?=' || text === '?!') ahead = { not: text === '?!' }
    }
    const body = this.#choice()
    if (this.#signs[this.#at++] !== ')') throw this.#unknown('a group that is not closed')
    this.#depth--
    return ahead === undefined ? body : { is: 'ahead', body, not: ahead.not }
  }

  #escape(): Regex {
    const sign = this.#signs[this.#at]
    if (sign === 'b' || sign === 'B') {
      this.#at++
      return { is: 'border', not: sign === 'B' }
    }
    return { is: 'signs', set: common(this.#escaped(''), ANY) }
  }

  /** What stands behind a backslash; halves of signs as well, which a range may go from or to. @param where for errors */
  #escaped(where: string): SignSet {
    const sign = this.#signs[this.#at]
    if (sign === undefined) throw this.#unknown('a \\ at the end')
    const rest = this.#rest(LONGEST_ESCAPE)
    const named = Object.hasOwn(NAMED, sign) ? NAMED[sign] : undefined
    if (named !== undefined) {
      this.#at++
      return named
    }
    const [property = '', kind, name = ''] = /^([pP])\{([^}]{0,81})\}/.exec(rest) ?? []
    if (property !== '') {
      const set = propertySet(name, this.#spend)
      if (set === undefined) throw this.#unknown(`\\${property}${where}`)
      this.#at += property.length
      return kind === 'P' ? without(set) : set
    }
    const code = this.#code(sign, rest)
    if (code !== undefined) return [code, code]
    if (/[1-9k]/.test(sign)) throw this.#unknown(`\\${sign}, which refers back,`)
    if (/[a-zA-Z0-9]/.test(sign)) throw this.#unknown(`\\${sign}${where}`)
    this.#at++
    return single(sign)
  }

  /** The code point that an escape names; two that are halves of one sign are that sign. */
  #code(sign: string, rest: string): number | undefined {
    const control = Object.hasOwn(CONTROL, sign) ? CONTROL[sign] : undefined
    if (control !== undefined && !/^0\d/.test(rest)) {
      this.#at++
      return control
    }
    const [text, two, four, braced, letter] = CODE.exec(rest) ?? []
    if (text === undefined) return undefined
    this.#at += text.length
    if (letter !== undefined) return letter.charCodeAt(0) % 32
    const code = Number.parseInt(two ?? four ?? braced ?? '', 16)
    if (code > 0x10ffff) throw this.#unknown(`\\${text}`)
    const [pair, low] = code >= 0xd800 && code <= 0xdbff ? (LOW_HALF.exec(this.#rest(6)) ?? []) : []
    if (pair === undefined || low === undefined) return code
    this.#at += pair.length
    return 0x10000 + (code - 0xd800) * 0x400 + Number.parseInt(low, 16) - 0xdc00
  }

  #class(): SignSet {
    const negated = this.#signs[this.#at] === '^'
    if (negated) this.#at++
    const sets: SignSet[] = []
    while (this.#signs[this.#at] !== ']') {
      const first = this.#classSign()
      if (this.#signs[this.#at] === '-' && this.#signs[this.#at + 1] !== ']' && isSingle(first)) {
        this.#at++
        const last = this.#classSign()
        const [from = 0, to = 0] = [first[0], last[0]]
        if (!isSingle(last) || to < from) throw this.#unknown('a range that does not go from one sign up to another')
        sets.push(common([from, to], ANY))
      } else sets.push(common(first, ANY))
    }
    this.#at++
    return negated ? without(unionOf(sets)) : unionOf(sets)
  }

  #classSign(): SignSet {
    const sign = this.#signs[this.#at++]
    if (sign === undefined) throw this.#unknown('a class that is not closed')
    if (sign !== '\\') return single(sign)
    if (this.#signs[this.#at] !== 'b') return this.#escaped(' in a class')
    this.#at++
    return single('\b')
  }

  #counted(body: Regex): Regex {
    const sign = this.#signs[this.#at]
    if (sign !== '*' && sign !== '+' && sign !== '?' && sign !== '{') return body
    if (body.is !== 'signs' && body.is !== 'sequence' && body.is !== 'choice') {
      throw this.#unknown(`the ${sign} at ${this.#at + 1}`)
    }
    const { least, most } = this.#count(sign)
    // A lazy count matches the same texts.
    if (this.#signs[this.#at] === '?') this.#at++
    return { is: 'times', body, least, most }
  }

  #count(sign: string): { least: number; most: number | undefined } {
    if (sign !== '{') {
      this.#at++
      return { least: sign === '+' ? 1 : 0, most: sign === '?' ? 1 : undefined }
    }
    const [text, low = '', comma, high = ''] = /^\{(\d+)(,)?(\d*)\}/.exec(this.#rest(LONGEST_COUNT)) ?? []
    if (text === undefined) throw this.#unknown(`the { at ${this.#at + 1}`)
    const least = Number(low)
    const most = comma === undefined ? least : high === '' ? undefined : Number(high)
    if (Math.max(least, most ?? 0) > MOST_REPEATS) throw this.#unknown(`more than ${MOST_REPEATS} repetitions`)
    if (most !== undefined && most < least) throw this.#unknown(text)
    this.#at += text.length
    return { least, most }
  }

  #rest(length: number): string {
    return this.#signs.slice(this.#at, this.#at + length).join('')
  }

  #unknown(what: string): Error {
    return refuse(this.#path, `${what} cannot be enforced`)
  }
}

function single(sign: string): SignSet {
  const code = sign.codePointAt(0) ?? 0
  return [code, code]
}

function isSingle(set: SignSet): boolean {
  return set.length === 2 && set[0] === set[1]
}
