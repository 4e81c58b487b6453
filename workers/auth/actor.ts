import { MeshError, type UserRole } from '../../lib/protocol/index.js'

/** Who asks for a change. */
export interface Actor {
  user: string
  role: UserRole
}

/** The authority itself. No user may have this name. */
export const SYSTEM: Actor = { user: 'system', role: 'admin' }

/** @throws MeshError FORBIDDEN when a user who is no admin acts for somebody else */
export function mustBeSelfOrAdmin(by: Actor, user: string, what: string): void {
  if (by.role === 'admin' || by.user === user) return
  throw MeshError.FORBIDDEN(`${by.user} may ${what} for itself only; an admin may for ${user}`)
}
