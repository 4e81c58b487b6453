import { z } from 'zod'
import { MeshError } from './errors.js'
import { PROTOCOL_VERSION } from './ids.js'
import { loadSchema } from './load.js'
import { roleSchema } from './records.js'
import { parseJson, validate } from './validate.js'

/**
 * The control channel: one on every link. It opens with each side's hello, then carries load reports between members,
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

/** What a client says of itself in its hello: nothing but what it speaks. */
export const CLIENT_HELLO = { protocolVersion: PROTOCOL_VERSION, role: 'client' } as const

/**
 * Reads a hello as far as every version must understand it.
 * @throws MeshError VERSION_MISMATCH, or BAD_REQUEST for what is no hello
 */
export function openHello(bytes: Uint8Array): { role?: unknown } {
  const hello = parseJson(bytes, 'The hello') as { protocolVersion?: unknown; version?: unknown; role?: unknown } | null
  if (hello?.protocolVersion === PROTOCOL_VERSION) return hello
  const short = (value: unknown) => String(value).slice(0, 20)
  const version = hello?.version === undefined ? '' : ` (infermesh ${short(hello.version)})`
  throw MeshError.VERSION_MISMATCH(
    `The other side speaks protocol ${short(hello?.protocolVersion)}${version}, this side ${PROTOCOL_VERSION}. Run the same version of infermesh on both`,
  )
}

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

const goodbyeSchema = z.object({ code: z.string(), message: z.string() })

/** Why the other side closes the link. @throws MeshError BAD_REQUEST for what is no goodbye */
export function readGoodbye(bytes: Uint8Array): MeshError {
  const { code, message } = validate(goodbyeSchema, parseJson(bytes, 'The goodbye'), 'goodbye')
  return MeshError.fromJSON({ code, message: `The other side closed the link: ${message}` })
}
