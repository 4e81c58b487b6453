import type { LlamaEmbeddingContext, LlamaModel } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'
import type { Counting } from './counting.js'
import type { EmbeddingInput, EngineInfo } from './messages.js'
import { asTokens } from './vocabulary.js'

/** Turns texts into vectors. Its context is made with the first use: most models never need it. */
export class Embedder {
  readonly #model: LlamaModel
  readonly #info: EngineInfo
  readonly #counting: Counting
  #context: Promise<LlamaEmbeddingContext> | undefined

  constructor(model: LlamaModel, info: EngineInfo, counting: Counting) {
    this.#model = model
    this.#info = info
    this.#counting = counting
  }

  /**
   * @param input texts, or the model's own token ids
   * @param onText told how many tokens a text has before it is evaluated; ends the work by a throw
   * @returns for each a vector of length 1
   * @throws MeshError CONTEXT_LENGTH_EXCEEDED, CANCELLED while texts are counted, BAD_REQUEST for a token that is not in the vocabulary, and what `onText` throws
   */
  async embed(
    input: readonly EmbeddingInput[],
    signal: AbortSignal,
    onText: (tokens: number) => void,
  ): Promise<{ embeddings: number[][]; promptTokens: number }> {
    const { contextLength, threads } = this.#info
    this.#context ??= this.#model.createEmbeddingContext({ contextSize: contextLength, threads })
    const context = await this.#context.catch((cause: unknown) => {
      this.#context = undefined
      throw MeshError.BAD_REQUEST(`This model gives no embeddings: ${String(cause)}`, { param: 'model' }, { cause })
    })
    const texts = input.map((one, i) => (typeof one === 'string' ? one : asTokens(this.#model, one, `input[${i}]`)))
    const lengths: number[] = []
    for (const [i, text] of texts.entries()) {
      if (typeof text === 'string' && (await this.#counting.exceeds([text], contextLength, signal))) {
        throw tooLong(`more than ${contextLength}`, contextLength, i)
      }
      await this.#counting.turn()
      // The library puts the tokens that begin and end a text into the array that it is given.
      const length = context.calculateInputLength(typeof text === 'string' ? text : [...text])
      if (length >= contextLength) throw tooLong(length, contextLength, i)
      lengths.push(length)
    }
    const embeddings: number[][] = []
    for (const [i, text] of texts.entries()) {
      onText(lengths[i] ?? 0)
      embeddings.push(normalised((await context.getEmbeddingFor(text)).vector))
    }
    return { embeddings, promptTokens: lengths.reduce((sum, length) => sum + length, 0) }
  }
}

function tooLong(tokens: number | string, contextLength: number, i: number): MeshError {
  return MeshError.CONTEXT_LENGTH_EXCEEDED(
    `The text has ${tokens} tokens, and this model's context is ${contextLength} tokens here`,
    { ...(typeof tokens === 'number' && { promptTokens: tokens }), contextLength, param: `input[${i}]` },
  )
}

function normalised(vector: readonly number[]): number[] {
  const length = Math.hypot(...vector)
  return length > 0 ? vector.map((x) => x / length) : [...vector]
}
