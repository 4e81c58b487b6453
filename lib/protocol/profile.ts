import { z } from 'zod'
import { isLoopbackHost } from './http.js'
import { encodedKeySchema } from './ids.js'
import { roleSchema } from './records.js'

/** How a mesh is reached. */

export const networkKindSchema = z.enum(['local', 'lan', 'private', 'public'])
export type NetworkKind = z.infer<typeof networkKindSchema>

/** A DHT node that others begin at. */
export const bootstrapNodeSchema = z.string().regex(/^[\w.-]+:\d{1,5}$/, 'expected host:port')

/** How to reach a mesh. `bootstrap` is empty for the public DHT. */
export const meshProfileSchema = z.object({
  address: encodedKeySchema,
  /** Public key of the authority: every worker dials it by this key. */
  authority: encodedKeySchema,
  network: z.object({ kind: networkKindSchema, bootstrap: z.array(bootstrapNodeSchema) }),
})
export type MeshProfile = z.infer<typeof meshProfileSchema>

/** Members whose DHT nodes the directory names. */
export const MAX_NODES = 16

/** A member's DHT node, where it can be called directly. */
export const memberNodeSchema = z.object({
  publicKey: encodedKeySchema,
  role: roleSchema,
  host: z.ipv4(),
  port: z.int().min(1).max(65_535),
})
export type MemberNode = z.infer<typeof memberNodeSchema>

/** Directory, `network/nodes`: the authority and the gateways, whose nodes others may begin at. On local and LAN networks. */
export const networkEntrySchema = z.object({ nodes: z.array(memberNodeSchema).max(MAX_NODES) })

/** A node as `host:port`. */
export function nodeText({ host, port }: { host: string; port: number }): string {
  return `${host}:${port}`
}

export const LOOPBACK = '127.0.0.1'

/**
 * True where the whole network is on this machine. Every DHT node on loopback must bind to it: a dial from any other
 * socket opens at its own end only.
 */
export function isLoopback({ kind, bootstrap }: MeshProfile['network']): boolean {
  const hosts = bootstrap.map((node) => node.slice(0, node.lastIndexOf(':')))
  return kind === 'local' || (hosts.length > 0 && hosts.every(isLoopbackHost))
}
