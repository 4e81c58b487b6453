import {
  type EmbeddingRequest,
  type GenerateEvent,
  type GenerateInput,
  type InferenceInput,
  inferenceRequestSchema,
  type JournalRecord,
  type Limits,
  MeshError,
} from '../lib/protocol/index.js'
import type { Principal } from '../lib/store/index.js'
import type { Clock } from '../workers/gateway/requests/clock.js'
import { type Processor, type RequestContext, type RequestState, Requests } from '../workers/gateway/requests/index.js'
import { Limiter } from '../workers/gateway/requests/limiter.js'
import type { AnswerEvents } from '../workers/gateway/requests/ports.js'
import type { SlotRequest } from '../workers/gateway/requests/slot.js'
import { testModel } from './helpers/model.js'

/** A request's way with nothing around it: processors that follow a script, and a clock that the test moves. */

export const EPOCH = Date.UTC(2026, 0, 31, 12)
export const STALL_MS = 1000
/** What each slot is waited for. */
export const QUEUE_MS = 10

export const MODEL = testModel('tiny', 'ab12')

const PRINCIPAL: Principal = {
  keyId: 'k1',
  user: 'ann',
  role: 'user',
  scopes: ['inference'],
  limits: { key: {}, parents: [], user: {} },
}

export class TestClock implements Clock {
  ms = 0
  readonly #timers = new Set<{ at: number; onTime: () => void }>()

  date(): number {
    return EPOCH + this.ms
  }

  now(): number {
    return this.ms
  }

  timer(ms: number, onTime: () => void) {
    const timer = { at: this.ms + ms, onTime }
    this.#timers.add(timer)
    return {
      restart: () => {
        timer.at = this.ms + ms
      },
      stop: () => void this.#timers.delete(timer),
    }
  }

  pass(ms: number): void {
    this.ms += ms
    for (const timer of this.#timers) {
      if (timer.at > this.ms) continue
      this.#timers.delete(timer)
      timer.onTime()
    }
  }

  get timers(): number {
    return this.#timers.size
  }
}

/** What a processor does next: tells an event, fails, says nothing until it is cancelled, or lets the test do something. */
export type Step = GenerateEvent | MeshError | typeof SILENCE | (() => void | Promise<void>)
export const SILENCE = Symbol('silence')

export class TestProcessor implements Processor {
  readonly asked: GenerateInput[] = []
  readonly embedded: EmbeddingRequest['input'][] = []
  /** Thrown where it is asked, before any event. */
  refusal: MeshError | undefined
  /** What each of its calls to embed fails with; undefined embeds. */
  readonly embedFailures: (MeshError | undefined)[] = []
  cancelled = 0

  constructor(
    readonly name: string,
    readonly steps: readonly Step[] = [],
  ) {}

  generate(request: GenerateInput, signal: AbortSignal): AnswerEvents {
    this.asked.push(request)
    if (this.refusal !== undefined) throw this.refusal
    let cancel = (): void => {}
    const cancelled = new Promise<never>((_resolve, reject) => {
      cancel = () => reject(MeshError.CANCELLED('The generation was cancelled'))
    })
    cancelled.catch(() => {})
    signal.addEventListener('abort', cancel, { once: true })
    const { steps } = this
    return {
      cancel: () => {
        this.cancelled++
        cancel()
      },
      async *[Symbol.asyncIterator]() {
        for (const step of steps) {
          if (step === SILENCE) await cancelled
          // What happens in the step may have cancelled the answer.
          else if (typeof step === 'function') await Promise.race([cancelled, Promise.resolve(step())])
          else if (step instanceof MeshError) throw step
          else yield step
        }
      },
    }
  }

  async embed({ input }: EmbeddingRequest) {
    this.embedded.push(input)
    const failure = this.embedFailures.shift()
    if (failure !== undefined) throw failure
    const embeddings = input.map((text) => [text.length])
    return { embeddings, usage: { promptTokens: input.length, cachedTokens: 0, completionTokens: 0 } }
  }
}

export interface Setup {
  /** The processors that get the request, one after the other; an error is what the queue says instead. */
  processors?: (TestProcessor | MeshError)[]
  /** What the reservation lets the answer have. */
  maxTokens?: number
  /** Absent: one of its own. */
  clock?: TestClock
  /** What a real limiter holds the key to; absent: everything is let in. */
  limits?: Limits
}

