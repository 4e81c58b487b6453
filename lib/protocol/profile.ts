import { z } from 'zod'
import { isLoopbackHost } from './http.js'
import { encodedKeySchema } from './ids.js'
import { roleSchema } from './records.js'

/** How a mesh is reached. */

export const networkKindSchema = z.enum(['local', 'lan', 'private', 'public'])
export type NetworkKind = z.infer<typeof networkKindSchema>

/** A DHT node that others begin at. */
export const bootstrapNodeSchema = z.string().regex(/^[\w.-]+:\d{1,5}$/, 'expected host:port')

/** What a mesh is found on. `bootstrap` is empty for the public DHT. Also the directory's `network/mesh`. */
export const networkSchema = z.object({ kind: networkKindSchema, bootstrap: z.array(bootstrapNodeSchema) })

/** How to reach a mesh. */
export const meshProfileSchema = z.object({
  address: encodedKeySchema,
  /** Public key of the authority: every worker dials it by this key. */
  authority: encodedKeySchema,
  network: networkSchema,
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

/** Directory, `nodes/mesh`: the authority and the gateways, whose nodes others may begin at. On local and LAN networks. */
export const nodesSchema = z.object({ nodes: z.array(memberNodeSchema).max(MAX_NODES) })

/** A node as `host:port`. */
export function nodeText({ host, port }: { host: string; port: number }): string {
  return `${host}:${port}`
}

/** The other way round. */
export function nodeAddress(node: string): { host: string; port: number } {
  const colon = node.lastIndexOf(':')
  return { host: node.slice(0, colon), port: Number(node.slice(colon + 1)) }
}

/** Whether who knows one of two networks finds those who are on the other: they are one, and begin at a common node. */
export function isSameNetwork(a: MeshProfile['network'], b: MeshProfile['network']): boolean {
  const isFound = a.bootstrap.some((node) => b.bootstrap.includes(node))
  return a.kind === b.kind && (isFound || (a.bootstrap.length === 0 && b.bootstrap.length === 0))
}

export const LOOPBACK = '127.0.0.1'

/**
 * True where the whole network is on this machine. Every DHT node on loopback must bind to it: a dial from any other
 * socket opens at its own end only.
 */
export function isLoopback({ kind, bootstrap }: MeshProfile['network']): boolean {
  const hosts = bootstrap.map((node) => nodeAddress(node).host)
  return kind === 'local' || (hosts.length > 0 && hosts.every(isLoopbackHost))
}
