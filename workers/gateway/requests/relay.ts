import { type FinishReason, MeshError } from '../../../lib/protocol/index.js'
import type { Processor, RequestsParts, Tell } from './ports.js'
import { addBatch, type GenerationState } from './state.js'

/**
 * Has a processor generate, tells the caller its events as they come and keeps in the generation's state what was told.
 * @returns why the answer ended; what it used is in the state
 * @throws MeshError: the processor's own, TIMEOUT when it falls silent, PROCESSOR_LOST when tokens are missing
 */
export async function relay(
  generation: GenerationState,
  processor: Processor,
  tell: Tell,
  { clock, stallMs }: Pick<RequestsParts, 'clock' | 'stallMs'>,
): Promise<FinishReason> {
  const { context, request, told } = generation
  const answer = processor.generate({ requestId: context.requestId, request }, context.signal)
  let stalled = false
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
        generation.usage = event.usage
        return event.reason
      }
      if (event.type !== 'tokens') continue
      if (event.index !== told.ids.length) {
        throw MeshError.PROCESSOR_LOST(
          `processor ${processor.name} sent token ${event.index} where ${told.ids.length} was next; the answer is not complete`,
        )
      }
      generation.firstTokenMs ??= clock.now() - generation.startedMs
      generation.begun = true
      addBatch(generation, event)
      tell(event)
    }
    throw MeshError.PROCESSOR_LOST(`processor ${processor.name} ended the answer without a finish`)
  } catch (err) {
    answer.cancel()
    if (stalled) throw MeshError.TIMEOUT(`processor ${processor.name} sent nothing for ${stallMs} ms`)
    throw err
  } finally {
    timer.stop()
  }
}
