import { type InferenceRequest, MeshError, type TokenBatch, type TokensRequest } from '../../lib/protocol/index.js'
import type { EmbeddingInput, FromEngine } from './engine/index.js'

/** A job without its number. */
export type Work =
  | { type: 'generate'; request: InferenceRequest }
  | { type: 'embed'; input: EmbeddingInput[] }
  | { type: 'tokenize'; asked: TokensRequest }
/** How a job ends that does not fail. */
export type Outcome = Extract<FromEngine, { type: 'finish' | 'embedded' | 'tokenized' }>

/**
 * What an engine's end says about its requests. `silent`: its main thread was heard no more. `stuck`: some requests made
 * no progress. `crash`: it ended by itself. `killed`: somebody else ended it, such as a system that is short of memory.
 */
export type EngineEnd = 'silent' | 'stuck' | 'crash' | 'killed'

/** Told of each batch. Where it gives a promise, a piece of a prompt is on its way once that resolves. */
export type OnTokens = (batch: TokenBatch) => unknown

interface Job {
  onTokens: OnTokens
  resolve: (outcome: Outcome) => void
  reject: (err: MeshError) => void
  /** The engine has said that it works on it. */
  begun: boolean
  steps: number
  /** Beats without a step. */
  still: number
  /** How many times as long as others it may stand still. */
  patience: number
  /** Tokens of its prompt that were evaluated, as far as the engine has said. */
  promptTokens: number
}

/** A text is embedded in one step, whatever its length: as long as whoever asked for it waits. */
const EMBED_PATIENCE = 6

/** The jobs that one engine process has, and which of them may be why it ended. */
export class EngineJobs {
  readonly #jobs = new Map<number, Job>()
  #nextId = 1
  /** The job that the engine's main thread works on, as long as it has said nothing else. */
  #at: number | undefined

  /** Jobs that the engine has not answered. One that was cancelled is in its hands until it has. */
  get size(): number {
    return this.#jobs.size
  }

  add(work: Work, onTokens: Job['onTokens'], resolve: Job['resolve'], reject: Job['reject']): number {
    const id = this.#nextId++
    const patience = work.type === 'embed' ? EMBED_PATIENCE : 1
    this.#jobs.set(id, { onTokens, resolve, reject, begun: false, steps: 0, still: 0, patience, promptTokens: 0 })
    return id
  }

  /** Notes what any message of the engine says of what it does. */
  heard(message: FromEngine): void {
    this.#at = message.type === 'at' ? message.id : undefined
    if (message.type === 'at') {
      const job = this.#jobs.get(message.id)
      if (job) job.begun = true
    }
    if (message.type !== 'alive') return
    for (const [id, steps] of message.steps) {
      const job = this.#jobs.get(id)
      if (job === undefined || job.steps === steps) continue
      job.steps = steps
      job.still = 0
    }
  }

  /** A beat of the watch. @returns true where a job has made no progress for so many beats */
  beat(stuckBeats: number): boolean {
    let stuck = false
    for (const job of this.#jobs.values()) {
      job.still++
      stuck ||= isStuck(job, stuckBeats)
    }
    return stuck
  }

  /** @returns what its reader says: see OnTokens */
  tokens(id: number, batch: TokenBatch): unknown {
    const job = this.#jobs.get(id)
    if (job === undefined) return undefined
    job.promptTokens = batch.usage?.promptTokens ?? job.promptTokens
    return job.onTokens(batch)
  }

  /** Takes a job out that the engine has answered. */
  take(id: number): Job | undefined {
    const job = this.#jobs.get(id)
    this.#jobs.delete(id)
    return job
  }

  /** Tells whoever waits for a job; the engine has it still. */
  cancel(id: number): void {
    const job = this.#jobs.get(id)
    if (job === undefined) return
    job.onTokens = () => {}
    job.reject(MeshError.CANCELLED('The request was cancelled', { promptTokens: job.promptTokens }))
  }

  /** Fails all, for a reason that none of them is. */
  fail(reason: MeshError): void {
    for (const job of this.#jobs.values()) job.reject(reason)
    this.#jobs.clear()
  }

  /**
   * Fails all, each with what the engine's end says about it: the only one that can be why is not to be tried anywhere
   * else; where it is one of several, it is under suspicion.
   * @param how for people to read, behind "The engine process"
   * @returns whether one of them is surely why
   */
  end(end: EngineEnd, how: string, stuckBeats: number): boolean {
    const suspects = this.#suspects(end, stuckBeats)
    const sure = suspects.size === 1 && end !== 'killed'
    for (const job of this.#jobs.values()) {
      const suspect = suspects.has(job)
      job.reject(
        suspect && sure
          ? MeshError.ENGINE_ENDED(
              `This request ended the engine that ran it: the engine process ${how}. It is not tried on another`,
            )
          : MeshError.ENGINE_FAILED(
              `The engine process ${how} while it generated; it is started again`,
              suspect ? { suspect } : {},
            ),
      )
    }
    this.#jobs.clear()
    return sure
  }

  #suspects(end: EngineEnd, stuckBeats: number): ReadonlySet<Job> {
    const begun = [...this.#jobs.values()].filter((job) => job.begun)
    const at = end === 'silent' && this.#at !== undefined ? this.#jobs.get(this.#at) : undefined
    if (at) return new Set([at])
    return new Set(end === 'stuck' ? begun.filter((job) => isStuck(job, stuckBeats)) : begun)
  }
}

function isStuck({ still, patience }: Job, stuckBeats: number): boolean {
  return still > stuckBeats * patience
}
