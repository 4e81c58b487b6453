import { randomInt } from 'node:crypto'
import type { LlamaGrammarEvaluationState, LlamaModel, SequenceEvaluateOptions, Token } from 'node-llama-cpp'
import { MeshError } from '../../../lib/protocol/errors.js'
import type { FinishReason, InferenceRequest, Sampling } from '../../../lib/protocol/inference.js'
import type { Batching } from './batching.js'
import type { DeadEnds, GrammarWatch } from './dead-end.js'
import type { EngineFinish, TokenBatch } from './messages.js'
import type { Prompt } from './prompt.js'
import type { Slot } from './slots.js'
import { TextStream } from './text-stream.js'

/** llama.cpp's own defaults. */
const DEFAULTS = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05 } as const
/** How far back the penalties look. */
const PENALTY_TOKENS = 256
/** A cancelled prompt is noticed between two pieces of it, so a piece should take no longer than this. */
const PIECE_MS = 80
const SMALLEST_PIECE = 16

export interface Job {
  readonly id: number
  readonly request: InferenceRequest
  cancelled: boolean
}

export interface Machinery {
  readonly model: LlamaModel
  readonly batching: Batching
  readonly batchSize: number
  readonly contextLength: number
  readonly deadEnds: DeadEnds
}

/**
 * Runs one generation in its slot: prompt, then token after token. Tells every token as it comes.
 * @throws MeshError CANCELLED; BAD_REQUEST at a grammar's dead end, after which the slot is stuck and must be renewed
 */
export async function generate(
  { model, batching, batchSize, contextLength, deadEnds }: Machinery,
  job: Job,
  slot: Slot,
  prompt: Prompt,
  grammar: LlamaGrammarEvaluationState | undefined,
  tell: (batch: TokenBatch) => void,
): Promise<EngineFinish> {
  const started = performance.now()
  const { request } = job
  const before = prompt.continues ? prompt.tokens : []
  const text = new TextStream(
    (ids, last) => model.detokenize(ids as Token[], false, last as Token[]),
    [...request.stop, ...prompt.stopTexts],
    before,
  )
  const most = Math.min(request.maxTokens ?? Number.POSITIVE_INFINITY, contextLength - prompt.tokens.length)
  const generated: Token[] = []
  const finish = (reason: FinishReason, firstAt: number): EngineFinish => ({
    reason,
    usage: { promptTokens: prompt.tokens.length, cachedTokens, completionTokens: generated.length },
    prefillMs: firstAt - started,
    decodeMs: performance.now() - firstAt,
  })

  const cachedTokens = await slot.keepPrefix(prompt.tokens)
  const watch = grammar && deadEnds.open()
  batching.enter(slot.number)
  try {
    const rest = await prefill(batching, batchSize, job, slot, prompt.tokens.slice(cachedTokens))
    const stream = slot.sequence.evaluateWithMetadata(
      rest,
      {},
      samplerOptions(request.sampling, slot, grammar && watched(grammar, watch), generated),
    )
    let firstAt: number | undefined
    for await (const { token } of watch ? guarded(stream, watch) : stream) {
      firstAt ??= performance.now()
      checkCancelled(job)
      if (prompt.stopTokens.has(token)) break
      generated.push(token)
      const piece = text.push(token)
      const full = generated.length >= most
      const rest = full && !piece.stopped ? text.end() : ''
      tell({ id: job.id, index: generated.length - 1, ids: [token], text: piece.text + rest })
      if (piece.stopped) return finish('stop', firstAt)
      if (full) return finish('length', firstAt)
      if (batching.gate) {
        await batching.gate
        checkCancelled(job)
      }
    }
    const tail = text.end()
    if (tail !== '') tell({ id: job.id, index: generated.length, ids: [], text: tail })
    return finish('stop', firstAt ?? performance.now())
  } finally {
    batching.leave(slot.number)
    if (watch) {
      slot.stuck = watch.dead
      deadEnds.close(watch)
    }
  }
}

/** The library asks for the grammar's state right before it samples. */
function watched(grammar: LlamaGrammarEvaluationState, watch: GrammarWatch | undefined) {
  return () => {
    if (watch) watch.sampling = true
    return grammar
  }
}

/** The stream as it is, until a dead end: then it throws and leaves the stream alone, which would never end. */
async function* guarded<T>(stream: AsyncGenerator<T, void, void>, watch: GrammarWatch): AsyncGenerator<T> {
  try {
    while (true) {
      const next = await Promise.race([stream.next(), watch.death])
      watch.sampling = false
      watch.sampled++
      if (next.done) return
      yield next.value
    }
  } finally {
    if (!watch.dead) await stream.return()
  }
}

/** Evaluates the prompt in pieces, up to the last one, which it gives back: its evaluation yields the first token. */
async function prefill(batching: Batching, batchSize: number, job: Job, slot: Slot, tokens: Token[]): Promise<Token[]> {
  let rest = tokens
  let piece = Math.min(batchSize, 4 * SMALLEST_PIECE)
  while (true) {
    checkCancelled(job)
    await batching.gate
    checkCancelled(job)
    if (rest.length <= piece) return rest
    const began = performance.now()
    await slot.sequence.evaluateWithoutGeneratingNewTokens(rest.slice(0, piece), { evaluationPriority: slot.priority })
    rest = rest.slice(piece)
    const speed = piece / (performance.now() - began)
    piece = Math.min(batchSize, Math.max(SMALLEST_PIECE, Math.round(speed * PIECE_MS)))
  }
}

function samplerOptions(
  sampling: Sampling,
  slot: Slot,
  grammarEvaluationState: (() => LlamaGrammarEvaluationState) | undefined,
  generated: readonly Token[],
): SequenceEvaluateOptions {
  const options: SequenceEvaluateOptions = {
    temperature: sampling.temperature ?? DEFAULTS.temperature,
    topK: sampling.topK ?? DEFAULTS.topK,
    topP: sampling.topP ?? DEFAULTS.topP,
    minP: sampling.minP ?? DEFAULTS.minP,
    // The library's own default is the time in seconds: two requests of one second would give the same answer.
    seed: sampling.seed ?? randomInt(2 ** 32),
    evaluationPriority: slot.priority,
    grammarEvaluationState,
  }
  const { repeatPenalty = 1, presencePenalty = 0, frequencyPenalty = 0 } = sampling
  if (repeatPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0) {
    options.repeatPenalty = {
      penalty: repeatPenalty,
      presencePenalty,
      frequencyPenalty,
      punishTokens: () => generated.slice(-PENALTY_TOKENS),
    }
  }
  return options
}

function checkCancelled(job: Job): void {
  if (job.cancelled) throw MeshError.CANCELLED('The generation was cancelled')
}