/** A request's way whose every surrounding the test sees and sets. */
export function setup({ processors = [], maxTokens, clock = new TestClock(), limits }: Setup = {}) {
  const turns = [...processors]
  const linked = new Map<string, TestProcessor>()
  const seen = {
    demands: [] as object[],
    /** What the queue was asked, with the processors to avoid as they were then. */
    slots: [] as { model: string; keyId: string; front: boolean; avoid: string[] }[],
    /** For whom a slot was asked alone, in order. */
    prepared: [] as (string | undefined)[],
    begun: [] as string[],
    released: [] as [processor: string, tokens: number][],
    bounced: [] as string[],
    settledTokens: [] as number[],
    records: [] as JournalRecord[],
    observed: [] as string[],
    /** Every request that was settled, as it was then. */
    settled: [] as RequestState[],
    logged: [] as string[],
  }
  const tokensOf = (record: JournalRecord) => record.promptTokens + record.completionTokens
  const spent = (subject: string) =>
    subject.startsWith('key/') ? seen.records.reduce((sum, record) => sum + tokensOf(record), 0) : 0
  const limiter = limits && new Limiter({ spent, resetMs: () => undefined }, () => clock.now())
  const faults: {
    model?: MeshError
    limits?: MeshError
    disk?: MeshError
    append?: MeshError
    log?: Error
    /** Runs while the request waits in the queue. */
    onQueue?: (request: SlotRequest) => void | Promise<void>
  } = {}
  const fail = (err: MeshError | undefined): void => {
    if (err !== undefined) throw err
  }
  const logLine = (message: string): void => {
    if (faults.log !== undefined) throw faults.log
    seen.logged.push(message)
  }
  const requests = new Requests({
    catalogue: {
      model: () => {
        fail(faults.model)
        return MODEL
      },
    },
    limiter: {
      assertMayAsk: () => {},
      admit: (principal, model, demand) => {
        fail(faults.limits)
        seen.demands.push(demand)
        if (limiter !== undefined) return limiter.admit(principal, model, demand)
        return {
          maxTokens,
          isBoundByBudget: false,
          correct: () => {},
          withdraw: () => {},
          settle: (tokens) => seen.settledTokens.push(tokens),
        }
      },
    },
    scheduler: {
      assertRoom: () => {},
      acquire: async (request) => {
        const { model, keyId, front, avoid, preparedFor } = request
        seen.prepared.push(preparedFor)
        seen.slots.push({ model, keyId, front, avoid: [...avoid] })
        clock.pass(QUEUE_MS)
        await faults.onQueue?.(request)
        const turn = turns.shift()
        if (turn instanceof MeshError) throw turn
        if (turn === undefined) throw MeshError.NO_PROCESSOR('Every processor that has tiny failed this request')
        const id = `key of ${turn.name}`
        linked.set(id, turn)
        return {
          processor: id,
          queueMs: QUEUE_MS,
          begun: () => seen.begun.push(turn.name),
          release: (tokens) => seen.released.push([turn.name, tokens]),
          bounce: () => seen.bounced.push(turn.name),
        }
      },
    },
    processorAt: (publicKey) => {
      const processor = linked.get(publicKey)
      return processor === GONE ? undefined : processor
    },
    journal: {
      assertWritable: () => fail(faults.disk),
      append: (record) => {
        seen.records.push(record)
        fail(faults.append)
      },
    },
    observer: {
      admitted: (ms) => seen.observed.push(`admitted in ${ms} ms`),
      refused: (kind, model, code, ms) => seen.observed.push(`refused ${kind} ${model} ${code} in ${ms} ms`),
      settled: (request, outcome, ms) => {
        seen.settled.push(request)
        seen.observed.push(`settled ${request.kind} ${outcome} in ${ms} ms`)
      },
      routed: (reason) => seen.observed.push(`routed ${reason}`),
      retried: (reason) => seen.observed.push(`retried ${reason}`),
    },
    log: {
      debug: (_facts: object, message: string) => logLine(message),
      info: (_facts, message) => logLine(message),
      warn: (_facts, message) => logLine(message),
    },
    clock,
    gateway: 'g1',
    stallMs: STALL_MS,
  })
  const controller = new AbortController()
  const told: GenerateEvent[] = []
  const context = (requestId = 'req_1'): RequestContext => ({
    requestId,
    principal: { ...PRINCIPAL, limits: { ...PRINCIPAL.limits, key: limits ?? {} } },
    signal: controller.signal,
  })
  return {
    requests,
    clock,
    seen,
    faults,
    controller,
    told,
    context,
    generate: (input: Partial<InferenceInput> = {}, requestId?: string) =>
      requests.generate(question(input), context(requestId), (event) => told.push(event)),
    embed: (input: EmbeddingRequest['input'], requestId?: string) => requests.embed({ input }, context(requestId)),
  }
}

/** Stands for a processor whose link ended between its choice and the request. */
export const GONE = new TestProcessor('gone')

export function question(input: Partial<InferenceInput> = {}) {
  return inferenceRequestSchema.parse({ kind: 'chat', messages: [{ role: 'user', content: 'Hi there' }], ...input })
}

/** Tokens that follow each other from `index` on, one for each word. */
export function tokens(index: number, ...words: string[]): GenerateEvent {
  return { type: 'tokens', index, ids: words.map((_, i) => 100 + index + i), text: words.join('') }
}

export function finish(completionTokens: number, reason: 'stop' | 'length' | 'tool_calls' = 'stop'): GenerateEvent {
  return { type: 'finish', reason, usage: { promptTokens: 7, cachedTokens: 3, completionTokens } }
}
