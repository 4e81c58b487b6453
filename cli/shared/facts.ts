import type { ApiKeyInfo, UserInfo } from '../../lib/client/index.js'
import { type BudgetState, budgetStateText } from './budgets.js'
import { red, timeText } from './output.js'
import { limitsText } from './parse.js'

/** What is shown of one key or user. */

type Fact = [name: string, value: string | undefined]

/** A key as it is shown. */
export interface ShownKey extends ApiKeyInfo {
  budget?: BudgetState | undefined
}

export function keyState({ revokedAt, expiresAt }: Pick<ShownKey, 'revokedAt' | 'expiresAt'>, now: number): string {
  if (revokedAt !== undefined) return red('revoked')
  return expiresAt !== undefined && expiresAt <= now ? red('expired') : 'valid'
}

export function factsOfKey(key: ShownKey, now: number): Fact[] {
  const { id, user, label, parent, scopes, limits, budget, createdAt, lastUsedAt } = key
  return [
    ['key', keyText(id)],
    ['user', user],
    ['label', label],
    ['state', keyState(key, now) + (key.expiresAt === undefined ? '' : `, until ${timeText(key.expiresAt)}`)],
    ['scopes', scopes?.join(', ') ?? 'all of its user’s'],
    ['made', timeText(createdAt)],
    ['made with', parent === undefined ? undefined : `${keyText(parent)}, whose limits hold as well`],
    ['last used', lastUsedAt === undefined ? undefined : timeText(lastUsedAt)],
    ['limits', limitsText(limits)],
    ['budget', budget === undefined ? undefined : budgetStateText(budget, now)],
  ]
}

/** A key by its id, or what a login gave instead of one. */
export function keyText(id: string): string {
  return id.startsWith('login:') ? 'from a login' : `im_${id}_…`
}

/** A user as it is shown. */
export interface ShownUser extends UserInfo {
  budget: BudgetState | undefined
  keys: { valid: string[]; other: number }
}

/** Ids of keys that a line shows. */
const MOST_KEYS = 8

export function factsOfUser(user: ShownUser, now: number): Fact[] {
  const { name, role, hasPassword, createdAt, limits, budget, keys } = user
  const more = keys.valid.length > MOST_KEYS ? ', …' : ''
  const listed = keys.valid.length === 0 ? '' : `: ${keys.valid.slice(0, MOST_KEYS).join(', ')}${more}`
  return [
    ['user', name],
    ['role', role],
    ['password', hasPassword ? 'yes' : 'no'],
    ['added', timeText(createdAt)],
    ['limits', limitsText(limits)],
    ['budget', budget === undefined ? undefined : budgetStateText(budget, now)],
    ['keys', `${keys.valid.length} valid${keys.other === 0 ? '' : `, ${keys.other} revoked or expired`}${listed}`],
  ]
}
