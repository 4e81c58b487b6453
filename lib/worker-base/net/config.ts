import { z } from 'zod'
import { bootstrapNodeSchema, networkKindSchema } from '../../protocol/index.js'

export const netConfigSchema = z.strictObject({
  /** Only read where a mesh is created; afterwards the home's mesh.json says it. */
  kind: networkKindSchema,
  /** `host:port` of DHT nodes. */
  bootstrap: z.array(bootstrapNodeSchema),
  /** IPv4 address that this worker's DHT node binds to, and the LAN's bootstrap node with it; empty: all, and the first that is not loopback. */
  host: z.string(),
  /** UDP port of the bootstrap node that the authority serves; 0: a free one, kept for later starts. */
  bootstrapPort: z.int().min(0).max(65_535),
  /** Strangers that may be connected at a time. */
  maxClients: z.int().min(0),
  /** The same from one address but loopback; 0: no bound. */
  maxClientsPerAddress: z.int().min(0),
})
export type NetConfig = z.output<typeof netConfigSchema>
