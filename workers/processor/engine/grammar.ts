import { type Llama, type LlamaGrammar, LlamaGrammarEvaluationState, type LlamaModel } from 'node-llama-cpp'
import { MeshError } from '../../../lib/protocol/errors.js'
import type { OutputFormat } from '../../../lib/protocol/inference.js'
import { jsonSchemaToGbnf } from './json-grammar.js'

/** Compiling costs milliseconds, and the same few schemas come again and again. */
const MOST_KEPT = 32

/** Sampling tries every alternative at every token, for all streams of a step: 200 KiB of them took more than a second. */
const MOST_CHARS = 128 * 1024
/** llama.cpp's parser recurses, and crashes the process some thousand parentheses deep. */
const MOST_NESTED = 256

/** The compiled grammars of one engine. */
export class Grammars {
  readonly #llama: Llama
  readonly #model: LlamaModel
  readonly #compiled = new Map<string, LlamaGrammar>()

  constructor(llama: Llama, model: LlamaModel) {
    this.#llama = llama
    this.#model = model
  }

  /**
   * A fresh state that lets only texts of this format through; undefined where any text will do.
   * @throws MeshError BAD_REQUEST when the schema or the grammar does not compile
   */
  async stateFor(format: OutputFormat): Promise<LlamaGrammarEvaluationState | undefined> {
    if (format.type === 'text') return undefined
    const text =
      format.type === 'grammar'
        ? format.grammar
        : jsonSchemaToGbnf(format.type === 'json_schema' ? format.schema : { type: 'object' })
    const grammar = this.#compiled.get(text) ?? (await this.#compile(text))
    return new LlamaGrammarEvaluationState({ model: this.#model, grammar })
  }

  async #compile(text: string): Promise<LlamaGrammar> {
    checkSize(text)
    let grammar: LlamaGrammar
    try {
      grammar = await this.#llama.createGrammar({ grammar: text })
    } catch (cause) {
      // llama.cpp writes the reason to standard error, where the processor finds it.
      throw MeshError.BAD_REQUEST('The grammar does not compile', { param: 'format.grammar' }, { cause })
    }
    if (this.#compiled.size >= MOST_KEPT) this.#compiled.delete(this.#compiled.keys().next().value as string)
    this.#compiled.set(text, grammar)
    return grammar
  }
}

/** @throws MeshError BAD_REQUEST */
function checkSize(text: string): void {
  const details = { param: 'format.grammar' }
  if (text.length > MOST_CHARS) {
    throw MeshError.BAD_REQUEST(
      `The grammar has ${text.length} characters; at most ${MOST_CHARS} are compiled`,
      details,
    )
  }
  let depth = 0
  for (const sign of text) {
    if (sign === '(') depth++
    else if (sign === ')') depth--
    // Parentheses in literals count as well: no grammar that anybody needs comes near.
    if (depth > MOST_NESTED) throw MeshError.BAD_REQUEST(`The grammar is nested more than ${MOST_NESTED} deep`, details)
  }
}
