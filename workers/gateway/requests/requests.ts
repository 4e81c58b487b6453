import {
  type EmbeddingRequest,
  type EmbeddingResult,
  type Finish,
  type InferenceRequest,
  type JournalRecord,
  MeshError,
  type Route,
} from '../../../lib/protocol/index.js'
import { Admission } from './admission.js'
import { demandOf, isPrepared } from './demand.js'
import { embed } from './embed.js'
import type { Demand } from './limiter.js'
import { Placement } from './placement.js'
import type { AnswerEvent, RequestsParts, Tell } from './ports.js'
import { relay } from './relay.js'
import { Settlement } from './settlement.js'
import { generationState, isCutByBudget, type RequestContext, type RequestState } from './state.js'

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
    return this.#run(this.#admission.admit(request.kind, request.model, demandOf(request), context), request, tell)
  }

  /**
   * Runs several generations of one caller at the same time. They are let in together: where the limits or the queue have
   * no room for all, none is begun and nothing is charged.
   * @param tell told each event, with the number of the generation
   * @returns a promise for each
   * @throws MeshError
   */
  generateAll(
    asked: readonly { request: InferenceRequest; context: RequestContext }[],
    tell: (event: AnswerEvent, index: number) => void,
  ): Promise<Finish>[] {
    const admitted = this.#admitAll(asked)
    /** Each is sent in a turn of the loop of its own: it may be long. */
    let turn = Promise.resolve()
    return asked.map(({ request }, i) => {
      const own = turn
      turn = own.then(nextTurn)
      const state = admitted[i]
      if (state === undefined) throw MeshError.INTERNAL('A request was let in and is not there')
      return this.#run(state, request, (event) => tell(event, i), own)
    })
  }

  #admitAll(asked: readonly { request: InferenceRequest; context: RequestContext }[]): RequestState[] {
    const admitted: RequestState[] = []
    let last: { request: InferenceRequest; demand: Demand } | undefined
    try {
      for (const { request, context } of asked) {
        // Many answers to one long text: it is looked at once.
        const demand = last !== undefined && isSamePrompt(last.request, request) ? last.demand : demandOf(request)
        last = { request, demand }
        admitted.push(this.#admission.admit(request.kind, request.model, demand, context))
      }
      const [first] = asked
      const model = admitted[0]?.model.name
      if (first !== undefined && model !== undefined && asked.length > 1) {
        const { user } = first.context.principal
        const preparedFor = isPrepared(first.request) ? user : undefined
        this.#parts.scheduler.assertRoom({ model, user, preparedFor }, asked.length)
      }
      return admitted
    } catch (err) {
      for (const state of admitted) this.#admission.withdraw(state)
      throw asked.length > 1 ? noneBegun(MeshError.from(err), asked.length) : err
    }
  }

  async #run(
    admitted: RequestState,
    request: InferenceRequest,
    tell: Tell,
    ready: Promise<void> | undefined = undefined,
  ): Promise<Finish> {
    const { context } = admitted
    const generation = generationState(admitted, request)
    try {
      const reason = await this.#placement.serve(
        generation,
        async (processor, begun) => {
          await ready
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
      return {
        reason,
        ...(isCutByBudget(generation, reason) && { cutBy: 'budget' }),
        usage,
        timing: { queueMs, firstTokenMs, totalMs },
        route: this.#route(generation),
      }
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

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** What has refused one of several, in words about all. */
function noneBegun({ code, message, details }: MeshError, count: number): MeshError {
  return new MeshError(
    code,
    `${message}. ${count} answers were asked for at once, and each counts; none was begun`,
    details,
  )
}

/** Whether two requests of one call ask for answers to the same. */
function isSamePrompt(one: InferenceRequest, other: InferenceRequest): boolean {
  if (one.maxTokens !== other.maxTokens) return false
  if (one.kind === 'chat') {
    return other.kind === 'chat' && one.messages === other.messages && one.tools === other.tools
  }
  return other.kind === 'completion' && one.prompt === other.prompt
}
