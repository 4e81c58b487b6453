import type { BudgetPeriod, Limits } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import { SlidingMinute } from './sliding-minute.js'

/** What one key with those made with it, or one user with all its keys, is using now. */
export class Meter {
  readonly requests = new SlidingMinute()
  readonly tokens = new SlidingMinute()
  running = 0
  /** Tokens of admitted requests that are not settled yet. */
  reserved = 0
}

/** Tokens that were settled in the periods that run now, by the date, for budgets. The journal keeps them. */
export interface BudgetLedger {
  /** @param subject `key/<id>` or `user/<name>` */
  spent(subject: string, period: BudgetPeriod): number
  /** Milliseconds until the running period ends; undefined where it never does. */
  resetMs(period: BudgetPeriod): number | undefined
}

/** One whose limits hold for a request. */
export interface Subject {
  of: 'key' | 'user'
  /** The key's id, or the user's name. */
  name: string
  /** `key/<id>` or `user/<name>`. */
  subject: string
  /** For people. */
  what: string
  limits: Limits
}

/**
 * Whose limits hold for a request: the key's, those of the keys that it was made with, and the user's. The request counts
 * against all of them, so that the keys that a key makes share what it has.
 */
export function subjectsOf({ keyId, user, limits }: Principal): Subject[] {
  const keys = [{ keyId, limits: limits.key }, ...limits.parents]
  return [
    ...keys.map((key): Subject => {
      const { keyId: name } = key
      return { of: 'key', name, subject: `key/${name}`, what: `key im_${name}_…`, limits: key.limits }
    }),
    { of: 'user', name: user, subject: `user/${user}`, what: `user ${user}`, limits: limits.user },
  ]
}
