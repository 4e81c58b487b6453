import { z } from 'zod'

/** How a mesh is reached. */

export const networkKindSchema = z.enum(['local', 'lan', 'private', 'public'])
export type NetworkKind = z.infer<typeof networkKindSchema>

/** How to reach a mesh. `bootstrap` holds `host:port` of DHT nodes; empty for the public DHT. */
export const meshProfileSchema = z.object({
  address: z.string().length(52),
  /** Public key of the authority: every worker dials it by this key. */
  authority: z.string().length(52),
  network: z.object({ kind: networkKindSchema, bootstrap: z.array(z.string()) }),
})
export type MeshProfile = z.infer<typeof meshProfileSchema>

export const LOOPBACK = '127.0.0.1'

/**
 * True where the whole network is on this machine. Every DHT node on loopback must bind to it: a dial from any other
 * socket opens at its own end only.
 */
export function isLoopback({ kind, bootstrap }: MeshProfile['network']): boolean {
  return kind === 'local' || (bootstrap.length > 0 && bootstrap.every((node) => node.startsWith(`${LOOPBACK}:`)))
}
