import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { ErrorCode } from '../../lib/protocol/index.js'
import { CODES, outcomeOf, ROUTES } from './outcomes.js'
import type { RequestObserver, RequestState } from './requests/index.js'

/** Bounds for times to a first token and of queueing, in seconds: a caller may wait for ten minutes. */
const WAIT_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
const PER_TOKEN_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]
/** A long answer begins after a long wait. */
const DURATION_BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800]
/** The label of requests that named no model of the mesh. */
const UNKNOWN = 'unknown'
/** Models whose series are there before their first request: what one worker tells has a bound. */
const MOST_PREPARED = 32
const FAST_BUCKETS = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05]

/** What is looked at when the metrics are asked for. */
interface Now {
  /** Names of the mesh's models. */
  models: () => Iterable<string>
  running: () => number
  depths: () => Map<string, number>
  stored: () => { bytes: number; responses: number; chats: number }
}

/** What this gateway counts. Labels are bounded: models are those of the directory, never what a caller wrote. */
export class GatewayMetrics implements RequestObserver {
  readonly #requests: Counter<'model' | 'route' | 'outcome' | 'code'>
  /** Models of which something was told or counted. */
  readonly #known = new Set<string>()
  readonly #duration: Histogram<'model' | 'route'>
  readonly #firstToken: Histogram<'model'>
  readonly #perToken: Histogram<'model'>
  readonly #overhead: Histogram<'stage'>
  readonly #queueWait: Histogram<'model'>
  readonly #tokens: Counter<'model' | 'type'>
  readonly #routes: Counter<'reason'>
  readonly #retries: Counter<'reason'>
  readonly #limited: Counter<'kind'>
  readonly #records: Counter
  readonly #lost: Counter<'kind'>
  readonly #store: Histogram<'op'>
  readonly #storedFailures: Counter<'op'>

