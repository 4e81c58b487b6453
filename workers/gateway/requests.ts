import type { Link } from '../../lib/link/index.js'
import {
  type EmbeddingRequest,
  type EmbeddingResult,
  type Finish,
  type GenerateEvent,
  type InferenceRequest,
  type JournalRecord,
  MeshError,
  type Model,
  type Route,
  type Usage,
} from '../../lib/protocol/index.js'
import type { Principal } from '../../lib/store/index.js'
import type { Logger, Net } from '../../lib/worker-base/index.js'
import type { Journal } from './journal.js'
import { type Demand, estimateTokens, type Lease, type Limiter } from './limiter.js'
import type { GatewayMetrics } from './metrics.js'
import type { Scheduler, Ticket } from './scheduler.js'

/** How often one request may be tried, on different processors, before its first token. */
const MAX_ATTEMPTS = 3

/** Texts embedded by one call to a processor: their vectors must fit into one message, whatever their length. */
const EMBED_TEXTS = 32
const EMBED_CHARS = 1024 * 1024

/** Errors of a processor that another processor may not have. */
const RETRIABLE = new Set(['LINK_CLOSED', 'ENGINE_FAILED', 'PROCESSOR_LOST', 'SHUTTING_DOWN', 'TIMEOUT'])

export interface RequestsOptions {
  net: Net
  limiter: Limiter
  scheduler: Scheduler
  journal: Journal
  metrics: GatewayMetrics
  log: Logger
  /** This gateway's name, for the route of an answer. */
  gateway: string
  /** The model of requests that name none; empty: the first of the mesh, by name. */
  defaultModel: string
  /** A processor that sends nothing for this long has lost the request. */
  stallMs: number
}

/** Who asks, and how to stop. */
export interface Asking {
  requestId: string
  principal: Principal
  signal: AbortSignal
}

type Kind = JournalRecord['kind']

/** What is known of a request while it is under way; becomes its journal record. */
interface Progress {
  startedAt: number
  queueMs: number
  firstTokenMs: number | undefined
  processor: string | undefined
  usage: Usage
}

/** A request's way through the gateway: admission, queue, choice, relay, settlement. */
export class Requests {
  readonly #options: RequestsOptions
  readonly #running = new Set<string>()
  #onIdle: (() => void) | undefined
  #closing = false

  constructor(options: RequestsOptions) {
    this.#options = options
  }

  get running(): number {
    return this.#running.size
  }

