import { againIn, MeshError } from '../../../lib/protocol/index.js'
import { FairShares } from './fair-shares.js'
import { Line, type Waiting } from './line.js'
import type { Candidate, Slot, SlotRequest } from './slot.js'

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

/** One user may fill this part of a queue, but always so many places. */
const USER_SHARE = 1 / 4
const USER_PLACES = 16
/** Weight of the newest sample in the average service time. */
const SMOOTHING = 0.1

/**
 * One bounded queue for each model and the choice of processor: the least loaded of those that have it. Among keys, the
 * one that was served least goes first; among one key's requests, the oldest. Knows nothing of the network.
 * What a request costs here grows with the keys and processors there are, not with the requests that wait.
 */
export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #clock: () => number
  readonly #random: () => number
  readonly #queues = new Map<string, Line>()
  /** This gateway's requests at each processor, by `processor model`. */
  readonly #running = new Map<string, number>()
  readonly #shares = new FairShares()
  /** Requests that are being prepared, by place and user. */
  readonly #preparing = new Set<string>()
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
   * @throws MeshError at once: NO_PROCESSOR when nobody has the model, QUEUE_FULL past the bound, RATE_LIMITED past one
   * user's share of it; CANCELLED
   */
  async acquire(request: SlotRequest): Promise<Slot> {
    const { model, keyId, avoid, front, preparedFor, signal } = request
    if (signal.aborted) throw MeshError.CANCELLED('The caller went away')
    const candidates = this.#options.candidates(model)
    const line = this.#queues.get(model)
    const free = line === undefined ? this.#choose(model, usable(candidates, avoid), preparedFor) : undefined
    if (free !== undefined) {
      this.#shares.enter(keyId)
      return this.#grant(request, free, this.#clock())
    }
    if (usable(candidates, avoid).length === 0) throw noProcessor(request)
    if (!front) this.#assertRoom(request, line)
    this.#shares.enter(keyId)
    return new Promise<Slot>((resolve, reject) => {
      const queue = line ?? new Line(this.#clock())
      this.#queues.set(model, queue)
      const waiting: Waiting = {
        ...request,
        since: this.#clock(),
        order: queue.nextOrder(request),
        position: 0,
        toldAt: Number.NEGATIVE_INFINITY,
        resolve,
        leave: (err) => {
          if (this.#leave(queue, waiting)) reject(err)
        },
        onAbort: () => waiting.leave(MeshError.CANCELLED('The caller went away')),
      }
      queue.add(waiting)
      signal.addEventListener('abort', waiting.onAbort, { once: true })
      this.#dispatch(model, queue, candidates)
      if (queue.has(waiting)) queue.tellNew(waiting, this.#clock())
    })
  }

  /** Gives free slots to those who wait. Call it when a processor came, went or reported. */
  dispatch(model?: string): void {
    if (model === undefined) {
      for (const name of this.#queues.keys()) this.dispatch(name)
      return
    }
    const queue = this.#queues.get(model)
    if (queue !== undefined) this.#dispatch(model, queue, this.#options.candidates(model))
  }

  #dispatch(model: string, queue: Line, candidates: readonly Candidate[]): void {
    for (let next = this.#next(model, queue, candidates); next; next = this.#next(model, queue, candidates)) {
      const { waiting, candidate } = next
      queue.remove(waiting)
      // A request may come back here many times, with the same signal.
      waiting.signal.removeEventListener('abort', waiting.onAbort)
      waiting.resolve(this.#grant(waiting, candidate, waiting.since))
    }
    // Those that no processor can serve any more must not wait for ever.
    for (const waiting of candidates.length === 0 ? queue.everyone() : queue.fronts())
      if (usable(candidates, waiting.avoid).length === 0) waiting.leave(noProcessor(waiting))
    this.#moved(model, queue)
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

  /**
   * Says no where so many requests of one user, asked for in this turn of the loop, would not all find a slot or a place.
   * @throws MeshError QUEUE_FULL, RATE_LIMITED
   */
  assertRoom(request: Pick<SlotRequest, 'model' | 'user' | 'preparedFor'>, count: number): void {
    const { model, preparedFor } = request
    const line = this.#queues.get(model)
    const free = line === undefined ? this.#options.candidates(model).map((one) => this.#freeAt(one, model)) : []
    // Of those that are prepared, one begins at each processor.
    const begun = free.reduce((sum, slots) => sum + (preparedFor === undefined ? slots : Math.min(1, slots)), 0)
    if (count > begun) this.#assertRoom(request, line, count - begun)
  }

  /** @throws MeshError QUEUE_FULL, RATE_LIMITED */
  #assertRoom({ model, user }: Pick<SlotRequest, 'model' | 'user'>, line: Line | undefined, count = 1): void {
    const { queueLimit } = this.#options
    const queued = line?.length ?? 0
    const ofUser = line?.ofUser(user) ?? 0
    if (queued + count > queueLimit) {
      const retryAfterMs = this.#waitMs(model, queued)
      throw MeshError.QUEUE_FULL(`${queued} requests wait for ${model}; no more are queued. ${againIn(retryAfterMs)}`, {
        retryAfterMs,
      })
    }
    const share = Math.max(USER_PLACES, Math.floor(queueLimit * USER_SHARE))
    if (ofUser + count > share) {
      const retryAfterMs = this.#waitMs(model, ofUser)
      throw MeshError.RATE_LIMITED(
        `The user ${user} has ${ofUser} requests waiting for ${model}; one user may have ${share} of the ${queueLimit} places${count > 1 ? `, and this needs ${count}` : ''}. ${againIn(retryAfterMs)}`,
        { retryAfterMs },
      )
    }
  }

  /** Slots that this gateway may give at a processor. */
  #freeAt(candidate: Candidate, model: string): number {
    if (this.#bounced.has(candidate.id)) return 0
    return Math.max(0, candidate.slots - (this.#running.get(placeOf(candidate, model)) ?? 0))
  }

  /** The free slot with the least load. */
  #choose(model: string, candidates: readonly Candidate[], preparedFor: string | undefined): Candidate | undefined {
    let best: { candidate: Candidate; load: number } | undefined
    for (const candidate of candidates) {
      if (this.#preparing.has(preparationOf(candidate, { model, preparedFor }) ?? '')) continue
      if (this.#freeAt(candidate, model) === 0) continue
      const running = this.#running.get(placeOf(candidate, model)) ?? 0
      // A processor that would first have to load the model comes after all that have it.
      const load = running / candidate.slots + (candidate.loaded ? 0 : 1)
      if (best === undefined || load < best.load || (load === best.load && this.#random() < 0.5))
        best = { candidate, load }
    }
    return best?.candidate
  }

  /** Whose turn it is, and where: of those for whom a slot is free the front, then the key served least, then the oldest. */
  #next(model: string, queue: Line, candidates: readonly Candidate[]): Turn | undefined {
    const anywhere = this.#choose(model, candidates, undefined)
    if (anywhere === undefined) return undefined
    for (const waiting of queue.fronts()) {
      const candidate = this.#choose(model, usable(candidates, waiting.avoid), waiting.preparedFor)
      if (candidate !== undefined) return { waiting, candidate }
    }
    let best: (Turn & { served: number }) | undefined
    for (const waiting of queue.heads()) {
      const { preparedFor, keyId } = waiting
      const served = this.#shares.of(keyId)
      const isBefore = best === undefined || served < best.served
      if (!isBefore && !(served === best?.served && waiting.order < best.waiting.order)) continue
      const candidate = preparedFor === undefined ? anywhere : this.#choose(model, candidates, preparedFor)
      if (candidate !== undefined) best = { waiting, candidate, served }
    }
    return best
  }

  /** Takes a slot. @param since when the request began to wait */
  #grant(request: SlotRequest, candidate: Candidate, since: number): Slot {
    const { model, keyId } = request
    const place = placeOf(candidate, model)
    const preparation = preparationOf(candidate, request)
    if (preparation !== undefined) this.#preparing.add(preparation)
    let prepared = preparation === undefined
    this.#running.set(place, (this.#running.get(place) ?? 0) + 1)
    const startedAt = this.#clock()
    let held = true
    /** Only once: the next of the same user may be prepared by then. */
    const endPreparation = (): void => {
      if (prepared || preparation === undefined) return
      prepared = true
      this.#preparing.delete(preparation)
    }
    const giveBack = (tokens: number): void => {
      if (!held) return
      held = false
      endPreparation()
      const left = (this.#running.get(place) ?? 1) - 1
      if (left === 0) this.#running.delete(place)
      else this.#running.set(place, left)
      this.#shares.served(keyId, tokens, this.#clock() - startedAt)
      this.#shares.leave(keyId)
    }
    return {
      processor: candidate.id,
      queueMs: startedAt - since,
      begun: () => {
        if (prepared) return
        endPreparation()
        this.dispatch(model)
      },
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

  /** @returns false where it does not wait any more */
  #leave(queue: Line, waiting: Waiting): boolean {
    if (!queue.remove(waiting)) return false
    waiting.signal.removeEventListener('abort', waiting.onAbort)
    this.#shares.leave(waiting.keyId)
    this.#moved(waiting.model, queue)
    return true
  }

  /** Those who wait have other places now. */
  #moved(model: string, queue: Line): void {
    queue.tellPositions(this.#clock())
    if (queue.length === 0 && this.#queues.get(model) === queue) this.#queues.delete(model)
  }

  /** When a place in the queue may be free: the service time, shared by the slots there are. */
  #waitMs(model: string, queued: number): number {
    const slots = this.#options.candidates(model).reduce((sum, candidate) => sum + candidate.slots, 0)
    return Math.round(Math.min(60_000, Math.max(1000, (this.#serviceMs * queued) / Math.max(1, slots) / 4)))
  }
}

function usable(candidates: readonly Candidate[], avoid: ReadonlySet<string>): readonly Candidate[] {
  return avoid.size === 0 ? candidates : candidates.filter(({ id }) => !avoid.has(id))
}

function noProcessor({ model, avoid }: SlotRequest): MeshError {
  return MeshError.NO_PROCESSOR(
    avoid.size > 0
      ? `Every processor that has ${model} failed this request`
      : `No processor that has ${model} is connected now`,
    { retryAfterMs: 2000 },
  )
}

/** The key under which the requests of one model at one processor are counted. */
function placeOf({ id }: Candidate, model: string): string {
  return `${id} ${model}`
}

/** What a request's preparation at a processor is known by; undefined where it needs none. */
function preparationOf(
  candidate: Candidate,
  { model, preparedFor }: Pick<SlotRequest, 'model' | 'preparedFor'>,
): string | undefined {
  return preparedFor === undefined ? undefined : `${placeOf(candidate, model)} ${preparedFor}`
}