  constructor(registry: Registry, now: Now) {
    const registers = [registry]
    this.#requests = new Counter({
      name: 'infermesh_requests_total',
      help: 'Requests that have ended, by outcome and by the finish reason or the code of the error.',
      labelNames: ['model', 'route', 'outcome', 'code'],
      registers,
      // Before any of the others is read.
      collect: () => {
        for (const model of now.models()) this.#prepare(model)
      },
    })
    this.#duration = new Histogram({
      name: 'infermesh_request_duration_seconds',
      help: 'Time from admission to settlement.',
      labelNames: ['model', 'route'],
      buckets: DURATION_BUCKETS,
      registers,
    })
    this.#firstToken = new Histogram({
      name: 'infermesh_time_to_first_token_seconds',
      help: 'Time from admission to the first token, queueing included.',
      labelNames: ['model'],
      buckets: WAIT_BUCKETS,
      registers,
    })
    this.#perToken = new Histogram({
      name: 'infermesh_time_per_output_token_seconds',
      help: 'Mean time between the tokens of one answer.',
      labelNames: ['model'],
      buckets: PER_TOKEN_BUCKETS,
      registers,
    })
    this.#overhead = new Histogram({
      name: 'infermesh_gateway_overhead_seconds',
      help: 'Time the gateway itself takes, by stage.',
      labelNames: ['stage'],
      buckets: FAST_BUCKETS,
      registers,
    })
    this.#queueWait = new Histogram({
      name: 'infermesh_queue_wait_seconds',
      help: 'Time a request waited for a slot.',
      labelNames: ['model'],
      buckets: WAIT_BUCKETS,
      registers,
    })
    this.#tokens = new Counter({
      name: 'infermesh_tokens_total',
      help: 'Tokens settled.',
      labelNames: ['model', 'type'],
      registers,
    })
    this.#routes = new Counter({
      name: 'infermesh_route_decisions_total',
      help: 'Choices of a processor, by what decided.',
      labelNames: ['reason'],
      registers,
    })
    this.#retries = new Counter({
      name: 'infermesh_retries_total',
      help: 'Requests tried again before their first token.',
      labelNames: ['reason'],
      registers,
    })
    this.#limited = new Counter({
      name: 'infermesh_rate_limited_total',
      help: 'Requests refused by a limit.',
      labelNames: ['kind'],
      registers,
    })
    this.#records = new Counter({
      name: 'infermesh_journal_records_total',
      help: 'Usage records stored in this gateway’s journal.',
      registers,
    })
    this.#lost = new Counter({
      name: 'infermesh_journal_lost_bytes_total',
      help: 'Bytes of the write-ahead log left out at the start: half a record (half) after a kill, or unreadable (damaged).',
      labelNames: ['kind'],
      registers,
    })
    this.#store = new Histogram({
      name: 'infermesh_store_op_seconds',
      help: 'Time of one write to the worker’s store.',
      labelNames: ['op'],
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
      registers,
    })
    this.#storedFailures = new Counter({
      name: 'infermesh_stored_failures_total',
      help: 'Responses and stored chats that could not be written, or whose file could not be read.',
      labelNames: ['op'],
      registers,
    })
    new Gauge({
      name: 'infermesh_stored_objects',
      help: 'Responses and chats stored at this gateway.',
      labelNames: ['kind'],
      registers,
      collect() {
        const { responses, chats } = now.stored()
        this.set({ kind: 'response' }, responses)
        this.set({ kind: 'chat' }, chats)
      },
    })
    new Gauge({
      name: 'infermesh_stored_bytes',
      help: 'What stored responses and chats take of the gateway’s disk.',
      registers,
      collect() {
        this.set(now.stored().bytes)
      },
    })
    new Gauge({
      name: 'infermesh_requests_in_flight',
      help: 'Requests admitted and not settled.',
      registers,
      collect() {
        this.set(now.running())
      },
    })
    new Gauge({
      name: 'infermesh_queue_depth',
      help: 'Requests that wait for a slot.',
      labelNames: ['model'],
      registers,
      collect() {
        this.reset()
        for (const model of firstOf(now.models(), MOST_PREPARED)) this.set({ model }, 0)
        for (const [model, depth] of now.depths()) this.set({ model }, depth)
      },
    })
    this.#begin()
  }

  /** Has every series there from the start whose labels are known, so that its first event is seen as an increase. */
  #begin(): void {
    this.#overhead.zero({ stage: 'admission' })
    for (const reason of ['least_loaded', 'retry']) this.#routes.inc({ reason }, 0)
    for (const reason of ['busy', 'processor_failed']) this.#retries.inc({ reason }, 0)
    for (const kind of ['requests', 'tokens', 'concurrent', 'budget', 'model']) this.#limited.inc({ kind }, 0)
    for (const kind of ['half', 'damaged']) this.#lost.inc({ kind }, 0)
    for (const op of ['read', 'write']) this.#storedFailures.inc({ op }, 0)
    this.#store.zero({ op: 'journal_store' })
    for (const route of ROUTES) {
      for (const { code, outcome } of CODES) {
        if (outcome !== 'ok') this.#requests.inc({ model: UNKNOWN, route, outcome, code }, 0)
      }
    }
  }

  /** The same for a model, before anything of it is counted: to begin a histogram is to empty it. */
  #prepare(model: string): void {
    if (this.#known.has(model)) return
    this.#known.add(model)
    if (this.#known.size > MOST_PREPARED) return
    for (const route of ROUTES) {
      this.#duration.zero({ model, route })
      for (const { code, outcome } of CODES) this.#requests.inc({ model, route, outcome, code }, 0)
    }
    for (const histogram of [this.#firstToken, this.#perToken, this.#queueWait]) histogram.zero({ model })
    for (const type of ['prompt', 'cached', 'completion']) this.#tokens.inc({ model, type }, 0)
  }

  admitted(ms: number): void {
    this.#overhead.observe({ stage: 'admission' }, ms / 1000)
  }

  refused(kind: RequestState['kind'], model: string | undefined, code: ErrorCode, ms: number): void {
    this.#ended(kind, model, code, ms)
  }

  settled(
    { kind, model: { name: model }, usage, queueMs, firstTokenMs }: RequestState,
    outcome: string,
    ms: number,
  ): void {
    this.#ended(kind, model, outcome, ms)
    if (usage.promptTokens > 0) this.#tokens.inc({ model, type: 'prompt' }, usage.promptTokens)
    if (usage.cachedTokens > 0) this.#tokens.inc({ model, type: 'cached' }, usage.cachedTokens)
    if (usage.completionTokens > 0) this.#tokens.inc({ model, type: 'completion' }, usage.completionTokens)
    if (firstTokenMs === undefined) return
    this.#queueWait.observe({ model }, queueMs / 1000)
    this.#firstToken.observe({ model }, firstTokenMs / 1000)
    if (usage.completionTokens > 1) {
      this.#perToken.observe({ model }, (ms - firstTokenMs) / 1000 / (usage.completionTokens - 1))
    }
  }

  #ended(route: RequestState['kind'], model = UNKNOWN, code: string, ms: number): void {
    if (model !== UNKNOWN) this.#prepare(model)
    this.#requests.inc({ model, route, outcome: outcomeOf(code), code })
    this.#duration.observe({ model, route }, ms / 1000)
  }

  routed(reason: string): void {
    this.#routes.inc({ reason })
  }

  retried(reason: string): void {
    this.#retries.inc({ reason })
  }

  limited(kind: string): void {
    this.#limited.inc({ kind })
  }

  stored(records: number, seconds: number): void {
    this.#records.inc(records)
    this.#store.observe({ op: 'journal_store' }, seconds)
  }

  journalLost(isHalfRecord: boolean, bytes: number): void {
    this.#lost.inc({ kind: isHalfRecord ? 'half' : 'damaged' }, bytes)
  }

  storedFailed(op: 'read' | 'write'): void {
    this.#storedFailures.inc({ op })
  }
}

function firstOf<T>(items: Iterable<T>, most: number): T[] {
  const first: T[] = []
  for (const item of items) {
    if (first.length === most) break
    first.push(item)
  }
  return first
}
