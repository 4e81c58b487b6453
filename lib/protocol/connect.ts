import { createHash } from 'node:crypto'
import z32 from 'z32'
import { z } from 'zod'
import { MeshError } from '../errors/index.js'
import { parseApiKey } from './ids.js'
import { parseJson } from './json.js'
import { type MeshProfile, meshProfileSchema } from './profile.js'
import { validate } from './validate.js'

/** Connect strings: all that a person needs to use a mesh from another machine, as one text. It holds a secret. */

/** What a connect string begins with: nothing else that people handle does. */
const PREFIX = 'imc_'
/** What its bytes begin with: a later version may look different. */
const VERSION = 1
const ID_BYTES = 8
const KEY_BYTES = 32
/** Of the SHA-256 over what comes before: a text that was not copied whole is told apart from a wrong key. */
const CHECKSUM_BYTES = 4
const FIXED_BYTES = 1 + ID_BYTES + 3 * KEY_BYTES
/** Room for some hundred bootstrap nodes; nobody reads more of what may be anything. */
const MAX_CHARS = 8192

const EXPECTED = 'expected the whole text that `infermesh keys create` printed, beginning with imc_'

/** A mesh, and an API key for it. */
export interface ConnectInfo {
  key: string
  profile: MeshProfile
}

/** Whether a text was meant as a connect string, good or bad: it is a secret then. */
export function isConnectString(text: string): boolean {
  return text.trim().startsWith(PREFIX)
}

/**
 * A connect string: version, key id, secret, mesh address and authority as bytes, then the network as JSON and a
 * checksum, in z-base-32.
 * @throws MeshError INVALID_API_KEY where the key has not the form of one
 */
export function encodeConnectString({ key, profile }: ConnectInfo): string {
  const parts = parseApiKey(key)
  if (parts === undefined) throw noApiKey(key)
  const { address, authority, network } = profile
  const bytes = Buffer.concat([
    Buffer.from([VERSION]),
    ...[parts.id, parts.secret, address, authority].map((text) => z32.decode(text)),
    Buffer.from(JSON.stringify([network.kind, network.bootstrap])),
  ])
  return PREFIX + z32.encode(Buffer.concat([bytes, checksumOf(bytes)]))
}

/** @throws MeshError BAD_REQUEST, which shows nothing of the text */
export function decodeConnectString(text: string): ConnectInfo {
  // One that a mail has folded is whole still.
  const trimmed = text.replace(/\s+/g, '')
  if (!trimmed.startsWith(PREFIX) || trimmed.length > MAX_CHARS) {
    throw MeshError.BAD_REQUEST(`This is no connect string: ${EXPECTED}`)
  }
  try {
    return decode(Buffer.from(z32.decode(trimmed.slice(PREFIX.length))))
  } catch (err) {
    if (err instanceof LaterVersion) {
      throw MeshError.BAD_REQUEST(
        'This connect string was made by a later version of infermesh: upgrade, or have it made anew by this version',
      )
    }
    // The text is a secret: nothing of what a reader of it says goes on.
    throw MeshError.BAD_REQUEST(`This connect string is damaged, or not whole: ${EXPECTED}`)
  }
}

/** Why a text is no API key, for whoever gave it as one. */
export function noApiKey(text: string): MeshError {
  return MeshError.INVALID_API_KEY(
    isConnectString(text)
      ? 'This is a connect string, which holds a key and the mesh: give it to `infermesh login`, or as INFERMESH_MESH. The key alone begins with im_'
      : 'This is no API key: expected im_<id>_<secret>',
  )
}

class LaterVersion extends Error {}

function decode(bytes: Buffer): ConnectInfo {
  const end = bytes.byteLength - CHECKSUM_BYTES
  if (end <= FIXED_BYTES) throw new Error('too short')
  const body = bytes.subarray(0, end)
  if (!checksumOf(body).equals(bytes.subarray(end))) throw new Error('the checksum differs')
  if (body[0] !== VERSION) throw new LaterVersion()
  let at = 1
  const take = (length: number): string => {
    at += length
    return z32.encode(body.subarray(at - length, at))
  }
  const [id, secret, address, authority] = [take(ID_BYTES), take(KEY_BYTES), take(KEY_BYTES), take(KEY_BYTES)]
  const [kind, bootstrap] = validate(z.tuple([z.unknown(), z.unknown()]), parseJson(body.subarray(at), 'it'), 'it')
  const profile = validate(meshProfileSchema, { address, authority, network: { kind, bootstrap } }, 'it')
  return { key: `im_${id}_${secret}`, profile }
}

function checksumOf(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest().subarray(0, CHECKSUM_BYTES)
}
