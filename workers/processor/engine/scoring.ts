import type { LlamaModel, Token } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'
import type { InferenceRequest, PromptLogprob, TokenBatch } from '../../../lib/protocol/index.js'
import type { Batching } from './batching.js'
import type { GenerateJob } from './generate.js'
import type { LogprobFormatter } from './logprobs.js'
import { type Pacing, unitOf } from './pace.js'
import type { Prompt } from './prompt.js'
import type { Slot } from './slots.js'
import { TextStream } from './text-stream.js'
import { vocabularySize } from './vocabulary.js'

/** llama.cpp keeps the logits of all positions of a step, for all tokens of the vocabulary. */
const LOGITS_BYTES = 64 * 1024 * 1024
const BYTES_A_LOGIT = 4
/** Log-probabilities that one step gives, alternatives included. */
const ENTRIES_A_STEP = 4096
/** The same for one message of it: some 40 KiB. */
const ENTRIES_A_BATCH = 512
/** Tokens that are told at once where there is nothing but them to tell. */
const IDS_A_BATCH = 512

/** Tells a batch. Where it gives a promise, there is room for more once that resolves. */
export type Tell = (batch: TokenBatch) => unknown

/** Whether the log-probabilities of a prompt are asked for: then all of it is evaluated, whatever the cache has. */
export function isScored(request: InferenceRequest): boolean {
  return request.kind === 'completion' && request.echo === true && request.logprobs !== undefined
}

/** Tells prompts: their tokens, what they say, and how likely each was. */
export class Scorer {
  readonly #model: LlamaModel
  readonly #batching: Batching
  readonly #formatter: LogprobFormatter
  readonly #pacing: Pacing

  constructor(model: LlamaModel, batching: Batching, formatter: LogprobFormatter, pacing: Pacing) {
    this.#model = model
    this.#batching = batching
    this.#formatter = formatter
    this.#pacing = pacing
  }

  /** Tells a prompt without evaluating anything. @throws MeshError CANCELLED */
  async echo({ tokens, put }: Prompt, job: GenerateJob, tell: Tell): Promise<void> {
    const text = this.#textOf(put)
    for (let at = 0; at < tokens.length; at += IDS_A_BATCH) {
      checkCancelled(job)
      await tell(echoed(at, tokens.slice(at, at + IDS_A_BATCH), text))
    }
  }

  /**
   * Evaluates a prompt in an empty slot, all but its last token, and tells how likely each token was.
   * @throws MeshError CANCELLED
   */
  async score({ tokens, put }: Prompt, job: GenerateJob, slot: Slot, alternatives: number, tell: Tell): Promise<void> {
    const text = this.#textOf(put)
    const ofBatch = Math.max(1, Math.floor(ENTRIES_A_BATCH / (1 + alternatives)))
    const told = async (at: number, logprobs: PromptLogprob[]): Promise<void> => {
      for (let i = 0; i < logprobs.length; i += ofBatch) {
        const some = logprobs.slice(i, i + ofBatch)
        const usage = { promptTokens: job.usage.promptTokens, cachedTokens: 0, completionTokens: 0 }
        const batch = echoed(at + i, tokens.slice(at + i, at + i + some.length), text, some)
        // Who waits for a reader must not be waited for.
        this.#batching.leave(slot.number)
        await tell({ ...batch, usage })
        this.#batching.enter(slot.number)
        checkCancelled(job)
      }
    }
    await this.#pacing.beside(async (pace) => {
      const [first] = tokens
      if (first !== undefined) await told(0, [this.#first(first, put)])
      for (let at = 0; at < tokens.length - 1; ) {
        await this.#batching.gate
        checkCancelled(job)
        const size = pace.next(tokens.length - 1 - at, this.#batching.running > this.#pacing.running)
        const piece = tokens.slice(at, at + Math.min(size, this.#mostOfAStep(alternatives)))
        const next = tokens.slice(at + 1, at + 1 + piece.length)
        const began = this.#batching.promptClock
        const logprobs = await this.#evaluate(piece, next, slot, alternatives)
        pace.took(piece.length, this.#batching.promptClock - began)
        at += piece.length
        job.steps++
        job.usage = { promptTokens: at, cachedTokens: 0, completionTokens: 0 }
        await told(at - piece.length + 1, logprobs)
      }
    })
  }

  /** How many tokens of one prompt a step may have. */
  #mostOfAStep(alternatives: number): number {
    const ofLogits = LOGITS_BYTES / (BYTES_A_LOGIT * Math.min(vocabularySize(this.#model), LOGITS_BYTES))
    const ofEntries = ENTRIES_A_STEP / (1 + alternatives)
    return Math.max(unitOf(true), Math.floor(Math.min(ofLogits, ofEntries) / this.#pacing.running))
  }

  async #evaluate(piece: Token[], next: Token[], slot: Slot, alternatives: number): Promise<PromptLogprob[]> {
    const results = await slot.sequence.controlledEvaluate(
      piece.map((token, i) => {
        const wanted = next[i]
        const filter = { tokens: wanted === undefined ? [] : [wanted], includeSelected: true, includeTop: alternatives }
        return [token, { generateNext: { logits: { filter }, totalLogitWeight: true } }]
      }),
      { evaluationPriority: slot.priority },
    )
    return next.map((token, i) => {
      const { logits, totalLogitWeight } = results[i]?.next ?? {}
      if (logits === undefined || totalLogitWeight === undefined) {
        throw MeshError.ENGINE_FAILED('node-llama-cpp gave no logits for a token; use the version in package.json')
      }
      const scale = Math.max(...logits.values()) + Math.log(totalLogitWeight)
      const logprobs = new Map([...logits].map(([id, logit]) => [id, logit - scale]))
      return this.#formatter.format(token, logprobs, alternatives)
    })
  }

  #first(token: Token, put: number): PromptLogprob {
    return { ...this.#formatter.piece(token, put > 0), logprob: null, top: [] }
  }

  /** What tokens say, one after the other; those that were put in front of the prompt say nothing. */
  #textOf(put: number): (ids: readonly Token[]) => string {
    const stream = new TextStream<Token>((ids, before) => this.#model.detokenize(ids, true, before), [])
    let silent = put
    return (ids) => ids.map((id) => (silent-- > 0 ? '' : stream.push(id).text)).join('')
  }
}

function echoed(
  index: number,
  ids: Token[],
  text: (ids: readonly Token[]) => string,
  logprobs?: PromptLogprob[],
): TokenBatch {
  const echo = { index, ids, text: text(ids), ...(logprobs !== undefined && { logprobs }) }
  return { index: 0, ids: [], text: '', echo }
}

function checkCancelled(job: GenerateJob): void {
  if (job.signal.aborted) throw MeshError.CANCELLED('The generation was cancelled')
}
