import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto'
import z32 from 'z32'
import { z } from 'zod'
import { MeshError } from '../errors/index.js'

/** The protocol spoken on links. Two workers whose versions differ refuse each other. */
export const PROTOCOL_VERSION = 4

const KEY_BYTES = 32
const ENCODED_KEY = /^[ybndrfg8ejkmcpqxot1uwisza345h769]{52}$/

/** A key as `encodeKey` writes it. */
export const encodedKeySchema = z.string().max(52).regex(ENCODED_KEY, 'expected 52 characters of z-base-32')

/** A 32-byte public key or core key as 52 z-base-32 characters: how people see keys and mesh addresses. */
export function encodeKey(key: Uint8Array): string {
  return z32.encode(key)
}

/**
 * @param text 52 z-base-32 or 64 hexadecimal characters
 * @param what what the key is, for the error message
 * @throws MeshError BAD_REQUEST when it is neither
 */
export function decodeKey(text: string, what = 'key'): Buffer {
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, 'hex')
  if (ENCODED_KEY.test(text)) {
    const key = Buffer.from(z32.decode(text))
    if (key.byteLength === KEY_BYTES) return key
  }
  throw MeshError.BAD_REQUEST(`${JSON.stringify(text.slice(0, 64))} is no ${what}: expected 52 characters of z-base-32`)
}

/** A public key in the one form in which keys are compared: as `encodeKey` writes it. */
export const publicKeySchema = z.string().max(52).refine(isKeyText, 'expected 52 characters of z-base-32')

function isKeyText(text: string): boolean {
  try {
    return encodeKey(decodeKey(text)) === text
  } catch {
    return false
  }
}

/** A request id, unique without coordination: `req_` and 32 hexadecimal digits, 122 bits of them random. */
export function newRequestId(): string {
  return `req_${randomUUID().replaceAll('-', '')}`
}

/** What a caller may choose as request id. */
export const requestIdSchema = z
  .string()
  .max(64)
  .regex(/^[A-Za-z0-9_.:-]{1,64}$/, 'expected 1 to 64 letters, digits or _.:-')

/** Names of workers, users and keys. */
export const nameSchema = z
  .string()
  .max(63)
  .regex(/^[a-z0-9][a-z0-9_.@-]{0,62}$/i, 'expected 1 to 63 letters, digits or ._@-, beginning with a letter or digit')

/** What comes before a user's name in the key id of the user's login tokens. */
const LOGIN = 'login:'

/**
 * What usage is counted under: an API key's id, or `login:` and a user's name. It stands between slashes in the keys of
 * stores, so none may be in it. Longer than any of today's: ids of later versions count as well.
 */
export const keyIdSchema = z
  .string()
  .max(128)
  .regex(/^[\w.:@-]{1,128}$/, 'expected 1 to 128 letters, digits or _.:@-')

/** The key id of what a user does with login tokens. */
export function loginKeyId(user: string): string {
  return `${LOGIN}${user}`
}

/** The user whose login tokens a key id stands for; undefined where it is an API key's. */
export function loginUserOf(keyId: string): string | undefined {
  return keyId.startsWith(LOGIN) ? keyId.slice(LOGIN.length) : undefined
}

/** Names of models; slashes and colons occur in names such as `bartowski/Qwen2.5-0.5B:Q4_K_M`. */
export const modelNameSchema = z
  .string()
  .max(200)
  .regex(/^[\w][\w./:@+-]{0,199}$/, 'expected 1 to 200 letters, digits or ./:@+-_')

/** Longest API key or token that is read. */
export const MAX_CREDENTIAL_CHARS = 1024

/** An API key's two halves: the id finds the entry, the secret (256 bits) proves possession. */
export interface ApiKeyParts {
  id: string
  secret: string
}

const API_KEY = /^im_([ybndrfg8ejkmcpqxot1uwisza345h769]{13})_([ybndrfg8ejkmcpqxot1uwisza345h769]{52})$/

/** A new API key as `im_<id>_<secret>`. The text is shown once and never stored. */
export function newApiKey(): ApiKeyParts & { text: string } {
  const id = z32.encode(randomBytes(8))
  const secret = z32.encode(randomBytes(32))
  return { id, secret, text: `im_${id}_${secret}` }
}

/** @returns undefined when the text does not have the form of a key */
export function parseApiKey(text: string): ApiKeyParts | undefined {
  const [, id, secret] = API_KEY.exec(text) ?? []
  return id === undefined || secret === undefined ? undefined : { id, secret }
}

/** SHA-256 of a 256-bit random secret, as hex. (A slow hash adds nothing to a secret that cannot be guessed.) */
export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}

/** Compares a secret with its stored hash in constant time. */
export function secretMatches(secret: string, hash: string): boolean {
  const given = createHash('sha256').update(secret).digest()
  const stored = Buffer.from(hash, 'hex')
  return stored.byteLength === given.byteLength && timingSafeEqual(given, stored)
}
