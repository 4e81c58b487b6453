import type {
  ErrorCode,
  GenerateEvent,
  GenerateInput,
  InputOf,
  JournalRecord,
  Model,
  ResponseOf,
} from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import type { Clock } from './clock.js'
import type { Demand, Reservation } from './limiter.js'
import type { Slot, SlotRequest } from './slot.js'
import type { RequestState } from './state.js'

/** What a request's way needs of its gateway: each as narrow as it is used, so that a test gives it in a few lines. */
export interface RequestsParts {
  catalogue: { /** @throws MeshError MODEL_NOT_FOUND */ model(name: string | undefined): Model }
  limiter: {
    /** @throws MeshError */
    admit(principal: Principal, model: string, demand: Demand): Reservation
    /** @throws MeshError */
    assertMayAsk(principal: Principal): void
  }
  scheduler: {
    /** @throws MeshError */
    acquire(request: SlotRequest): Promise<Slot>
    /** Says no where so many requests would not find room together. @throws MeshError QUEUE_FULL, RATE_LIMITED */
    assertRoom(request: Pick<SlotRequest, 'model' | 'user' | 'preparedFor'>, count: number): void
  }
  /** The processor with this public key, while it is linked. */
  processorAt: (publicKey: string) => Processor | undefined
  journal: {
    /** @throws MeshError DISK_FULL */
    assertWritable(): void
    /** @throws MeshError DISK_FULL; the record is kept all the same */
    append(record: JournalRecord): void
  }
  observer: RequestObserver
  log: {
    debug(facts: object, message: string): void
    info(facts: Failure, message: string): void
    warn(facts: Failure, message: string): void
  }
  clock: Clock
  /** This gateway's name, for the route of an answer. */
  gateway: string
  /** A processor that sends nothing for this long has lost the request. */
  stallMs: number
}

/** What is logged of a request that failed. */
interface Failure {
  readonly code: string
  readonly [fact: string]: unknown
}

/** A processor that a request can be given to. */
export interface Processor {
  readonly name: string
  /** @throws MeshError LINK_CLOSED, MESSAGE_TOO_LARGE, CANCELLED */
  generate(request: GenerateInput, signal: AbortSignal): AnswerEvents
  /** @throws MeshError */
  embed(
    request: InputOf<'processor.embed'>,
    call: { requestId: string; signal: AbortSignal },
  ): Promise<Pick<ResponseOf<'processor.embed'>, 'embeddings' | 'usage'>>
}

/** A processor that can be asked for tokens. */
export interface Tokenizer {
  /** @throws MeshError */
  tokens(
    request: InputOf<'processor.tokens'>,
    call: { requestId: string; signal: AbortSignal },
  ): Promise<ResponseOf<'processor.tokens'>>
}

/** The events of one answer, ended by its finish or by a throw. */
export interface AnswerEvents extends AsyncIterable<GenerateEvent> {
  /** Ends the answer; the processor stops its work. What it has used until then may be told still. */
  cancel(): void
}

/** What an answer's caller is told as it comes. The finish is told by what the request returns. */
export type AnswerEvent = Exclude<GenerateEvent, { type: 'finish' }>
export type Tell = (event: AnswerEvent) => void

/** Told of what happens to requests, for the metrics. */
export interface RequestObserver {
  /** A request was let in. @param ms what that took */
  admitted(ms: number): void
  /** A request was not let in. @param model undefined where it named none of the mesh's */
  refused(kind: JournalRecord['kind'], model: string | undefined, code: ErrorCode, ms: number): void
  /** A request that was let in came to its end. @param outcome a finish reason or an error code */
  settled(request: RequestState, outcome: string, ms: number): void
  /** A request was given to a processor. */
  routed(reason: 'least_loaded' | 'retry'): void
  /** A request goes to a processor once more. */
  retried(reason: 'busy' | 'processor_failed'): void
}
