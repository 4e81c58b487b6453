import { z } from 'zod'
import { MeshError } from '../errors/index.js'
import { nameSchema, PROTOCOL_VERSION } from './ids.js'
import { parseJson } from './json.js'
import { loadSchema } from './load.js'
import { roleSchema } from './records.js'
import { storedText } from './text.js'
import { validate } from './validate.js'

/** What the control channel of a link carries: hello, reports, goodbye. */

/**
 * First thing each side says. The version is checked before anything else is believed; fields that a later version adds
 * are ignored.
 */
export const helloSchema = z.object({
  protocolVersion: z.int(),
  /** The package's version, for people. */
  version: storedText(),
  role: roleSchema,
  name: nameSchema,
  since: z.number(),
  addresses: z.record(z.string(), storedText()).default({}),
})
export type Hello = z.infer<typeof helloSchema>

/** What a client says of itself in its hello: nothing but what it speaks. */
export const CLIENT_HELLO = { protocolVersion: PROTOCOL_VERSION, role: 'client' } as const

const anyHelloSchema = z.looseObject({
  protocolVersion: z.unknown().optional(),
  version: z.unknown().optional(),
  role: z.unknown().optional(),
})

/**
 * Reads a hello as far as every version must understand it.
 * @throws MeshError VERSION_MISMATCH, or BAD_REQUEST for what is no hello
 */
export function openHello(bytes: Uint8Array): { role?: unknown } {
  const hello = anyHelloSchema.safeParse(parseJson(bytes, 'The hello')).data
  if (hello?.protocolVersion === PROTOCOL_VERSION) return hello
  const short = (value: unknown) => (typeof value === 'object' ? 'unknown' : String(value).slice(0, 20))
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
