import { z } from 'zod'

export const userRoleSchema = z.enum(['admin', 'user'])
export type UserRole = z.infer<typeof userRoleSchema>

/** What a credential may be used for. `admin` holds the others, for everybody. */
export const SCOPES = ['inference', 'read:usage', 'manage:keys', 'admin'] as const
export const scopeSchema = z.enum(SCOPES)
export type Scope = z.infer<typeof scopeSchema>

/** Scopes of a new key that asks for none. */
export const DEFAULT_SCOPES: readonly Scope[] = ['inference']

/**
 * What a credential may really be used for: never more than its user's role allows.
 * @param given the key's own; absent for a login's token, and for keys of builds that knew no scopes: all of the role's
 */
export function scopesOf(role: UserRole, given: readonly Scope[] = SCOPES): readonly Scope[] {
  if (given.includes('admin') && role === 'admin') return SCOPES
  return SCOPES.filter((scope) => scope !== 'admin' && given.includes(scope))
}
