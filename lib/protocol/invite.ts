import z32 from 'z32'
import { z } from 'zod'
import { MeshError } from '../errors/index.js'
import { nameSchema } from './ids.js'
import { parseJson } from './json.js'
import { meshProfileSchema } from './profile.js'
import { roleSchema } from './records.js'
import { validate } from './validate.js'

export const inviteTextSchema = z.object({
  id: z.string(),
  secret: z.string(),
  profile: meshProfileSchema,
  role: roleSchema.optional(),
  name: nameSchema.optional(),
})
export type InviteText = z.infer<typeof inviteTextSchema>

const INVITE_PREFIX = 'imv_'

/** What an invite's bytes begin with: a later version may look different. */
const INVITE_VERSION = 1
const ID_BYTES = 8
const KEY_BYTES = 32
const INVITE_FIXED_BYTES = 1 + ID_BYTES + 3 * KEY_BYTES

/**
 * An invite as people copy it, all that the other machine needs: version, id, secret, mesh address and authority as
 * bytes, then the rest as JSON, in z-base-32.
 */
export function encodeInvite({ id, secret, profile, role, name }: InviteText): string {
  const { address, authority, network } = profile
  const bytes = Buffer.concat([
    Buffer.from([INVITE_VERSION]),
    ...[id, secret, address, authority].map((text) => z32.decode(text)),
    Buffer.from(JSON.stringify([network.kind, network.bootstrap, role, name])),
  ])
  return INVITE_PREFIX + z32.encode(bytes)
}

/** @throws MeshError INVITE_INVALID */
export function decodeInvite(text: string): InviteText {
  const trimmed = text.trim()
  try {
    if (!trimmed.startsWith(INVITE_PREFIX)) throw new Error('no prefix')
    const bytes = Buffer.from(z32.decode(trimmed.slice(INVITE_PREFIX.length)))
    if (bytes[0] !== INVITE_VERSION || bytes.byteLength <= INVITE_FIXED_BYTES)
      throw new Error('no invite of this version')
    let at = 1
    const take = (length: number): string => {
      at += length
      return z32.encode(bytes.subarray(at - length, at))
    }
    const [id, secret, address, authority] = [take(ID_BYTES), take(KEY_BYTES), take(KEY_BYTES), take(KEY_BYTES)]
    const rest = validate(z.array(z.unknown()), parseJson(bytes.subarray(at), 'invite'), 'invite')
    const [kind, bootstrap, role, name] = rest.map((value) => value ?? undefined)
    return validate(
      inviteTextSchema,
      { id, secret, profile: { address, authority, network: { kind, bootstrap } }, role, name },
      'invite',
    )
  } catch (cause) {
    throw MeshError.INVITE_INVALID(
      'This is no invite: expected the whole text that `infermesh invite` printed, beginning with imv_',
      {},
      { cause },
    )
  }
}
