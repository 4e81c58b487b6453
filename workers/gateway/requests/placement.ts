import { type ErrorCode, MeshError } from '../../../lib/protocol/index.js'
import type { Processor, RequestsParts } from './ports.js'
import type { Slot } from './slot.js'
import { type RequestState, tokensUsed } from './state.js'

/** How many processors one request may be tried on before its first token. */
const MAX_ATTEMPTS = 3

/**
 * Errors of a processor that another processor may not have. ENGINE_ENDED is none of them: a request that has ended one
 * engine would end the next.
 */
const RETRIABLE: ReadonlySet<ErrorCode> = new Set([
  'LINK_CLOSED',
  'ENGINE_FAILED',
  'PROCESSOR_LOST',
  'SHUTTING_DOWN',
  'TIMEOUT',
])

/** Whether another processor may do what one could not. */
export function isRetriable({ code }: MeshError): boolean {
  return RETRIABLE.has(code)
}

/**
 * The steps in the middle: queues a request for a slot and gives it to the slot's processor; to another one while the
 * failure is the processor's and the caller has been told nothing of the answer.
 */
export class Placement {
  readonly #parts: Pick<RequestsParts, 'scheduler' | 'processorAt' | 'observer' | 'log'>

  constructor(parts: Pick<RequestsParts, 'scheduler' | 'processorAt' | 'observer' | 'log'>) {
    this.#parts = parts
  }

  /**
   * @param work what is done on the processor; calls `begun` once the first token is there
   * @param prepares whether the processor has something to prepare before the first token
   * @param onPosition told where the request stands in the queue, from 1
   * @throws MeshError: what the queue, the caller's signal or the last processor said
   */
  async serve<T>(
    request: RequestState,
    work: (processor: Processor, begun: () => void) => Promise<T>,
    prepares: boolean,
    onPosition: (position: number) => void = () => {},
  ): Promise<T> {
    for (;;) {
      const slot = await this.#queue(request, prepares, onPosition)
      try {
        const result = await work(this.#place(request, slot), () => slot.begun())
        slot.release(tokensUsed(request))
        return result
      } catch (err) {
        const failure = this.#failed(request, slot, MeshError.from(err))
        if (failure !== undefined) throw failure
      }
    }
  }

  async #queue(request: RequestState, prepares: boolean, onPosition: (position: number) => void): Promise<Slot> {
    const { context, model, failed, placements } = request
    const { keyId, user, limits } = context.principal
    const slot = await this.#parts.scheduler.acquire({
      model: model.name,
      // Keys that were made with one key have one turn together.
      keyId: limits.parents.at(-1)?.keyId ?? keyId,
      user,
      preparedFor: prepares ? user : undefined,
      avoid: failed,
      front: placements > 0,
      signal: context.signal,
      onPosition,
    })
    request.queueMs += slot.queueMs
    return slot
  }

  #place(request: RequestState, slot: Slot): Processor {
    const isFirst = request.placements++ === 0
    const processor = this.#parts.processorAt(slot.processor)
    if (processor === undefined) throw MeshError.PROCESSOR_LOST('The processor went away')
    request.processor = processor.name
    this.#parts.observer.routed(isFirst ? 'least_loaded' : 'retry')
    return processor
  }

  /** Gives the slot back. @returns what to tell the caller; undefined where the request is to be placed once more */
  #failed(request: RequestState, slot: Slot, failure: MeshError): MeshError | undefined {
    const { observer, log } = this.#parts
    const { context, begun, failed, processor } = request
    const { code, details } = failure
    if (code === 'BUSY') slot.bounce()
    else slot.release(tokensUsed(request))
    if (context.signal.aborted) return abortReason(context.signal)
    if (code === 'BUSY' && !begun) {
      observer.retried('busy')
      return undefined
    }
    if (begun || !RETRIABLE.has(code) || failed.size + 1 >= MAX_ATTEMPTS) return inCallersWords(failure, processor)
    if (code === 'ENGINE_FAILED' && details.suspect === true) {
      if (request.suspect) return twoEngines(failure)
      request.suspect = true
    }
    failed.add(slot.processor)
    observer.retried('processor_failed')
    log.warn({ requestId: context.requestId, processor, code, reason: failure.message }, 'trying another processor')
    return undefined
  }
}

/** An engine that ends while it works on several requests says not which it was. Two that end with the same one do. */
function twoEngines(cause: MeshError): MeshError {
  return MeshError.ENGINE_ENDED(
    'Two engines ended while they worked on this request. It is not tried on another',
    {},
    { cause },
  )
}

function abortReason({ reason }: AbortSignal): MeshError {
  return reason instanceof MeshError ? reason : MeshError.CANCELLED('The caller went away')
}

/** The caller's own link stands: it was the processor's that closed. */
function inCallersWords(failure: MeshError, processor: string | undefined): MeshError {
  if (failure.code !== 'LINK_CLOSED') return failure
  const lost = `processor ${processor} was lost before the answer was complete`
  return MeshError.PROCESSOR_LOST(lost, {}, { cause: failure })
}
