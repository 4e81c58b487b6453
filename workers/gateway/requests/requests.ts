import type {
  EmbeddingRequest,
  EmbeddingResult,
  Finish,
  InferenceRequest,
  JournalRecord,
  Route,
} from '../../../lib/protocol/index.js'
import { Admission } from './admission.js'
import { demandOf, isPrepared } from './demand.js'
import { embed } from './embed.js'
import { Placement } from './placement.js'
import type { RequestsParts, Tell } from './ports.js'
import { relay } from './relay.js'
import { Settlement } from './settlement.js'
import { generationState, type RequestContext, type RequestState } from './state.js'

/** A request's way through the gateway: it is admitted, queued, placed on a processor, relayed and settled. */
export class Requests {
  readonly #parts: RequestsParts
  readonly #admission: Admission
  readonly #placement: Placement
  readonly #settlement: Settlement

  constructor(parts: RequestsParts) {
    this.#parts = parts
    this.#admission = new Admission(parts)
    this.#placement = new Placement(parts)
    this.#settlement = new Settlement(parts)
  }

  /** Requests that were let in and are not settled. */
  get running(): number {
    return this.#admission.running
  }

  /** Refuses new requests, and resolves once none runs. */
  drain(): Promise<void> {
    return this.#admission.drain()
  }

  /** Says no before a request is read. @throws MeshError where it would be refused whatever it asks */
  assertMayAsk(kind: JournalRecord['kind'], context: Pick<RequestContext, 'requestId' | 'principal'>): void {
    this.#admission.assertMayAsk(kind, context)
  }

  /**
   * Runs one generation and tells its events as they come. The finish is the return value: it comes after the usage
   * record is in the journal.
   * @throws MeshError; a request that was let in is recorded all the same
   */
  async generate(request: InferenceRequest, context: RequestContext, tell: Tell): Promise<Finish> {
    const admitted = this.#admission.admit(request.kind, request.model, demandOf(request), context)
    const generation = generationState(admitted, request)
    try {
      const reason = await this.#placement.serve(
        generation,
        (processor, begun) => {
          const telling: Tell = (event) => {
            if (event.type === 'tokens') begun()
            tell(event)
          }
          return relay(generation, processor, telling, this.#parts)
        },
        isPrepared(request),
        (position) => tell({ type: 'queued', position }),
      )
      const totalMs = this.#settlement.finished(generation, reason)
      const { usage, queueMs, firstTokenMs } = generation
      return { reason, usage, timing: { queueMs, firstTokenMs, totalMs }, route: this.#route(generation) }
    } catch (err) {
      throw this.#settlement.failed(generation, err)
    } finally {
      this.#admission.leave(context)
    }
  }

  /** Embeds texts. @throws MeshError; a request that was let in is recorded all the same */
  async embed(asked: EmbeddingRequest, context: RequestContext): Promise<EmbeddingResult> {
    const request = this.#admission.admit('embedding', asked.model, demandOf(asked), context)
    try {
      const embeddings = await this.#placement.serve(
        request,
        (processor) => embed(request, processor, asked.input),
        false,
      )
      this.#settlement.finished(request, 'stop')
      const { requestId } = context
      return { requestId, model: request.model.name, embeddings, usage: request.usage, route: this.#route(request) }
    } catch (err) {
      throw this.#settlement.failed(request, err)
    } finally {
      this.#admission.leave(context)
    }
  }

  #route({ model, processor = '' }: RequestState): Route {
    const { name, hash, quantisation } = model
    return { model: name, modelHash: hash, quantisation, processor, gateway: this.#parts.gateway }
  }
}
