import type { LlamaModel, Token } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'
import type { FinishReason, InferenceRequest, TokenBatch, TokenLogprob, Usage } from '../../../lib/protocol/index.js'
import type { Batching } from './batching.js'
import type { Constraint } from './constraint.js'
import type { LogprobFormatter } from './logprobs.js'
import { Mask } from './masking.js'
import type { EngineFinish } from './messages.js'
import type { Pacing } from './pace.js'
import type { Prompt } from './prompt.js'
import { samplerOptions } from './sampling.js'
import { isScored, type Scorer, type Tell } from './scoring.js'
import type { Slot } from './slots.js'
import { type Piece, TextStream } from './text-stream.js'
import { ToldLogprobs } from './told-logprobs.js'
import type { CallReader } from './tools/index.js'
import { endTokensOf } from './vocabulary.js'

/** One generation that a processor asked for. */
export interface GenerateJob {
  readonly id: number
  readonly request: InferenceRequest
  readonly signal: AbortSignal
  /** Counts the pieces of its prompt that are evaluated, and its tokens. */
  steps: number
  /** What has been evaluated so far. */
  usage: Usage
}

interface Evaluated {
  token: Token
  /** Log-probabilities: see useRawLogprobs. */
  probabilities?: Map<Token, number>
}

/** What all generations of one engine run on. */
export interface EngineParts {
  readonly model: LlamaModel
  readonly batching: Batching
  readonly pacing: Pacing
  readonly contextLength: number
  readonly logprobs: LogprobFormatter
  readonly scorer: Scorer
}

/**
 * Runs one generation in its slot: prompt, then token after token. Gives out every token as it comes, and with the first
 * and between the pieces of a long prompt what has been evaluated, which the job has too.
 * @throws MeshError CANCELLED; BAD_REQUEST where the grammar comes to a dead end, or takes too long
 */
