import { hex, oneOf, quoted, refuse } from './gbnf.js'

/**
 * Regular expressions as grammar, as far as the two mean the same: from `^` to `$`, made of plain signs, classes,
 * groups, choices and counts. What stands in a JSON string has to be escaped there, which classes cannot say.
 */

const MOST_REPEATS = 2000
/** Signs of a count in braces; one that is longer is out of bounds anyway. */
const LONGEST_COUNT = 32
const MOST_NESTED = 32
/** Signs that a JSON string holds as they are. */
const UNESCAPED = String.raw`"\\\x7F\x00-\x1F`
const ESCAPED_GAPS = [
  { from: 0x00, to: 0x1f },
  { from: 0x22, to: 0x22 },
  { from: 0x5c, to: 0x5c },
  { from: 0x7f, to: 0x7f },
]
const CLASSES: Record<string, string> = { d: '0-9', w: 'A-Za-z0-9_', s: ' ' }

/**
 * The expression for the inside of a JSON string that matches the pattern.
 * @throws MeshError BAD_REQUEST where the pattern uses what a grammar cannot say
 */
export function patternToGbnf(pattern: string, path: string): string {
  if (!pattern.startsWith('^') || !endsWithAnchor(pattern)) {
    throw refuse(path, 'only a pattern that goes from ^ to $ can be enforced')
  }
  const parser = new PatternParser(pattern.slice(1, -1), path)
  return parser.whole()
}

class PatternParser {
  readonly #signs: string[]
  readonly #path: string
  #at = 0
  #depth = 0

  constructor(pattern: string, path: string) {
    this.#signs = [...pattern]
    this.#path = path
  }

  whole(): string {
    const body = this.#choices()
    if (body.choices > 1) throw this.#unknown('a | outside a group, to which ^ and $ do not belong')
    if (this.#at < this.#signs.length) throw this.#unknown(`the ${this.#signs[this.#at]} at ${this.#at + 1}`)
    return body.text
  }

  #choices(): { text: string; choices: number } {
    const choices = [this.#sequence()]
    while (this.#signs[this.#at] === '|') {
      this.#at++
      choices.push(this.#sequence())
    }
    return { text: oneOf(choices), choices: choices.length }
  }

  #sequence(): string {
    const parts: string[] = []
    for (let sign = this.#signs[this.#at]; sign !== undefined && sign !== '|' && sign !== ')'; ) {
      parts.push(this.#atom(sign) + this.#count())
      sign = this.#signs[this.#at]
    }
    return parts.length > 0 ? parts.join(' ') : '""'
  }

  #atom(sign: string): string {
    this.#at++
    switch (sign) {
      case '(':
        return this.#group()
      case '[':
        return this.#class()
      case '.':
        return `[^${UNESCAPED}]`
      case '\\':
        return this.#escape()
      case '^':
      case '$':
      case '*':
      case '+':
      case '?':
      case '{':
        throw this.#unknown(`the ${sign} at ${this.#at + 1}`)
      default:
        return literalSign(sign)
    }
  }

  #group(): string {
    if (++this.#depth > MOST_NESTED) throw this.#unknown(`groups more than ${MOST_NESTED} deep`)
    if (this.#signs[this.#at] === '?') {
      if (this.#signs[this.#at + 1] !== ':') throw this.#unknown('a (? group other than (?:')
      this.#at += 2
    }
    const { text } = this.#choices()
    if (this.#signs[this.#at++] !== ')') throw this.#unknown('a group that is not closed')
    this.#depth--
    return `(${text})`
  }

  #escape(): string {
    const sign = this.#signs[this.#at++]
    if (sign === undefined) throw this.#unknown('a \\ at the end')
    const known = CLASSES[sign]
    if (known !== undefined) return `[${known}]`
    if (/[a-zA-Z0-9]/.test(sign)) throw this.#unknown(`\\${sign}`)
    return literalSign(sign)
  }

  /** Signs that JSON escapes are left out: what the class then lets through still matches the pattern. */
  #class(): string {
    const negated = this.#signs[this.#at] === '^'
    if (negated) this.#at++
    let body = ''
    while (this.#signs[this.#at] !== ']') {
      const first = this.#classSign()
      if (!isSign(first)) body += first
      else if (this.#signs[this.#at] === '-' && this.#signs[this.#at + 1] !== ']') {
        this.#at++
        const last = this.#classSign()
        if (!isSign(last) || codeOf(last) < codeOf(first)) throw this.#unknown(`the range ${first}-${last}`)
        body += spans(first, last)
      } else body += spans(first, first)
    }
    this.#at++
    if (body === '') throw this.#unknown('a class of nothing but signs that JSON escapes')
    return negated ? `[^${body}${UNESCAPED}]` : `[${body}]`
  }

  /** One sign of a class, or the ranges that an escape such as \d stands for. */
  #classSign(): string {
    const sign = this.#signs[this.#at++]
    if (sign === undefined) throw this.#unknown('a class that is not closed')
    if (sign !== '\\') return sign
    const one = this.#signs[this.#at++] ?? ''
    const known = CLASSES[one]
    if (known !== undefined) return known.length > 1 ? known : hex(known)
    if (one === '' || /[a-zA-Z0-9]/.test(one)) throw this.#unknown(`\\${one} in a class`)
    return one
  }

