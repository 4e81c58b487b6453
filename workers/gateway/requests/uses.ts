import type { LimitUse } from '../../../lib/protocol/index.js'
import type { BudgetLedger, Meter, Subject } from './meters.js'
import type { SlidingMinute } from './sliding-minute.js'

/** How far the limits of one subject are used, for people. */

/**
 * Each limit that a key or a user has, and how far it is used.
 * @param now milliseconds of the clock that the meter counts by
 * @param at milliseconds since the epoch
 */
export function usesOf(
  { of, name, subject, limits }: Subject,
  meter: Meter,
  ledger: BudgetLedger,
  now: number,
  at: number,
): LimitUse[] {
  const { requestsPerMinute, tokensPerMinute, concurrentRequests, budget } = limits
  const use = (limit: LimitUse['limit'], most: number, used: number, rest: Partial<LimitUse> = {}): LimitUse => ({
    ...{ of, name, limit, most, used, left: Math.max(0, most - used) },
    ...rest,
  })
  const perMinute = (limit: LimitUse['limit'], most: number, minute: SlidingMinute): LimitUse => {
    const used = Math.ceil(minute.sum(now))
    return use(limit, most, used, used > 0 ? { resetsAt: at + Math.ceil(minute.waitFor(0, now)) } : {})
  }
  const resetMs = budget && ledger.resetMs(budget.period)
  return [
    ...(requestsPerMinute === undefined ? [] : [perMinute('requestsPerMinute', requestsPerMinute, meter.requests)]),
    ...(tokensPerMinute === undefined ? [] : [perMinute('tokensPerMinute', tokensPerMinute, meter.tokens)]),
    ...(concurrentRequests === undefined ? [] : [use('concurrentRequests', concurrentRequests, meter.running)]),
    ...(budget === undefined
      ? []
      : [
          use('budget', budget.tokens, ledger.spent(subject, budget.period) + meter.reserved, {
            period: budget.period,
            ...(resetMs !== undefined && { resetsAt: at + resetMs }),
          }),
        ]),
  ]
}
