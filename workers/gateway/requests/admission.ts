import { type JournalRecord, MeshError } from '../../../lib/protocol/index.js'
import type { Demand } from './limiter.js'
import type { RequestsParts } from './ports.js'
import { NO_TOKENS, type RequestContext, type RequestState } from './state.js'

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
   * Says no to a request that has not been read, where its limits or this gateway's state say so whatever it asks.
   * @throws MeshError SHUTTING_DOWN, CONFLICT, DISK_FULL, RATE_LIMITED
   */
  assertMayAsk(kind: JournalRecord['kind'], context: Pick<RequestContext, 'requestId' | 'principal'>): void {
    const startedMs = this.#parts.clock.now()
    try {
      this.#assertOpen(context.requestId)
      this.#parts.journal.assertWritable()
      this.#parts.limiter.assertMayAsk(context.principal)
    } catch (err) {
      throw this.#refused(kind, undefined, context, startedMs, err)
    }
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
    const { catalogue, limiter, journal, observer, clock } = this.#parts
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
        suspect: false,
        begun: false,
        usage: { ...NO_TOKENS },
        recorded: false,
      }
    } catch (err) {
      throw this.#refused(kind, known, context, startedMs, err)
    }
  }

  /** Takes a request back that was let in, and of which nothing has been begun. */
  withdraw({ reservation, context }: RequestState): void {
    reservation.withdraw()
    this.leave(context)
  }

  #refused(
    kind: JournalRecord['kind'],
    model: string | undefined,
    { requestId, principal }: Pick<RequestContext, 'requestId' | 'principal'>,
    startedMs: number,
    err: unknown,
  ): MeshError {
    const { observer, log, clock } = this.#parts
    const failure = MeshError.from(err)
    const { code, message: reason } = failure
    observer.refused(kind, model, code, clock.now() - startedMs)
    log.info({ requestId, keyId: principal.keyId, model, code, reason }, 'request not served')
    return failure
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
