import { type JournalRecord, MeshError } from '../../../lib/protocol/index.js'
import type { RequestsParts } from './ports.js'
import { type RequestState, tokensUsed } from './state.js'

/** The last step: records what a request used, and gives back what was reserved for it. Once for each that was let in. */
export class Settlement {
  readonly #parts: Pick<RequestsParts, 'journal' | 'observer' | 'log' | 'clock'>

  constructor(parts: Pick<RequestsParts, 'journal' | 'observer' | 'log' | 'clock'>) {
    this.#parts = parts
  }

  /**
   * Settles a request whose answer is complete. The caller may be told of its finish once this has returned.
   * @returns milliseconds from its admission
   * @throws MeshError DISK_FULL where the journal cannot be written: the request has failed then
   */
  finished(request: RequestState, outcome: string): number {
    const totalMs = this.#elapsedMs(request)
    const record = this.#record(request, outcome, totalMs)
    this.#settle(request, outcome, totalMs)
    this.#parts.log.debug(record, 'request')
    return totalMs
  }

  /** Settles a request that failed. @returns what to tell its caller */
  failed(request: RequestState, err: unknown): MeshError {
    const failure = MeshError.from(err)
    const { requestId, principal } = request.context
    const { code, message: reason } = failure
    const totalMs = this.#elapsedMs(request)
    if (!request.recorded) {
      try {
        this.#record(request, code, totalMs)
      } catch {
        // The journal keeps the record and takes no more requests; this caller is told of its own failure.
      }
    }
    this.#settle(request, code, totalMs)
    const facts = { requestId, keyId: principal.keyId, model: request.model.name, code, reason }
    this.#parts.log.info(facts, 'request not served')
    return failure
  }

  /** @throws MeshError DISK_FULL */
  #record(request: RequestState, outcome: string, totalMs: number): JournalRecord {
    const { kind, context, model, arrivedAt, processor, usage, queueMs, firstTokenMs } = request
    const { requestId, principal } = context
    const { parents } = principal.limits
    const record: JournalRecord = {
      requestId,
      at: arrivedAt,
      keyId: principal.keyId,
      ...(parents.length > 0 && { parents: parents.map(({ keyId }) => keyId) }),
      user: principal.user,
      model: model.name,
      kind,
      processor,
      ...usage,
      outcome,
      queueMs,
      firstTokenMs,
      totalMs,
    }
    request.recorded = true
    this.#parts.journal.append(record)
    return record
  }

  #settle(request: RequestState, outcome: string, totalMs: number): void {
    request.reservation.settle(tokensUsed(request))
    this.#parts.observer.settled(request, outcome, totalMs)
  }

  #elapsedMs({ startedMs }: RequestState): number {
    return this.#parts.clock.now() - startedMs
  }
}
