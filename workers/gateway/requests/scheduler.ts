import { MeshError } from '../../../lib/protocol/index.js'

/** What the scheduler knows of one processor that has a model. */
export interface Candidate {
  /** Public key. */
  id: string
  /** Sequences it can run at a time; a processor that has yet to load the model counts as one. */
  slots: number
  loaded: boolean
}

/** A slot of one processor, held for one request. */
export interface Slot {
  readonly processor: string
  readonly queueMs: number
  /** Gives the slot back. @param tokens what the request cost, for fairness between keys */
  release(tokens: number): void
  /** The processor said that it is full after all: gives the slot back and sends it nothing until its next report. */
  bounce(): void
}

export interface SlotRequest {
  model: string
  keyId: string
  /** Processors that have already failed this request. */
  avoid: ReadonlySet<string>
  /** A request that was taken up before goes to the front. */
  front: boolean
  signal: AbortSignal
  /** Told where the request stands, from 1, whenever that changes. */
  onPosition: (position: number) => void
}

interface Waiting extends SlotRequest {
  since: number
  position: number
  toldAt: number
  resolve: (slot: Slot) => void
  reject: (err: MeshError) => void
  onAbort: () => void
}

interface Turn {
  waiting: Waiting
  candidate: Candidate
}

export interface SchedulerOptions {
  /** Processors that could serve the model now. */
  candidates: (model: string) => Candidate[]
  /** Most requests that wait for one model. */
  queueLimit: number
  /** Milliseconds that only grow. */
  clock?: () => number
  random?: () => number
}

/** A long queue moves often: nobody is told of a new place more often than this. */
const POSITION_SPACING_MS = 500
/** In a queue of thousands it is all of them together who are told no more often than this makes it. */
const POSITION_SPACING_MS_EACH = 5
/** Weight of the newest sample in the average service time. */
const SMOOTHING = 0.1

/**
 * One bounded queue for each model and the choice of processor: the least loaded of those that have it. Among keys, the
 * one that was served the fewest tokens goes first; among one key's requests, the oldest. Knows nothing of the network.
 */
