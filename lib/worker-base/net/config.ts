import { z } from 'zod'
import { bootstrapNodeSchema, networkKindSchema } from '../../protocol/index.js'
import { PORTS } from './ports.js'

export const netConfigSchema = z.strictObject({
  /** Only read where a mesh is created; afterwards the home's mesh.json says it. */
  kind: networkKindSchema,
  /** `host:port` of DHT nodes. */
  bootstrap: z.array(bootstrapNodeSchema),
  /** IPv4 address that this worker's DHT node binds to; empty: all, and on a LAN others are told the one that leads to it. */
  host: z.string(),
  /** First of the UDP ports for DHT nodes on LAN and private networks, eight for each role; 0: any free one, kept for later starts. */
  port: z
    .int()
    .min(0)
    .max(65_535 - PORTS + 1),
  /** UDP port of the authority's DHT node on local and LAN networks, and no other; 0: as `port` says. */
  bootstrapPort: z.int().min(0).max(65_535),
  /** Strangers that may be connected at a time. */
  maxClients: z.int().min(0),
  /** The same from one address but loopback; 0: no bound. */
  maxClientsPerAddress: z.int().min(0),
})
export type NetConfig = z.output<typeof netConfigSchema>
