import { type JournalRecord, MeshError } from '../../../lib/protocol/index.js'
import type { Demand } from './limiter.js'
import type { RequestsParts } from './ports.js'
import type { RequestContext, RequestState } from './state.js'

type Parts = Pick<RequestsParts, 'catalogue' | 'limiter' | 'journal' | 'observer' | 'log' | 'clock'>

/** The first step: lets a request in or says why not, and knows those that are in. */
export class Admission {
  readonly #parts: Parts
  readonly #running = new Set<string>()
  #onIdle: (() => void) | undefined
  #closing = false

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Requests that were let in and have not left. */
  get running(): number {
    return this.#running.size
  }

  /**
   * Lets a request in: from then on it must be settled and leave. One that is refused has cost nothing, and is counted
   * in the metrics alone.
   * @throws MeshError SHUTTING_DOWN, CONFLICT, DISK_FULL, MODEL_NOT_FOUND, and what the limits say
   */
  admit(
    kind: JournalRecord['kind'],
    modelName: string | undefined,
    demand: Demand,
    context: RequestContext,
  ): RequestState {
    const { catalogue, limiter, journal, observer, log, clock } = this.#parts
    const { requestId, principal } = context
    const startedMs = clock.now()
    let known: string | undefined
    try {
      this.#assertOpen(requestId)
      journal.assertWritable()
      const model = catalogue.model(modelName)
      known = model.name
      const reservation = limiter.admit(principal, model.name, demand)
      this.#running.add(requestId)
      observer.admitted(clock.now() - startedMs)
      return {
        kind,
        context,
        model,
        reservation,
        arrivedAt: clock.date(),
        startedMs,
        queueMs: 0,
        firstTokenMs: undefined,
        placements: 0,
        processor: undefined,
        failed: new Set(),
        begun: false,
        usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 },
        recorded: false,
      }
    } catch (err) {
      const failure = MeshError.from(err)
      const { code, message: reason } = failure
      observer.refused(kind, known, code, clock.now() - startedMs)
      log.info({ requestId, keyId: principal.keyId, model: known, code, reason }, 'request not served')
      throw failure
    }
  }

  /** A request that was let in is done. */
  leave({ requestId }: RequestContext): void {
    this.#running.delete(requestId)
    if (this.#running.size === 0) this.#onIdle?.()
  }

  /** Refuses new requests, and resolves once none runs. */
  async drain(): Promise<void> {
    this.#closing = true
    if (this.#running.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
  }

  #assertOpen(requestId: string): void {
    if (this.#closing)
      throw MeshError.SHUTTING_DOWN('This gateway is stopping; use another one', { retryAfterMs: 1000 })
    if (this.#running.has(requestId)) throw MeshError.CONFLICT(`The request id ${requestId} is in use`)
  }
}
