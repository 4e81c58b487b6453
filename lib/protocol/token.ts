import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { z } from 'zod'
import { MeshError } from '../errors/index.js'
import { isConnectString } from './connect.js'
import { decodeKey, MAX_CREDENTIAL_CHARS } from './ids.js'
import { parseJson } from './json.js'
import { userRoleSchema } from './scopes.js'
import { validate } from './validate.js'

/**
 * Tokens that a login gives: JWTs (RFC 7519) signed with Ed25519 (RFC 8037) by the authority's identity key. Whoever
 * knows the authority's public key, which the mesh's profile and the directory tell, can check one: gateways hold no
 * secret for it. What is signed begins with `eyJ`, so no signature of the DHT or of a store can be taken for one.
 */

/** How long a token is good for. */
export const TOKEN_MS = 15 * 60_000
/** Two machines' clocks may differ by this. */
const CLOCK_SKEW_MS = 60_000

/** Times are seconds since the epoch, as in every JWT. */
export const tokenClaimsSchema = z.object({
  /** The mesh's address. */
  iss: z.string(),
  /** The user's name. */
  sub: z.string(),
  role: userRoleSchema,
  iat: z.int(),
  exp: z.int(),
  /** The token's own id, as the audit trail names it. */
  jti: z.string(),
  /** Stands for the password that was given: a new password ends the tokens of the old one. */
  pwd: z.string(),
})
export type TokenClaims = z.infer<typeof tokenClaimsSchema>

const HEADER = Buffer.from(JSON.stringify({ alg: 'EdDSA', typ: 'JWT' })).toString('base64url')
const FORM = /^[\w-]{1,200}\.[\w-]{1,800}\.[\w-]{86}$/
/** DER before the 32 bytes of an Ed25519 key (RFC 8410). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

/** Whether a text has the form of a token. */
export function isToken(text: string): boolean {
  return text.length <= MAX_CREDENTIAL_CHARS && FORM.test(text)
}

/**
 * Whether a text was meant as a credential of a mesh: an API key, good or bad, a token, or a connect string in the place of a
 * key. Not so for `sk-none`.
 */
export function isCredential(text: string | undefined): boolean {
  return text !== undefined && (text.startsWith('im_') || isConnectString(text) || isToken(text))
}

/** @param seed the first 32 bytes of the authority's secret key */
export function signToken(claims: TokenClaims, seed: Uint8Array): string {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' })
  const signed = `${HEADER}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`
  return `${signed}.${sign(null, Buffer.from(signed), key).toString('base64url')}`
}

/** Checks tokens of one mesh. */
export class TokenVerifier {
  readonly #mesh: string
  readonly #key: KeyObject

  /** @param mesh the mesh's address; @param authority the authority's public key */
  constructor(mesh: string, authority: string) {
    this.#mesh = mesh
    this.#key = createPublicKey({
      key: Buffer.concat([SPKI_PREFIX, decodeKey(authority)]),
      format: 'der',
      type: 'spki',
    })
  }

  /** @throws MeshError INVALID_API_KEY: malformed, signed by somebody else, of another mesh, or expired */
  verify(text: string, now = Date.now()): TokenClaims {
    const [header = '', payload = '', signature = ''] = text.split('.')
    // The header is compared whole: no token chooses how it is checked.
    const isGenuine =
      isToken(text) &&
      header === HEADER &&
      verify(null, Buffer.from(`${header}.${payload}`), this.#key, Buffer.from(signature, 'base64url'))
    if (!isGenuine) throw MeshError.INVALID_API_KEY('This token was not signed by the authority of this mesh')
    const claims = validate(
      tokenClaimsSchema,
      parseJson(Buffer.from(payload, 'base64url'), 'The token'),
      'token',
      'INVALID_API_KEY',
    )
    if (claims.iss !== this.#mesh) throw MeshError.INVALID_API_KEY('This token is for another mesh')
    if (claims.exp * 1000 <= now) {
      throw MeshError.INVALID_API_KEY(
        `This token expired at ${new Date(claims.exp * 1000).toISOString()}. Log in again`,
      )
    }
    if (claims.iat * 1000 > now + CLOCK_SKEW_MS) {
      throw MeshError.INVALID_API_KEY(
        'This token is from the future: the clocks of this machine and of the authority differ',
      )
    }
    return claims
  }
}
