import type { LlamaEmbeddingContext, LlamaModel } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'
import type { EmbeddingInput, EngineInfo } from './messages.js'
import { asTokens } from './vocabulary.js'

/** Turns texts into vectors. Its context is made with the first use: most models never need it. */
export class Embedder {
  readonly #model: LlamaModel
  readonly #info: EngineInfo
  #context: Promise<LlamaEmbeddingContext> | undefined

  constructor(model: LlamaModel, info: EngineInfo) {
    this.#model = model
    this.#info = info
  }

  /**
   * @param input texts, or the model's own token ids
   * @param onText told how many tokens a text has before it is evaluated; ends the work by a throw
   * @returns for each a vector of length 1
   * @throws MeshError CONTEXT_LENGTH_EXCEEDED, BAD_REQUEST for a token that is not in the vocabulary, and what `onText` throws
   */
  async embed(
    input: readonly EmbeddingInput[],
    onText: (tokens: number) => void,
  ): Promise<{ embeddings: number[][]; promptTokens: number }> {
    const { contextLength, threads } = this.#info
    this.#context ??= this.#model.createEmbeddingContext({ contextSize: contextLength, threads })
    const context = await this.#context.catch((cause: unknown) => {
      this.#context = undefined
      throw MeshError.BAD_REQUEST(`This model gives no embeddings: ${String(cause)}`, { param: 'model' }, { cause })
    })
    const texts = input.map((one, i) => (typeof one === 'string' ? one : asTokens(this.#model, one, `input[${i}]`)))
    // The library puts the tokens that begin and end a text into the array that it is given.
    const lengths = texts.map((text) => context.calculateInputLength(typeof text === 'string' ? text : [...text]))
    const tooLong = lengths.findIndex((length) => length >= contextLength)
    if (tooLong >= 0) {
      throw MeshError.CONTEXT_LENGTH_EXCEEDED(
        `The text has ${lengths[tooLong]} tokens, and this model's context is ${contextLength} tokens here`,
        { promptTokens: lengths[tooLong], contextLength, param: `input[${tooLong}]` },
      )
    }
    const embeddings: number[][] = []
    for (const [i, text] of texts.entries()) {
      onText(lengths[i] ?? 0)
      embeddings.push(normalised((await context.getEmbeddingFor(text)).vector))
    }
    return { embeddings, promptTokens: lengths.reduce((sum, length) => sum + length, 0) }
  }
}

function normalised(vector: readonly number[]): number[] {
  const length = Math.hypot(...vector)
  return length > 0 ? vector.map((x) => x / length) : [...vector]
}
