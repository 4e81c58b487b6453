import { againIn, type Limits, type LimitUse, MeshError } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import { budgetRefusal, requestsText } from './limit-texts.js'
import { type BudgetLedger, Meter, subjectsOf } from './meters.js'
import type { SlidingMinute } from './sliding-minute.js'
import { usesOf } from './uses.js'

/** What an answer without a bound is taken to need, until it is settled. */
const ASSUMED_COMPLETION_TOKENS = 256
const MINUTE_MS = 60_000

/** A request that was let in. Settle it once, whatever came of it. */
export interface Reservation {
  /** Most tokens the answer may have, where it is bounded; less once the prompt took more of a budget than was estimated. */
  readonly maxTokens: number | undefined
  /** True where it is a budget that bounds the answer, and not the caller. */
  readonly isBoundByBudget: boolean
  /**
   * Holds what the prompt has really come to, where that is more than was estimated.
   * @throws MeshError RATE_LIMITED, QUOTA_EXCEEDED where that does not fit: the request has to end
   */
  correct(promptTokens: number): void
  /** @param tokens prompt and completion tokens that were really used */
  settle(tokens: number): void
  /** Takes it back, as if it had never been let in. */
  withdraw(): void
}

export interface Demand {
  promptTokens: number
  maxTokens: number | undefined
}

/** Where a caller stands with a limit for each minute. */
export interface Rate {
  limit: number
  remaining: number
  /** Milliseconds until nothing of the limit is used, if nothing more is asked. */
  resetMs: number
}

/** Why a request was refused, for the metric. */
export type LimitKind = 'requests' | 'tokens' | 'concurrent' | 'budget' | 'model'

/**
 * Enforces the limits of keys and users at this gateway: tokens are reserved before any work and settled after it, so
 * that requests that run at the same time cannot together pass a budget that each alone would keep.
 */
export class Limiter {
  readonly #meters = new Map<string, Meter>()
  readonly #ledger: BudgetLedger
  readonly #clock: () => number
  readonly #onRefused: (kind: LimitKind) => void

  /** @param clock milliseconds that only grow: what is limited is a rate, and a clock that is put back must not stop it */
  constructor(ledger: BudgetLedger, clock: () => number, onRefused: (kind: LimitKind) => void = () => {}) {
    this.#ledger = ledger
    this.#clock = clock
    this.#onRefused = onRefused
  }

