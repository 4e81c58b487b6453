import type { ApiKeyInfo, Limits, UserInfo } from '../../lib/client/index.js'
import type { UsageTotals } from '../../lib/protocol/index.js'
import { type BudgetState, budgetStateText } from './budgets.js'
import { counted, countText, red, timeText } from './output.js'
import { limitsText } from './parse.js'

/** What is shown of one key or user. */

type Fact = [name: string, value: string | undefined]

/** A key as it is shown: one that was asked for by its id, or the one in use, of which its gateway tells. */
export interface ShownKey
  extends Pick<ApiKeyInfo, 'id' | 'user' | 'expiresAt'>,
    Partial<Pick<ApiKeyInfo, 'label' | 'scopes' | 'parent' | 'createdAt' | 'revokedAt' | 'lastUsedAt'>> {
  limits: Limits
  budget?: BudgetState | undefined
  /** Whose limits hold besides. */
  above?: { parents: { keyId: string; limits: Limits }[]; user: Limits }
  /** Tokens left in the tightest budget of all that hold. */
  budgetRemaining?: number | undefined
  day?: UsageTotals
  month?: UsageTotals
  total?: UsageTotals
}

export function keyState({ revokedAt, expiresAt }: Pick<ShownKey, 'revokedAt' | 'expiresAt'>, now: number): string {
  if (revokedAt !== undefined) return red('revoked')
  return expiresAt !== undefined && expiresAt <= now ? red('expired') : 'valid'
}

export function factsOfKey(key: ShownKey, now: number): Fact[] {
  const { id, user, label, parent, scopes, limits, above, budget, budgetRemaining, day, month, total } = key
  return [
    ['key', id.startsWith('login:') ? 'a token' : `im_${id}_…`],
    ['user', user],
    ['label', label],
    ['state', keyState(key, now) + (key.expiresAt === undefined ? '' : `, until ${timeText(key.expiresAt)}`)],
    ['scopes', scopes?.join(', ') ?? 'all of its user’s'],
    ['made', key.createdAt === undefined ? undefined : timeText(key.createdAt)],
    ['made with', parent === undefined ? undefined : `im_${parent}_…, whose limits hold as well`],
    ['last used', key.lastUsedAt === undefined ? undefined : timeText(key.lastUsedAt)],
    ['limits', limitsText(limits)],
    ...(above?.parents ?? []).map((one): Fact => [`of im_${one.keyId}_…`, limitsText(one.limits)]),
    ['of the user', above === undefined ? undefined : limitsText(above.user)],
    ['budget', budget === undefined ? undefined : budgetStateText(budget, now)],
    [
      'budget left',
      budgetRemaining === undefined ? undefined : `${countText(budgetRemaining)} tokens, of the tightest`,
    ],
    ['used today', usedText(day)],
    ['this month', usedText(month)],
    ['in all', usedText(total)],
  ]
}

function usedText(totals: UsageTotals | undefined): string | undefined {
  if (totals === undefined) return undefined
  return `${countText(totals.promptTokens + totals.completionTokens)} tokens in ${counted(totals.requests, 'request')}`
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
