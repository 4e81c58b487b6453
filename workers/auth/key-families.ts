import { type ApiKey, scopesOf } from '../../lib/protocol/index.js'
import type { Accounts } from '../../lib/store/index.js'
import { type Actor, isAdmin } from './actor.js'

/** What is asked of all keys together: which were made with which, and which are in force. */

/** Keys of one user that work no more and are remembered all the same, so that their refusal says why. */
const REMEMBERED = 1000

/**
 * Whether somebody may see and change a key: its own, for an admin each. A key that was revoked before the user was added
 * is of another user, who had the name before.
 */
export function isOwn(accounts: Accounts, by: Actor, { user, createdAt, revokedAt }: ApiKey): boolean {
  if (isAdmin(by)) return true
  // What works belongs to who has the name now, whatever the clock said: the keys of a removed user are all revoked.
  const addedAt = accounts.users.get(user)?.createdAt ?? Number.POSITIVE_INFINITY
  return user === by.user && (revokedAt === undefined || createdAt >= addedAt)
}

/** Whether a key works now: it and all that it was made with. */
export function isLive(accounts: Accounts, key: ApiKey, now: number): boolean {
  try {
    return accounts.lineOf(key, now).length > 0
  } catch {
    return false
  }
}

/** Every key that was made with this one, or with one of those. */
export function madeWith(accounts: Accounts, id: string): ApiKey[] {
  const family = new Set([id])
  const made: ApiKey[] = []
  // A key is older than those made with it, and the map's order is that of the entries' last changes: until none is new.
  for (let before = -1; before !== made.length; ) {
    before = made.length
    for (const key of accounts.keys.values()) {
      if (key.parent === undefined || family.has(key.id) || !family.has(key.parent)) continue
      family.add(key.id)
      made.push(key)
    }
  }
  return made
}

/** Whether an admin has a key to act as one, if these ended. */
export function hasAdminKey(accounts: Accounts, now: number, ending: readonly ApiKey[]): boolean {
  const ended = new Set(ending.map(({ id }) => id))
  for (const key of accounts.keys.values()) {
    const role = accounts.users.get(key.user)?.role
    if (
      role === 'admin' &&
      scopesOf(role, key.scopes).includes('admin') &&
      !ended.has(key.id) &&
      isLive(accounts, key, now)
    ) {
      return true
    }
  }
  return false
}

/**
 * A user's oldest keys that work no more, past those that are remembered. Not those that could administer: the home's file
 * may name one still, and the next start must not take it for new.
 */
export function forgettable(accounts: Accounts, user: string, now: number): ApiKey[] {
  const dead = [...accounts.keys.values()].filter(
    (key) => key.user === user && key.scopes?.includes('admin') === false && !isLive(accounts, key, now),
  )
  return dead.sort((a, b) => a.createdAt - b.createdAt).slice(0, Math.max(0, dead.length - REMEMBERED + 1))
}
