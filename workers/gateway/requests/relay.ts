import { type FinishReason, type GenerateEvent, MeshError } from '../../../lib/protocol/index.js'
import { EchoReader } from './echo.js'
import type { Processor, RequestsParts, Tell } from './ports.js'
import { addBatch, type GenerationState, heed, NO_TOKENS } from './state.js'

/**
 * Has a processor generate, tells the caller its events as they come and keeps in the generation's state what was told
 * and what was used. A caller that leaves is told nothing more, but what was made until the processor stopped counts.
 * @returns why the answer ended; what it used is in the state
 * @throws MeshError: the processor's own, TIMEOUT when it falls silent, PROCESSOR_LOST when tokens are missing
 */
export async function relay(
  generation: GenerationState,
  processor: Processor,
  tell: Tell,
  { clock, stallMs }: Pick<RequestsParts, 'clock' | 'stallMs'>,
): Promise<FinishReason> {
  const { context, request, told, model } = generation
  const most = request.maxTokens ?? model.contextLength
  const answer = processor.generate({ requestId: context.requestId, request }, context.signal)
  const echoed = new EchoReader(told.echo, model.contextLength, request.logprobs !== undefined)
  let stalled = false
  let failure: unknown
  let full = false
  const end = (err: unknown): void => {
    failure ??= err
    answer.cancel()
  }
  generation.usage = { ...NO_TOKENS }
  const timer = clock.timer(stallMs, () => {
    stalled = true
    answer.cancel()
  })
  try {
    // After the processor was asked: it works while the caller reads this.
    tell({ type: 'started', processor: processor.name })
    for await (const event of answer) {
      timer.restart()
      if (event.type === 'finish') {
        heed(generation, event.usage)
        if (failure !== undefined) break
        return full ? 'length' : event.reason
      }
      if (event.type !== 'tokens') continue
      if (event.usage !== undefined) {
        heed(generation, event.usage)
        holdPrompt(generation, end)
      }
      if (event.echo !== undefined) {
        const echo = echoed.take(event.echo)
        if (echo === undefined || failure !== undefined || context.signal.aborted) continue
        try {
          tell({ type: 'tokens', index: 0, ids: [], text: '', echo })
        } catch (err) {
          end(err)
        }
        continue
      }
      if (isUsageAlone(event)) continue
      if (event.index !== told.ids.length) {
        throw MeshError.PROCESSOR_LOST(
          `processor ${processor.name} sent token ${event.index} where ${told.ids.length} was next; the answer is not complete`,
        )
      }
      addBatch(generation, event)
      if (told.ids.length > most) {
        throw MeshError.PROCESSOR_LOST(
          `processor ${processor.name} sent more than the ${most} tokens that were asked for`,
        )
      }
      if (failure !== undefined || full || context.signal.aborted) continue
      generation.firstTokenMs ??= clock.now() - generation.startedMs
      generation.begun = true
      try {
        tell(event.usage === undefined ? event : withoutUsage(event))
      } catch (err) {
        end(err)
        continue
      }
      full ||= isFull(generation, most)
      if (full) answer.cancel()
    }
    if (full) return 'length'
    throw MeshError.PROCESSOR_LOST(`processor ${processor.name} ended the answer without a finish`)
  } catch (err) {
    answer.cancel()
    if (failure !== undefined) throw failure
    if (full) return 'length'
    if (stalled) throw MeshError.TIMEOUT(`processor ${processor.name} sent nothing for ${stallMs} ms`)
    throw err
  } finally {
    timer.stop()
  }
}

/** Holds what the prompt has come to against the limits, or ends the request as they would have refused it. */
function holdPrompt({ reservation, usage }: GenerationState, end: (err: unknown) => void): void {
  try {
    reservation.correct(usage.promptTokens)
  } catch (err) {
    end(err)
  }
}

/** True where the budget has become the answer's end before what the processor was told. */
function isFull({ reservation, told }: GenerationState, most: number): boolean {
  const { maxTokens = most } = reservation
  return maxTokens < most && told.ids.length >= maxTokens
}

type Tokens = Extract<GenerateEvent, { type: 'tokens' }>

function isUsageAlone({ ids, text, calls, logprobs }: Tokens): boolean {
  return ids.length === 0 && text === '' && calls === undefined && logprobs === undefined
}

/** What a processor has used is between it and its gateway. */
function withoutUsage({ usage: _, ...event }: Tokens): Tokens {
  return event
}
