import { z } from 'zod'
import { loadSchema } from './load.js'
import { roleSchema } from './records.js'

/**
 * The control channel: one on every link between members. It opens with each side's hello, then carries load reports,
 * which are the heartbeats, and at most one goodbye with the reason why the sender closes the link.
 */

export const CONTROL_PROTOCOL = 'infermesh/control/1'

/** First thing each side says. The version is checked before anything else is believed. */
export const helloSchema = z.object({
  protocolVersion: z.int(),
  /** The package's version, for people. */
  version: z.string(),
  features: z.array(z.string()).max(64),
  role: roleSchema,
  name: z.string(),
  since: z.number(),
  addresses: z.record(z.string(), z.string()).default({}),
})
export type Hello = z.infer<typeof helloSchema>

export const reportSchema = z.object({
  seq: z.int(),
  echo: z.object({ seq: z.int(), heldMs: z.number().min(0) }).optional(),
  load: loadSchema,
})
/**
 * A heartbeat. `echo` is the other side's last `seq`, and how long it waited here for this report: from both the other
 * side reads the round-trip time.
 */
export type Report = z.infer<typeof reportSchema>

export const goodbyeSchema = z.object({ code: z.string(), message: z.string() })
