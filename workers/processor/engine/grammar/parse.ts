import { MeshError } from '../../../../lib/errors/index.js'
import { GRAMMAR_LIMITS, tooComplex } from './limits.js'
import type { Program } from './program.js'
import { Rules } from './rules.js'
import { LAST_SIGN, otherSigns, signSet } from './signs.js'

const NAME = /[a-zA-Z0-9-]+/y
const COUNT = /\{[ \t]*(\d{1,9})[ \t]*(,)?[ \t]*(\d{1,9})?[ \t]*\}/y
const ESCAPE = /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([nrt"\\[\]]))/y
const SPACE = /(?:[ \t]|#[^\r\n]*)*/y
const SPACE_AND_LINES = /(?:[ \t\r\n]|#[^\r\n]*)*/y
const CONTROL: Record<string, string> = { n: '\n', r: '\r', t: '\t' }

/**
 * Compiles GBNF, llama.cpp's notation for grammars, without what it has for tokens.
 * @param param what in the request it comes from, for errors
 * @throws MeshError BAD_REQUEST where it is malformed, lacks a rule, recurses to the left, or exceeds a limit
 */
export function parseGrammar(text: string, param: string): Program {
  const parser = new Parser(text, param)
  return parser.whole()
}

class Parser {
  readonly #text: string
  readonly #param: string
  readonly #rules: Rules
  #at = 0
  #depth = 0

  constructor(text: string, param: string) {
    this.#text = text
    this.#param = param
    this.#rules = new Rules(param)
  }

  whole(): Program {
    this.#space(true)
    while (this.#at < this.#text.length) this.#rule()
    return this.#rules.program('root')
  }

  #rule(): void {
    const name = this.#match(NAME)?.[0] ?? this.#expected('the name of a rule')
    this.#space(false)
    if (!this.#text.startsWith('::=', this.#at)) this.#expected('::=')
    this.#at += 3
    this.#space(true)
    this.#rules.define(this.#rules.named(name), this.#choices(false))
    if (this.#at < this.#text.length && !/[\r\n]/.test(this.#text.charAt(this.#at)))
      this.#expected('the end of the line')
    this.#space(true)
  }

  #choices(nested: boolean): number[][] {
    const choices = [this.#sequence(nested)]
    while (this.#text[this.#at] === '|') {
      this.#at++
      this.#space(true)
      choices.push(this.#sequence(nested))
    }
    return choices
  }

  #sequence(nested: boolean): number[] {
    const sequence: number[] = []
    while (true) {
      const atom = this.#atom()
      if (atom === undefined) return sequence
      this.#space(nested)
      let counted = atom
      for (let count = this.#count(); count !== undefined; count = this.#count()) {
        if (counted.length === 0) throw this.#wrong('a repetition of nothing')
        counted = this.#rules.repeated(counted, count.least, count.most)
        this.#space(nested)
      }
      for (const element of counted) sequence.push(element)
    }
  }

  /** @returns undefined at what begins nothing */
  #atom(): number[] | undefined {
    const sign = this.#text[this.#at]
    if (sign === '"') return this.#literal()
    if (sign === '[') return [this.#class()]
    if (sign === '(') return [this.#group()]
    if (sign === '.') {
      this.#at++
      return [this.#rules.signs([0, LAST_SIGN])]
    }
    if (sign === '<' || sign === '!') throw this.#wrong('a token; only text can be described')
    const name = this.#match(NAME)
    return name && [this.#rules.referenceTo(name[0])]
  }

  #literal(): number[] {
    const elements: number[] = []
    this.#at++
    while (this.#text[this.#at] !== '"') {
      const sign = this.#sign()
      elements.push(this.#rules.signs([sign, sign]))
    }
    this.#at++
    return elements
  }

  #class(): number {
    this.#at++
    const negated = this.#text[this.#at] === '^'
    if (negated) this.#at++
    const pairs: [number, number][] = []
    while (this.#text[this.#at] !== ']') {
      const first = this.#sign()
      const isRange = this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']'
      if (isRange) this.#at++
      pairs.push([first, isRange ? this.#sign() : first])
    }
    this.#at++
    const set = signSet(pairs)
    return this.#rules.signs(negated ? otherSigns(set) : set)
  }

  #group(): number {
    if (++this.#depth > GRAMMAR_LIMITS.nested) {
      throw tooComplex(`has ${this.#depth} brackets within each other`, GRAMMAR_LIMITS.nested, this.#param)
    }
    this.#at++
    this.#space(true)
    const choices = this.#choices(true)
    if (this.#text[this.#at] !== ')') this.#expected(')')
    this.#at++
    this.#depth--
    return this.#rules.group(choices)
  }

  #count(): { least: number; most: number | undefined } | undefined {
    const sign = this.#text[this.#at]
    if (sign === '*' || sign === '+' || sign === '?') {
      this.#at++
      return { least: sign === '+' ? 1 : 0, most: sign === '?' ? 1 : undefined }
    }
    if (sign !== '{') return undefined
    const [, low = '', comma, high] = this.#match(COUNT) ?? this.#expected('{least,most}')
    const least = Number(low)
    const most = comma === undefined ? least : high === undefined ? undefined : Number(high)
    const larger = Math.max(least, most ?? 0)
    if (larger > GRAMMAR_LIMITS.repeats)
      throw tooComplex(`repeats something ${larger} times`, GRAMMAR_LIMITS.repeats, this.#param)
    if (most !== undefined && most < least) throw this.#wrong(`a repetition of at least ${least} and at most ${most}`)
    return { least, most }
  }

  /** One code point of a literal or a class. */
  #sign(): number {
    if (this.#text[this.#at] === '\\') {
      const [, two, four, eight, itself] = this.#match(ESCAPE) ?? this.#expected('a known escape')
      const digits = two ?? four ?? eight
      if (digits === undefined) return codeAt(CONTROL[itself ?? ''] ?? itself ?? '', 0)
      const code = Number.parseInt(digits, 16)
      if (code > LAST_SIGN) throw this.#wrong(`the sign ${digits}, which does not exist`)
      return code
    }
    if (this.#at >= this.#text.length) this.#expected('the end of a literal or a class')
    const code = codeAt(this.#text, this.#at)
    this.#at += code > 0xffff ? 2 : 1
    return code
  }

  #space(lines: boolean): void {
    this.#match(lines ? SPACE_AND_LINES : SPACE)
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)
    if (found === null) return undefined
    this.#at = pattern.lastIndex
    return found
  }

  #expected(what: string): never {
    const before = this.#text.slice(0, this.#at).split('\n')
    const found = JSON.stringify(this.#text.slice(this.#at, this.#at + 20))
    const where = `line ${before.length}, character ${(before.at(-1)?.length ?? 0) + 1}`
    throw this.#malformed(`${where}: expected ${what}, not ${found}`)
  }

  #wrong(what: string): MeshError {
    return this.#malformed(`it has ${what}`)
  }

  #malformed(why: string): MeshError {
    return MeshError.BAD_REQUEST(`The grammar does not compile: ${why}`, { param: this.#param })
  }
}

function codeAt(text: string, at: number): number {
  return text.codePointAt(at) ?? 0
}