  #count(): string {
    const sign = this.#signs[this.#at]
    if (sign === '*' || sign === '+' || sign === '?') {
      this.#at++
      this.#skipLazy()
      return sign
    }
    if (sign !== '{') return ''
    const rest = this.#signs.slice(this.#at, this.#at + LONGEST_COUNT).join('')
    const [text, least = '', comma, most = ''] = /^\{(\d+)(,)?(\d*)\}/.exec(rest) ?? []
    if (text === undefined) throw this.#unknown(`the { at ${this.#at + 2}`)
    if (Number(least) > MOST_REPEATS || Number(most) > MOST_REPEATS) {
      throw this.#unknown(`more than ${MOST_REPEATS} repetitions`)
    }
    if (most !== '' && Number(most) < Number(least)) throw this.#unknown(text)
    this.#at += text.length
    this.#skipLazy()
    return `{${least}${comma ?? ''}${most}}`
  }

  /** A lazy count matches the same texts. */
  #skipLazy(): void {
    if (this.#signs[this.#at] === '?') this.#at++
  }

  #unknown(what: string): Error {
    return refuse(this.#path, `${what} cannot be enforced`)
  }
}

/** True for one sign, and not for the ranges that an escape stands for. */
function isSign(text: string): boolean {
  return text.length === (codeOf(text) > 0xffff ? 2 : 1)
}

/** True where the last sign is a $ that stands for itself. */
function endsWithAnchor(pattern: string): boolean {
  let at = pattern.length - 1
  if (at < 1 || pattern[at] !== '$') return false
  let escapes = 0
  while (pattern[--at] === '\\') escapes++
  return escapes % 2 === 0
}

function literalSign(sign: string): string {
  return quoted(JSON.stringify(sign).slice(1, -1))
}

/** The range in GBNF's words, without the signs that JSON escapes. */
function spans(first: string, last: string): string {
  const to = codeOf(last)
  let text = ''
  let from = codeOf(first)
  for (const gap of ESCAPED_GAPS) {
    if (from < gap.from) text += span(from, Math.min(to, gap.from - 1))
    from = Math.max(from, gap.to + 1)
    if (from > to) return text
  }
  return text + span(from, to)
}

function codeOf(sign: string): number {
  return sign.codePointAt(0) ?? 0
}

function span(from: number, to: number): string {
  const sign = (code: number) => (code < 0x80 ? hex(String.fromCharCode(code)) : String.fromCodePoint(code))
  if (from > to) return ''
  return from === to ? sign(from) : `${sign(from)}-${sign(to)}`
}