export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #clock: () => number
  readonly #random: () => number
  readonly #queues = new Map<string, Waiting[]>()
  /** This gateway's requests at each processor, by `processor model`. */
  readonly #running = new Map<string, number>()
  /** Tokens served to each key that has requests waiting or running: its virtual time. */
  readonly #served = new Map<string, { tokens: number; active: number }>()
  /** Processors that said BUSY since their last report. */
  readonly #bounced = new Set<string>()
  #serviceMs = 1000

  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#clock = options.clock ?? (() => performance.now())
    this.#random = options.random ?? Math.random
  }

  /**
   * Waits for a slot.
   * @throws MeshError NO_PROCESSOR at once when nobody has the model, QUEUE_FULL at once past the bound, CANCELLED
   */
  async acquire(request: SlotRequest): Promise<Slot> {
    if (request.signal.aborted) throw MeshError.CANCELLED('The caller went away')
    const queued = this.#queues.get(request.model)?.length ?? 0
    const free = queued === 0 ? this.#choose(request) : undefined
    if (free !== undefined) {
      this.#activate(request.keyId)
      return this.#grant(request, free, this.#clock())
    }
    if (this.#usable(request).length === 0) throw this.#noProcessor(request)
    if (!request.front && queued >= this.#options.queueLimit) {
      throw MeshError.QUEUE_FULL(`${queued} requests wait for ${request.model}; no more are queued`, {
        retryAfterMs: this.#waitMs(request.model, queued),
      })
    }
    this.#activate(request.keyId)
    const queue = this.#queue(request.model)
    return new Promise<Slot>((resolve, reject) => {
      const waiting: Waiting = {
        ...request,
        since: this.#clock(),
        position: 0,
        toldAt: Number.NEGATIVE_INFINITY,
        resolve,
        reject,
        onAbort: () => this.#leave(waiting, MeshError.CANCELLED('The caller went away')),
      }
      if (request.front) queue.unshift(waiting)
      else queue.push(waiting)
      request.signal.addEventListener('abort', waiting.onAbort, { once: true })
      this.dispatch(request.model)
    })
  }

  /** Gives free slots to those who wait. Call it when a processor came, went or reported. */
  dispatch(model?: string): void {
    if (model === undefined) {
      for (const name of this.#queues.keys()) this.dispatch(name)
      return
    }
    const queue = this.#queues.get(model)
    if (queue === undefined) return
    for (let next = this.#next(queue); next !== undefined; next = this.#next(queue)) {
      const { waiting, candidate } = next
      queue.splice(queue.indexOf(waiting), 1)
      // A request may come back here many times, with the same signal.
      waiting.signal.removeEventListener('abort', waiting.onAbort)
      waiting.resolve(this.#grant(waiting, candidate, waiting.since))
    }
    // Those that no processor can serve any more must not wait for ever.
    for (const waiting of [...queue])
      if (this.#usable(waiting).length === 0) this.#leave(waiting, this.#noProcessor(waiting))
    this.#tellPositions(queue)
    if (queue.length === 0) this.#queues.delete(model)
  }

  /** A processor told its load: what it said about being full is out of date. */
  reported(processor: string): void {
    this.#bounced.delete(processor)
    this.dispatch()
  }

  /** How many wait, by model. */
  depths(): Map<string, number> {
    return new Map([...this.#queues].map(([model, queue]) => [model, queue.length]))
  }

  get waiting(): number {
    return [...this.#queues.values()].reduce((sum, queue) => sum + queue.length, 0)
  }

  #queue(model: string): Waiting[] {
    const queue = this.#queues.get(model) ?? []
    this.#queues.set(model, queue)
    return queue
  }

  #usable(request: SlotRequest): Candidate[] {
    return this.#options.candidates(request.model).filter(({ id }) => !request.avoid.has(id))
  }

  /** The free slot with the least load, for one request. */
  #choose(request: SlotRequest): Candidate | undefined {
    let best: { candidate: Candidate; load: number } | undefined
    for (const candidate of this.#usable(request)) {
      const running = this.#running.get(placeOf(candidate, request.model)) ?? 0
      if (running >= candidate.slots || this.#bounced.has(candidate.id)) continue
      // A processor that would first have to load the model comes after all that have it.
      const load = running / candidate.slots + (candidate.loaded ? 0 : 1)
      if (best === undefined || load < best.load || (load === best.load && this.#random() < 0.5))
        best = { candidate, load }
    }
    return best?.candidate
  }

  /** Whose turn it is, and where: of those for whom a slot is free the front, then the key served least, then the oldest. */
  #next(queue: readonly Waiting[]): Turn | undefined {
    let best: Turn | undefined
    let bestServed = Number.POSITIVE_INFINITY
    const free = new Map<ReadonlySet<string>, Candidate | undefined>()
    for (const waiting of queue) {
      // Nearly all requests avoid nobody and share one answer.
      const shared = waiting.avoid.size === 0 ? NOBODY : waiting.avoid
      if (!free.has(shared)) free.set(shared, this.#choose(waiting))
      const candidate = free.get(shared)
      if (candidate === undefined) continue
      if (waiting.front) return { waiting, candidate }
      const served = this.#served.get(waiting.keyId)?.tokens ?? 0
      if (served < bestServed) {
        best = { waiting, candidate }
        bestServed = served
      }
    }
    return best
  }

  /** Takes a slot. @param since when the request began to wait */
  #grant({ model, keyId }: SlotRequest, candidate: Candidate, since: number): Slot {
    const place = placeOf(candidate, model)
    this.#running.set(place, (this.#running.get(place) ?? 0) + 1)
    const startedAt = this.#clock()
    let held = true
    const giveBack = (tokens: number): void => {
      if (!held) return
      held = false
      const left = (this.#running.get(place) ?? 1) - 1
      if (left === 0) this.#running.delete(place)
      else this.#running.set(place, left)
      this.#deactivate(keyId, tokens)
    }
    return {
      processor: candidate.id,
      queueMs: startedAt - since,
      release: (tokens) => {
        this.#serviceMs += SMOOTHING * (this.#clock() - startedAt - this.#serviceMs)
        giveBack(tokens)
        this.dispatch(model)
      },
      bounce: () => {
        this.#bounced.add(candidate.id)
        giveBack(0)
      },
    }
  }

  #leave(waiting: Waiting, err: MeshError): void {
    const queue = this.#queues.get(waiting.model)
    const index = queue?.indexOf(waiting) ?? -1
    if (queue === undefined || index === -1) return
    queue.splice(index, 1)
    this.#deactivate(waiting.keyId, 0)
    waiting.reject(err)
    this.#tellPositions(queue)
  }

  #tellPositions(queue: Waiting[]): void {
    const now = this.#clock()
    const spacingMs = Math.max(POSITION_SPACING_MS, queue.length * POSITION_SPACING_MS_EACH)
    for (const [index, waiting] of queue.entries()) {
      if (waiting.position === index + 1 || now - waiting.toldAt < spacingMs) continue
      waiting.position = index + 1
      waiting.toldAt = now
      waiting.onPosition(index + 1)
    }
  }

  /** A key that comes back starts level with the least served of those that are here: it cannot save up turns. */
  #activate(keyId: string): void {
    const known = this.#served.get(keyId)
    if (known !== undefined) {
      known.active++
      return
    }
    const least = Math.min(...[...this.#served.values()].map(({ tokens }) => tokens))
    this.#served.set(keyId, { tokens: Number.isFinite(least) ? least : 0, active: 1 })
  }

  #deactivate(keyId: string, tokens: number): void {
    const known = this.#served.get(keyId)
    if (known === undefined) return
    known.tokens += tokens
    if (--known.active === 0) this.#served.delete(keyId)
  }

  #noProcessor(request: SlotRequest): MeshError {
    const failed = request.avoid.size > 0
    return MeshError.NO_PROCESSOR(
      failed
        ? `Every processor that has ${request.model} failed this request`
        : `No processor that has ${request.model} is connected now`,
      { retryAfterMs: 2000 },
    )
  }

  /** When a place in the queue may be free: the service time, shared by the slots there are. */
  #waitMs(model: string, queued: number): number {
    const slots = this.#options.candidates(model).reduce((sum, candidate) => sum + candidate.slots, 0)
    return Math.round(Math.min(60_000, Math.max(1000, (this.#serviceMs * queued) / Math.max(1, slots) / 4)))
  }
}

const NOBODY: ReadonlySet<string> = new Set()

/** The key under which the requests of one model at one processor are counted. */
function placeOf({ id }: Candidate, model: string): string {
  return `${id} ${model}`
}