  /**
   * Lets a request in, or says why not. All limits are checked before any is charged.
   * @throws MeshError RATE_LIMITED with the time to wait, QUOTA_EXCEEDED, FORBIDDEN for a model that is not allowed
   */
  admit(principal: Principal, model: string, demand: Demand): Reservation {
    const now = this.#clock()
    const subjects = subjectsOf(principal)
    let maxTokens = demand.maxTokens
    const estimate = demand.promptTokens + (demand.maxTokens ?? ASSUMED_COMPLETION_TOKENS)
    for (const { subject, what, limits } of subjects) {
      const meter = this.#meter(subject)
      this.#checkModel(limits, what, model)
      this.#checkRequests(meter, limits, what, now)
      this.#checkTokens(meter, limits, what, estimate, now)
      maxTokens = this.#checkBudget(meter, limits, what, subject, { ...demand, maxTokens })
    }
    // Where a budget bounds the answer, all of the bound is reserved: nothing else may spend it meanwhile.
    const held = { prompt: demand.promptTokens, answer: maxTokens ?? ASSUMED_COMPLETION_TOKENS, rated: estimate }
    const meters = subjects.map(({ subject }) => this.#meter(subject))
    for (const meter of meters) {
      meter.running++
      meter.reserved += held.prompt + held.answer
      meter.requests.add(1, now, now)
      meter.tokens.add(estimate, now, now)
    }
    let settled = false
    const leave = (requests: number, tokens: number): void => {
      if (settled) return
      settled = true
      const then = this.#clock()
      for (const meter of meters) {
        meter.running--
        meter.reserved -= held.prompt + held.answer
        meter.requests.add(-requests, now, then)
        meter.tokens.add(tokens - held.rated, now, then)
      }
    }
    const isBoundByBudget = demand.maxTokens === undefined && maxTokens !== undefined
    return {
      get maxTokens() {
        return maxTokens === undefined ? undefined : held.answer
      },
      isBoundByBudget,
      correct: (promptTokens) => {
        const more = promptTokens - held.prompt
        if (settled || more <= 0) return
        const then = this.#clock()
        // An answer that the budget bounds gives up what its prompt needs, as long as a token is left to it.
        const fromAnswer = isBoundByBudget ? Math.min(more, held.answer - 1) : 0
        for (const { subject, what, limits } of subjects) {
          const meter = this.#meter(subject)
          const own = then - now < MINUTE_MS ? held.rated : 0
          this.#checkTokens(meter, limits, what, more, then, own)
          this.#checkMore(meter, limits, what, subject, more - fromAnswer)
        }
        held.prompt += more
        held.answer -= fromAnswer
        held.rated += more
        for (const meter of meters) {
          meter.reserved += more - fromAnswer
          meter.tokens.add(more, now, then)
        }
      },
      settle: (tokens) => leave(0, tokens),
      withdraw: () => leave(1, 0),
    }
  }

  /**
   * Says no to a request that has not been read, where it would be refused whatever it asks. Nothing is charged.
   * @throws MeshError RATE_LIMITED with the time to wait
   */
  assertMayAsk(principal: Principal): void {
    const now = this.#clock()
    for (const { subject, what, limits } of subjectsOf(principal)) {
      this.#checkRequests(this.#meter(subject), limits, what, now)
    }
  }

  /** Tokens left in the tightest budget, reservations taken off; undefined without a budget. */
  budgetRemaining(principal: Principal): number | undefined {
    const left = subjectsOf(principal)
      .map(({ subject, limits }) => this.#left(subject, limits))
      .filter((value) => value !== undefined)
    return left.length === 0 ? undefined : Math.max(0, Math.min(...left))
  }

  /** The limits for each minute that are nearest to their end, of all that hold; absent where there is none. */
  rates(principal: Principal): { requests?: Rate; tokens?: Rate } {
    const now = this.#clock()
    const subjects = subjectsOf(principal).map(({ subject, limits }) => ({ meter: this.#meter(subject), limits }))
    const requests = subjects.map(({ meter, limits }) => rate(meter.requests, limits.requestsPerMinute, now))
    const tokens = subjects.map(({ meter, limits }) => rate(meter.tokens, limits.tokensPerMinute, now))
    return { requests: tightest(requests), tokens: tightest(tokens) }
  }

  /** Each limit that holds for a caller, and how far it is used. @param at milliseconds since the epoch */
  uses(principal: Principal, at = Date.now()): LimitUse[] {
    const now = this.#clock()
    return subjectsOf(principal).flatMap((one) => usesOf(one, this.#meter(one.subject), this.#ledger, now, at))
  }

  #left(subject: string, limits: Limits): number | undefined {
    if (limits.budget === undefined) return undefined
    const { tokens, period } = limits.budget
    return tokens - this.#ledger.spent(subject, period) - this.#meter(subject).reserved
  }

  #meter(subject: string): Meter {
    const meter = this.#meters.get(subject) ?? new Meter()
    this.#meters.set(subject, meter)
    return meter
  }

  #refuse(kind: LimitKind, err: MeshError): never {
    this.#onRefused(kind)
    throw err
  }

  #checkModel(limits: Limits, what: string, model: string): void {
    if (limits.models === undefined || limits.models.includes(model)) return
    this.#refuse(
      'model',
      MeshError.FORBIDDEN(`The ${what} may not use ${model}; allowed: ${limits.models.join(', ')}`, { param: 'model' }),
    )
  }

  #checkRequests(meter: Meter, { requestsPerMinute, concurrentRequests }: Limits, what: string, now: number): void {
    if (concurrentRequests !== undefined && meter.running >= concurrentRequests) {
      this.#refuse(
        'concurrent',
        MeshError.RATE_LIMITED(
          `The ${what} has ${requestsText(meter.running)} running; its limit is ${concurrentRequests}. Try again once one has ended`,
          { retryAfterMs: 1000 },
        ),
      )
    }
    if (requestsPerMinute !== undefined && meter.requests.sum(now) >= requestsPerMinute) {
      const retryAfterMs = Math.ceil(meter.requests.waitFor(requestsPerMinute - 1, now))
      this.#refuse(
        'requests',
        MeshError.RATE_LIMITED(
          `The ${what} has sent ${requestsText(meter.requests.total)} in the last minute; its limit is ${requestsPerMinute}. ${againIn(retryAfterMs)}`,
          { retryAfterMs },
        ),
      )
    }
  }

  /** @param own what of the minute's tokens is the request's already */
  #checkTokens(meter: Meter, { tokensPerMinute }: Limits, what: string, estimate: number, now: number, own = 0): void {
    // A request that is larger than the whole limit is let in when nothing else was: else it could never run.
    if (tokensPerMinute !== undefined) {
      const used = meter.tokens.sum(now)
      if (used > own && used + estimate > tokensPerMinute) {
        const retryAfterMs = Math.ceil(meter.tokens.waitFor(Math.max(0, tokensPerMinute - estimate), now))
        this.#refuse(
          'tokens',
          MeshError.RATE_LIMITED(
            `The ${what} has used ${Math.round(used)} tokens in the last minute and asks for about ${estimate}; its limit is ${tokensPerMinute}. ${againIn(retryAfterMs)}`,
            { retryAfterMs },
          ),
        )
      }
    }
  }

  #checkMore(meter: Meter, { budget }: Limits, what: string, subject: string, more: number): void {
    if (budget === undefined || more <= 0) return
    const left = budget.tokens - this.#ledger.spent(subject, budget.period) - meter.reserved
    if (more <= left) return
    const resetMs = this.#ledger.resetMs(budget.period)
    const wants = `the prompt has more than was estimated, and needs ${more} more`
    this.#refuse('budget', budgetRefusal({ what, budget, left, held: 0, needs: more, wants, resetMs }))
  }

  /** @returns the bound on the answer: what was asked for, made smaller where the budget has less and nothing was asked */
  #checkBudget(meter: Meter, limits: Limits, what: string, subject: string, demand: Demand): number | undefined {
    if (limits.budget === undefined) return demand.maxTokens
    const { tokens, period } = limits.budget
    const left = tokens - this.#ledger.spent(subject, period) - meter.reserved
    const room = left - demand.promptTokens
    if (room < Math.min(1, demand.maxTokens ?? 1) || (demand.maxTokens !== undefined && demand.maxTokens > room)) {
      const { promptTokens, maxTokens } = demand
      const needs = promptTokens + (maxTokens ?? 1)
      const wants = `this request needs ${maxTokens === undefined ? 'about' : 'up to'} ${needs}`
      const resetMs = this.#ledger.resetMs(period)
      const { budget } = limits
      this.#refuse('budget', budgetRefusal({ what, budget, left, held: meter.reserved, needs, wants, resetMs }))
    }
    return demand.maxTokens ?? room
  }
}

function rate(used: SlidingMinute, limit: number | undefined, now: number): Rate | undefined {
  if (limit === undefined) return undefined
  const remaining = Math.max(0, Math.floor(limit - used.sum(now)))
  return { limit, remaining, resetMs: Math.ceil(used.waitFor(0, now)) }
}

function tightest(rates: (Rate | undefined)[]): Rate | undefined {
  return rates
    .filter((one) => one !== undefined)
    .reduce<Rate | undefined>((best, one) => (best && best.remaining <= one.remaining ? best : one), undefined)
}
