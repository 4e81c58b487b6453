import { createHash } from 'node:crypto'
import { MeshError } from '../../../lib/errors/index.js'
import { type GrammarSource, paramOf } from './compile.js'
import { Compiler } from './compiler.js'
import { Automaton, GRAMMAR_LIMITS, type Grammar, Matcher, Room, type Tokens } from './grammar/index.js'

/** The same few schemas come again and again. */
const MOST_KEPT = 64

/** The grammars of one engine. */
export class Grammars {
  readonly #tokens: Tokens
  readonly #compiler = new Compiler()
  readonly #room = new Room()
  /** By a hash of what they are made of; the least recently used first. */
  readonly #kept = new Map<string, Automaton>()

  constructor(tokens: Tokens) {
    this.#tokens = tokens
  }

  /** @throws MeshError BAD_REQUEST where something cannot be enforced, is malformed, or exceeds a limit; CANCELLED */
  async compile(source: GrammarSource, signal: AbortSignal): Promise<Grammar> {
    const param = paramOf(source)
    if (source.of === 'grammar' && source.text.length > GRAMMAR_LIMITS.chars) {
      throw MeshError.BAD_REQUEST(
        `The grammar has ${source.text.length} characters; at most ${GRAMMAR_LIMITS.chars} are compiled`,
        { param, limit: GRAMMAR_LIMITS.chars },
      )
    }
    const text = JSON.stringify(source)
    const key = createHash('sha256').update(text).digest('base64')
    const automaton =
      this.#kept.get(key) ?? new Automaton(await this.#compiler.compile(text, param, signal), this.#room)
    this.#keep(key, automaton)
    return { automaton, param }
  }

  /** For one answer. @throws MeshError BAD_REQUEST where the grammar is too complex to begin with */
  matcher(grammar: Grammar): Matcher {
    return new Matcher(grammar, this.#tokens)
  }

  /** For the rest of a text that is there already; undefined where it does not fit. @throws as `matcher` */
  matcherAfter(grammar: Grammar, text: string): Matcher | undefined {
    const matcher = this.matcher(grammar)
    return matcher.takeText(text) ? matcher : undefined
  }

  #keep(key: string, automaton: Automaton): void {
    this.#kept.delete(key)
    const oldest = this.#kept.keys().next()
    if (this.#kept.size >= MOST_KEPT && !oldest.done) this.#kept.delete(oldest.value)
    this.#kept.set(key, automaton)
  }
}
