import { MeshError, SCOPES, type Scope } from '../../lib/protocol/index.js'

/** Who asks for a change, and with what. */
export interface Actor {
  user: string
  /** What the credential may be used for. */
  scopes: readonly Scope[]
  /** The API key that it is asked with; absent for a login's token, and for the authority itself. */
  keyId?: string | undefined
}

/** The authority itself. No user may have this name. */
export const SYSTEM: Actor = { user: 'system', scopes: SCOPES }

/** Whether it may act for everybody. The key of an admin may lack that. */
export function isAdmin({ scopes }: Actor): boolean {
  return scopes.includes('admin')
}

/** @throws MeshError FORBIDDEN when one who is no admin acts for somebody else */
export function mustBeSelfOrAdmin(by: Actor, user: string, what: string): void {
  if (isAdmin(by) || by.user === user) return
  throw MeshError.FORBIDDEN(`${by.user} may ${what} for itself only; an admin may for ${user}`)
}
