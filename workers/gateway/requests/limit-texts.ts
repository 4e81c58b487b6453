import { againIn, type BudgetPeriod, MeshError } from '../../../lib/protocol/index.js'

/** What refusals by a limit say: which limit, what is left of it, and when to try again. */

export function requestsText(count: number): string {
  return count === 1 ? '1 request' : `${count} requests`
}

/** A budget that has no room for a request. */
export interface NoRoom {
  /** Whose it is, such as `key im_…_…`. */
  what: string
  budget: { tokens: number; period: BudgetPeriod }
  /** Tokens that are neither used nor held. */
  left: number
  /** Tokens that requests under way hold. */
  held: number
  /** Tokens that are wanted, and the same in words. */
  needs: number
  wants: string
  /** Milliseconds until the running period ends; undefined where it never does. */
  resetMs: number | undefined
}

/** Says why, and what helps: another day only where the request would fit into the whole budget. */
export function budgetRefusal({ what, budget, left, held, needs, wants, resetMs }: NoRoom): MeshError {
  const { tokens, period } = budget
  const remainingTokens = Math.max(0, left)
  if (needs > tokens) {
    return MeshError.QUOTA_EXCEEDED(
      `The ${what} may use ${tokens} tokens ${EACH[period]}, and ${wants}: send less, or ask for a shorter answer`,
      { remainingTokens },
    )
  }
  const said = `The ${what} has ${remainingTokens} of ${tokens} tokens left ${NOW[period]}, and ${wants}`
  if (left + held >= needs) {
    return MeshError.QUOTA_EXCEEDED(`${said}; requests under way hold ${held}. Try again once they have ended`, {
      remainingTokens,
      retryAfterMs: HELD_RETRY_MS,
    })
  }
  if (resetMs === undefined) {
    return MeshError.QUOTA_EXCEEDED(`${said}. It does not begin anew: an admin can raise it`, { remainingTokens })
  }
  return MeshError.QUOTA_EXCEEDED(`${said}. ${againIn(resetMs)}, when the next ${period} begins`, {
    remainingTokens,
    retryAfterMs: resetMs,
  })
}

/** Nobody knows when a request under way ends. */
const HELD_RETRY_MS = 1000

const EACH: Readonly<Record<BudgetPeriod, string>> = { day: 'a day', month: 'a month', total: 'in all' }
const NOW: Readonly<Record<BudgetPeriod, string>> = {
  day: 'for today (UTC)',
  month: 'for this month (UTC)',
  total: 'in all',
}
