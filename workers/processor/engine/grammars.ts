import { type Llama, type LlamaGrammar, LlamaGrammarEvaluationState, type LlamaModel } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'
import { nativeGrammarState, nativeSamplerClass } from './llama-internals.js'

/** Compiling costs milliseconds, and the same few schemas come again and again. */
const MOST_KEPT = 256

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
   * @param text GBNF
   * @param param what in the request it comes from
   * @throws MeshError BAD_REQUEST when it does not compile
   */
  async compile(text: string, param = 'format.grammar'): Promise<LlamaGrammar> {
    return this.#compiled.get(text) ?? (await this.#compile(text, param))
  }

  newState(grammar: LlamaGrammar): LlamaGrammarEvaluationState {
    return new LlamaGrammarEvaluationState({ model: this.#model, grammar })
  }

  /**
   * The state after a text that is there already.
   * @returns undefined where the grammar does not let the text through, or no tokens spell it exactly
   */
  stateAfter(grammar: LlamaGrammar, text: string): LlamaGrammarEvaluationState | undefined {
    const tokens = this.#model.tokenize(text, false, 'trimLeadingSpace')
    if (this.#model.detokenize(tokens) !== text) return undefined
    const state = this.newState(grammar)
    const sampler = nativeSamplerClass(this.#llama)
    const native = nativeGrammarState(state)
    for (const token of tokens) {
      if (!sampler.canBeNextTokenForGrammarEvaluationState(native, token)) return undefined
      sampler.acceptGrammarEvaluationStateToken(native, token)
    }
    return state
  }

  async #compile(text: string, param: string): Promise<LlamaGrammar> {
    checkSize(text, param)
    let grammar: LlamaGrammar
    try {
      grammar = await this.#llama.createGrammar({ grammar: text })
    } catch (cause) {
      // llama.cpp writes the reason to standard error, where the processor finds it.
      throw MeshError.BAD_REQUEST('The grammar does not compile', { param }, { cause })
    }
    this.#keep(text, grammar)
    return grammar
  }

  #keep(text: string, grammar: LlamaGrammar): void {
    const oldest = this.#compiled.keys().next()
    if (this.#compiled.size >= MOST_KEPT && !oldest.done) this.#compiled.delete(oldest.value)
    this.#compiled.set(text, grammar)
  }
}

/** @throws MeshError BAD_REQUEST */
function checkSize(text: string, param: string): void {
  const details = { param }
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