  /** Refuses new requests, and resolves once none runs. */
  async drain(): Promise<void> {
    this.#closing = true
    if (this.#running.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
  }

  /**
   * Runs one generation and hands its events over as they come. The finish is the return value: it comes after the
   * usage record is in the journal.
   * @throws MeshError; the request is recorded all the same
   */
  async generate(
    request: InferenceRequest,
    asking: Asking,
    emit: (event: Exclude<GenerateEvent, { type: 'finish' }>) => void,
  ): Promise<Finish> {
    const demand = { promptTokens: estimateTokens(textsOf(request)), maxTokens: request.maxTokens }
    return this.#serve(request.kind, request.model, demand, asking, async (model, lease, progress) => {
      const bounded = lease.maxTokens === undefined ? request : { ...request, maxTokens: lease.maxTokens }
      const finish = await this.#relay({ ...bounded, model: model.name }, model, asking, progress, emit)
      return {
        outcome: finish.reason,
        result: (totalMs: number): Finish => ({
          ...finish,
          timing: { queueMs: progress.queueMs, firstTokenMs: progress.firstTokenMs, totalMs },
          route: this.#route(model, progress),
        }),
      }
    })
  }

  /** Embeds texts. @throws MeshError */
  async embed(request: EmbeddingRequest, asking: Asking): Promise<EmbeddingResult> {
    const demand = { promptTokens: estimateTokens(request.input), maxTokens: 0 }
    return this.#serve('embedding', request.model, demand, asking, async (model, _lease, progress) => {
      const answer = await this.#attempt(model, asking, progress, NOTHING, async (link) => {
        const embeddings: number[][] = []
        const usage = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 }
        for (const input of embeddingBatches(request.input)) {
          const part = await link.call(
            'processor.embed',
            { model: model.name, input },
            { signal: asking.signal, requestId: asking.requestId },
          )
          // One by one: a large answer spread as arguments overflows the stack.
          for (const vector of part.embeddings) embeddings.push(vector)
          usage.promptTokens += part.usage.promptTokens
          progress.usage = usage
        }
        return { model: model.name, embeddings, usage }
      })
      return {
        outcome: 'stop',
        result: (): EmbeddingResult => ({
          ...answer,
          requestId: asking.requestId,
          route: this.#route(model, progress),
        }),
      }
    })
  }

  /** What every kind of request has in common: admission before, record and settlement after. */
  async #serve<T>(
    kind: Kind,
    modelName: string | undefined,
    demand: Demand,
    asking: Asking,
    work: (
      model: Model,
      lease: Lease,
      progress: Progress,
    ) => Promise<{ outcome: string; result: (totalMs: number) => T }>,
  ): Promise<T> {
    const { limiter, journal, metrics, log } = this.#options
    const { requestId, principal } = asking
    const started = performance.now()
    const progress: Progress = {
      startedAt: Date.now(),
      queueMs: 0,
      firstTokenMs: undefined,
      processor: undefined,
      usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 },
    }
    let model: Model | undefined
    let lease: Lease | undefined
    let outcome = 'INTERNAL'
    try {
      if (this.#closing)
        throw MeshError.SHUTTING_DOWN('This gateway is stopping; use another one', { retryAfterMs: 1000 })
      if (this.#running.has(requestId)) throw MeshError.CONFLICT(`The request id ${requestId} is in use`)
      journal.assertWritable()
      model = this.#model(modelName)
      lease = limiter.admit(principal, model.name, demand)
      this.#running.add(requestId)
      metrics.admitted((performance.now() - started) / 1000)
      const { outcome: done, result } = await work(model, lease, progress)
      outcome = done
      const totalMs = performance.now() - started
      this.#record(kind, model, asking, progress, outcome, totalMs)
      return result(totalMs)
    } catch (err) {
      const failure = MeshError.from(err)
      outcome = failure.code
      log.info(
        { requestId, keyId: principal.keyId, model: model?.name, code: outcome, reason: failure.message },
        'request not served',
      )
      // A refusal cost nothing and is counted in the metrics alone; what was let in is recorded.
      if (lease !== undefined && model !== undefined && failure.code !== 'DISK_FULL') {
        try {
          this.#record(kind, model, asking, progress, outcome, performance.now() - started)
        } catch {
          // The journal keeps the record and takes no more requests; this caller is told of its own failure.
        }
      }
      throw failure
    } finally {
      lease?.settle(progress.usage.promptTokens + progress.usage.completionTokens)
      metrics.served(model?.name, kind, outcome, progress, (performance.now() - started) / 1000)
      if (lease !== undefined) {
        this.#running.delete(requestId)
        if (this.#running.size === 0) this.#onIdle?.()
      }
    }
  }

  /** @throws MeshError DISK_FULL */
  #record(kind: Kind, model: Model, asking: Asking, progress: Progress, outcome: string, totalMs: number): void {
    const { requestId, principal } = asking
    const record: JournalRecord = {
      requestId,
      at: progress.startedAt,
      keyId: principal.keyId,
      user: principal.user,
      model: model.name,
      kind,
      processor: progress.processor,
      ...progress.usage,
      outcome,
      queueMs: progress.queueMs,
      firstTokenMs: progress.firstTokenMs,
      totalMs,
    }
    this.#options.journal.append(record)
    this.#options.log.info(record, 'request')
  }

  /** Relays the events of one generation; tries another processor where nothing has been emitted yet. */
  async #relay(
    request: InferenceRequest,
    model: Model,
    asking: Asking,
    progress: Progress,
    emit: (event: Exclude<GenerateEvent, { type: 'finish' }>) => void,
  ): Promise<Finish> {
    const startedAt = performance.now()
    let emitted = 0
    let told = false
    const finish = await this.#attempt(
      model,
      asking,
      progress,
      { begun: () => told, onPosition: (position) => emit({ type: 'queued', position }) },
      async (link) => {
        let stalled = false
        const generation = link.generate({ requestId: asking.requestId, request }, asking.signal)
        const timer = setTimeout(() => {
          stalled = true
          generation.cancel()
        }, this.#options.stallMs)
        try {
          // After the processor was asked: it works while the caller reads this.
          emit({ type: 'started', processor: progress.processor ?? '' })
          for await (const event of generation) {
            timer.refresh()
            if (event.type === 'finish') {
              progress.usage = event.usage
              return { reason: event.reason, usage: event.usage }
            }
            if (event.type === 'tokens') {
              if (event.index !== emitted) {
                throw MeshError.PROCESSOR_LOST(
                  `${link.label} sent token ${event.index} where ${emitted} was next; the answer is not complete`,
                )
              }
              progress.firstTokenMs ??= performance.now() - startedAt
              emitted += event.ids.length
              told = true
              progress.usage.completionTokens = emitted
              emit(event)
            }
          }
          throw MeshError.PROCESSOR_LOST(`${link.label} ended the answer without a finish`)
        } catch (err) {
          generation.cancel()
          if (stalled) throw MeshError.TIMEOUT(`${link.label} sent nothing for ${this.#options.stallMs} ms`)
          throw err
        } finally {
          clearTimeout(timer)
        }
      },
    )
    return finish
  }

  /** Takes a slot and works with its processor; another slot while the failure is the processor's and nothing was emitted. */
  async #attempt<T>(
    model: Model,
    asking: Asking,
    progress: Progress,
    stream: { begun: () => boolean; onPosition: (position: number) => void },
    work: (link: Link) => Promise<T>,
  ): Promise<T> {
    const { net, scheduler, metrics, log } = this.#options
    const avoid = new Set<string>()
    let front = false
    for (;;) {
      const ticket = await scheduler.acquire({
        model: model.name,
        keyId: asking.principal.keyId,
        avoid,
        front,
        signal: asking.signal,
        onPosition: stream.onPosition,
      })
      progress.queueMs += ticket.queueMs
      const link = net.members.get(ticket.processor)
      try {
        if (link === undefined) throw MeshError.PROCESSOR_LOST('The processor went away')
        progress.processor = link.hello?.name
        metrics.routed(front ? 'retry' : 'least_loaded')
        const result = await work(link)
        ticket.release(progress.usage.promptTokens + progress.usage.completionTokens)
        return result
      } catch (err) {
        const failure = this.#failed(err, ticket, link, asking)
        front = true
        if (failure.code === 'BUSY' && !stream.begun()) {
          metrics.retried('busy')
          continue
        }
        const mayRetry = RETRIABLE.has(failure.code) && !stream.begun() && avoid.size + 1 < MAX_ATTEMPTS
        if (!mayRetry || asking.signal.aborted) throw failure
        avoid.add(ticket.processor)
        metrics.retried('processor_failed')
        log.warn(
          { requestId: asking.requestId, processor: link?.label, code: failure.code },
          'trying another processor',
        )
      }
    }
  }

  /** Gives the slot back and says what happened in words of the caller's side. */
  #failed(err: unknown, ticket: Ticket, link: Link | undefined, asking: Asking): MeshError {
    const failure = MeshError.from(err)
    if (failure.code === 'BUSY') ticket.bounce()
    else ticket.release(0)
    if (asking.signal.aborted) {
      const reason: unknown = asking.signal.reason
      return reason instanceof MeshError ? reason : MeshError.CANCELLED('The caller went away')
    }
    if (failure.code !== 'LINK_CLOSED') return failure
    return MeshError.PROCESSOR_LOST(
      `${link?.label ?? 'The processor'} was lost before the answer was complete`,
      {},
      { cause: failure },
    )
  }

  /** The model that a request with this name gets; undefined where the mesh has none. */
  modelNamed(name: string | undefined): Model | undefined {
    return this.#options.net.directory.models.get(this.#wanted(name) ?? '')
  }

  #wanted(name: string | undefined): string | undefined {
    if (name !== undefined) return name
    if (this.#options.defaultModel !== '') return this.#options.defaultModel
    return [...this.#options.net.directory.models.keys()].sort()[0]
  }

  /** @throws MeshError MODEL_NOT_FOUND naming those there are */
  #model(name: string | undefined): Model {
    const model = this.modelNamed(name)
    if (model !== undefined) return model
    const wanted = this.#wanted(name)
    const known = [...this.#options.net.directory.models.keys()].sort()
    throw MeshError.MODEL_NOT_FOUND(
      known.length === 0
        ? 'This mesh has no model yet: start a processor, or add one with `infermesh models add`'
        : `There is no model ${JSON.stringify(wanted)}; this mesh has ${known.slice(0, 20).join(', ')}`,
      { param: 'model' },
    )
  }

  #route(model: Model, progress: Progress): Route {
    return {
      model: model.name,
      modelHash: model.hash,
      quantisation: model.quantisation,
      processor: progress.processor ?? '',
      gateway: this.#options.gateway,
    }
  }
}

const NOTHING = { begun: () => false, onPosition: () => {} }

/** All that a request's prompt is made of, tools included. */
function textsOf(request: InferenceRequest): (string | readonly number[])[] {
  if (request.kind === 'completion') return [request.prompt]
  const texts = request.messages.map((message) =>
    message.role === 'assistant' && message.toolCalls !== undefined
      ? message.content + JSON.stringify(message.toolCalls)
      : message.content,
  )
  return request.tools === undefined ? texts : [...texts, JSON.stringify(request.tools)]
}

/** The texts in their order, in groups that one call can carry. */
function embeddingBatches(input: EmbeddingRequest['input']): EmbeddingRequest['input'][] {
  const batches: EmbeddingRequest['input'][] = []
  let batch: EmbeddingRequest['input'] = []
  let chars = 0
  for (const text of input) {
    if (batch.length > 0 && (batch.length >= EMBED_TEXTS || chars + text.length > EMBED_CHARS)) {
      batches.push(batch)
      batch = []
      chars = 0
    }
    batch.push(text)
    chars += text.length
  }
  return [...batches, batch]
}
