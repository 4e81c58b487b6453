import type { LlamaEmbeddingContext, LlamaModel } from 'node-llama-cpp'
import { MeshError } from '../../../lib/protocol/errors.js'
import type { EngineInfo } from './messages.js'

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
   * @returns for each text a vector of length 1
   * @throws MeshError CONTEXT_LENGTH_EXCEEDED, CANCELLED
   */
  async embed(
    input: readonly string[],
    cancelled: () => boolean,
  ): Promise<{ embeddings: number[][]; promptTokens: number }> {
    const { contextLength, threads } = this.#info
    this.#context ??= this.#model.createEmbeddingContext({ contextSize: contextLength, threads })
    const context = await this.#context.catch((cause: unknown) => {
      this.#context = undefined
      throw MeshError.BAD_REQUEST(`This model gives no embeddings: ${String(cause)}`, { param: 'model' }, { cause })
    })
    const lengths = input.map((text) => context.calculateInputLength(text))
    const tooLong = lengths.findIndex((length) => length >= contextLength)
    if (tooLong >= 0) {
      throw MeshError.CONTEXT_LENGTH_EXCEEDED(
        `The text has ${lengths[tooLong]} tokens, and this model's context is ${contextLength} tokens here`,
        { promptTokens: lengths[tooLong], contextLength, param: `input[${tooLong}]` },
      )
    }
    const embeddings: number[][] = []
    for (const text of input) {
      if (cancelled()) throw MeshError.CANCELLED('The embedding was cancelled')
      embeddings.push(normalised((await context.getEmbeddingFor(text)).vector))
    }
    return { embeddings, promptTokens: lengths.reduce((sum, length) => sum + length, 0) }
  }
}

function normalised(vector: readonly number[]): number[] {
  const length = Math.hypot(...vector)
  return length > 0 ? vector.map((x) => x / length) : [...vector]
}