export async function generate(
  parts: EngineParts,
  job: GenerateJob,
  slot: Slot,
  prompt: Prompt,
  constraint: Constraint | undefined,
  onTokens: Tell,
): Promise<EngineFinish> {
  const { model, batching, contextLength, logprobs: formatter, scorer } = parts
  const started = performance.now()
  const { request } = job
  const { logprobs: alternatives } = request
  const before = prompt.continues ? prompt.tokens : []
  const calls = constraint?.calls
  const text = new TextStream<Token>(
    (ids, last) => {
      const special = ids.some((id) => constraint?.visible.has(id))
      return model.detokenize(ids, special, last)
    },
    request.ignoreEos ? request.stop : [...request.stop, ...prompt.stopTexts],
    before,
    calls,
  )
  const most = Math.min(request.maxTokens ?? Number.POSITIVE_INFINITY, contextLength - prompt.tokens.length)
  const generated: Token[] = []
  const logprobs = new ToldLogprobs()
  const finish = (reason: FinishReason, firstAt: number): EngineFinish => ({
    reason,
    usage: { promptTokens: prompt.tokens.length, cachedTokens, completionTokens: generated.length },
    prefillMs: firstAt - started,
    decodeMs: performance.now() - firstAt,
  })

  const mask = constraint && new Mask(constraint.matcher)
  const never = request.ignoreEos ? [...(await endTokensOf(model)), ...prompt.stopTokens] : []
  const scored = isScored(request)
  const options = samplerOptions(model, request.sampling, slot, mask, generated, never)
  options.yieldEogToken = scored
  const cachedTokens = await slot.keepPrefix(scored ? [] : prompt.tokens)
  if (!scored && request.kind === 'completion' && request.echo) await scorer.echo(prompt, job, onTokens)
  batching.enter(slot.number)
  try {
    if (scored) await scorer.score(prompt, job, slot, alternatives ?? 0, onTokens)
    const left = prompt.tokens.slice(scored ? -1 : cachedTokens)
    const rest = await prefill(parts, job, slot, most === 0 ? left.slice(0, -1) : left, (left) => {
      job.usage = { promptTokens: prompt.tokens.length - left, cachedTokens, completionTokens: 0 }
      onTokens({ index: 0, ids: [], text: '', usage: job.usage })
    })
    if (most === 0) {
      await slot.sequence.evaluateWithoutGeneratingNewTokens(rest, { evaluationPriority: slot.priority })
      return finish('length', performance.now())
    }
    const stream: AsyncGenerator<Evaluated, void, void> = slot.sequence.evaluateWithMetadata(
      rest,
      { probabilities: alternatives !== undefined },
      options,
    )
    let firstAt: number | undefined
    for await (const { token, probabilities } of stream) {
      firstAt ??= performance.now()
      job.steps++
      job.usage = { promptTokens: prompt.tokens.length, cachedTokens, completionTokens: generated.length + 1 }
      checkCancelled(job)
      const logprob =
        alternatives !== undefined && probabilities && formatter.format(token, probabilities, alternatives)
      if (prompt.stopTokens.has(token) || (scored && model.isEogToken(token))) {
        // Who scores a prompt counts on one token behind it, be it the end.
        if (scored && logprob) onTokens({ index: generated.length, ids: [], text: '', logprobs: [silent(logprob)] })
        break
      }
      generated.push(token)
      const piece = text.push(token)
      const full = generated.length >= most
      // Before what is held back is taken out of it.
      const reason = endOf(piece, calls, full)
      const rest = full && !piece.stopped ? text.end(true) : ''
      const batch: TokenBatch = { index: generated.length - 1, ids: [token], text: piece.text + rest }
      if (generated.length === 1) batch.usage = job.usage
      if (piece.calls.length > 0) batch.calls = piece.calls
      if (logprob) {
        logprobs.push(scored ? 0 : text.reach, logprob)
        batch.logprobs = logprobs.take(batch.text.length)
      }
      onTokens(batch)
      if (reason) return finish(reason, firstAt)
      if (batching.gate) {
        await batching.gate
        checkCancelled(job)
      }
    }
    const tail = text.end()
    if (tail !== '') {
      const batch: TokenBatch = { index: generated.length, ids: [], text: tail }
      if (alternatives !== undefined) batch.logprobs = logprobs.take(tail.length)
      onTokens(batch)
    }
    return finish(calls?.complete ? 'tool_calls' : 'stop', firstAt ?? performance.now())
  } catch (err) {
    // The library only says that there was no token.
    throw mask?.failure ?? err
  } finally {
    batching.leave(slot.number)
  }
}

/** A token that is no part of the text. */
function silent(logprob: TokenLogprob): TokenLogprob {
  return { ...logprob, bytes: [] }
}

/** Why the answer ends behind this piece; undefined where it goes on. */
function endOf({ stopped }: Piece, calls: CallReader | undefined, full: boolean): FinishReason | undefined {
  if (stopped) return 'stop'
  if (calls?.ended) return calls.complete > 0 ? 'tool_calls' : 'stop'
  if (full && calls?.whole) return 'tool_calls'
  return full ? 'length' : undefined
}

/**
 * Evaluates the prompt in pieces, up to the last one, which it gives back: its evaluation yields the first token.
 * @param onPiece told how many tokens are left
 */
function prefill(
  { batching, pacing }: Pick<EngineParts, 'batching' | 'pacing'>,
  job: GenerateJob,
  slot: Slot,
  tokens: Token[],
  onPiece: (left: number) => void,
): Promise<Token[]> {
  return pacing.beside(async (pace) => {
    let rest = tokens
    while (true) {
      checkCancelled(job)
      await batching.gate
      checkCancelled(job)
      const size = pace.next(rest.length, batching.running > pacing.running)
      if (rest.length === size) return rest
      const began = batching.promptClock
      await slot.sequence.evaluateWithoutGeneratingNewTokens(rest.slice(0, size), { evaluationPriority: slot.priority })
      rest = rest.slice(size)
      job.steps++
      onPiece(rest.length)
      pace.took(size, batching.promptClock - began)
    }
  })
}

function checkCancelled(job: GenerateJob): void {
  if (job.signal.aborted) throw MeshError.CANCELLED('The generation was cancelled')
}
