import type { Limits } from '../../lib/protocol/index.js'

const NUMBERS = ['requestsPerMinute', 'tokensPerMinute', 'concurrentRequests'] as const

/** Where limits allow more than others do. */
export interface Wider {
  /** Such as `limits.budget`. */
  param: string
  /** What it may be at most, in words. */
  bound: string
}

/**
 * The first thing that `limits` allow and `bounds` do not; undefined where they lie within them. Budgets for different
 * periods cannot be compared: changing the period of one is never narrower.
 */
export function widerThan(limits: Limits, bounds: Limits): Wider | undefined {
  for (const name of NUMBERS) {
    const bound = bounds[name]
    if (bound !== undefined && (limits[name] ?? Number.POSITIVE_INFINITY) > bound) {
      return { param: `limits.${name}`, bound: String(bound) }
    }
  }
  const { budget, models } = bounds
  if (budget !== undefined) {
    const { tokens, period } = limits.budget ?? { tokens: Number.POSITIVE_INFINITY, period: budget.period }
    if (period !== budget.period || tokens > budget.tokens) {
      return { param: 'limits.budget', bound: `${budget.tokens} tokens/${budget.period}` }
    }
  }
  if (models !== undefined && !limits.models?.every((model) => models.includes(model))) {
    return { param: 'limits.models', bound: models.slice(0, 8).join(', ') + (models.length > 8 ? ', …' : '') }
  }
  return undefined
}

/**
 * The limits of a key that is made with another: what it asks for, and where it asks for nothing, nothing of its own. A
 * budget for another period than the other's stands beside it.
 */
export function askedWithin(asked: Limits, bounds: Limits): Limits {
  const { budget, ...others } = asked
  const isComparable = budget !== undefined && budget.period === bounds.budget?.period
  return { ...bounds, ...others, ...(isComparable && { budget }) }
}
