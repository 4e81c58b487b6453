import { MeshError } from '../errors/index.js'
import { bearerCredential } from './http.js'
import { MAX_CREDENTIAL_CHARS } from './ids.js'
import { isCredential } from './token.js'

/** Where a request over HTTP says by whose right it is made: in a header, and never in its address. */

/** Headers in which clients of other APIs send their key, as it is. */
export const KEY_HEADERS = ['x-api-key', 'api-key'] as const

/** The headers of a request, with names in lower case. */
type RequestHeaders = Readonly<Record<string, string | string[] | undefined>>

/**
 * The credential of a request, whatever it is worth: a bearer's, or that of one of KEY_HEADERS; undefined where there is
 * none. An Authorization of another scheme is none.
 * @throws MeshError INVALID_API_KEY where there are two that differ: it would be left to chance by which right is acted
 */
export function credentialIn(headers: RequestHeaders): string | undefined {
  const found = credentialsIn(headers)
  const [first] = found.values()
  if (found.size < 2) return first
  throw MeshError.INVALID_API_KEY(
    `This request has ${found.size} credentials that differ: send one, in \`Authorization: Bearer im_…\`, ${KEY_HEADERS.map((name) => `\`${name}\``).join(' or ')}`,
  )
}

/** Whether a request has anything of the form of a key or token of the mesh: what clients send as a placeholder has not. */
export function hasCredential(headers: RequestHeaders): boolean {
  return [...credentialsIn(headers)].some(isCredential)
}

function credentialsIn({ authorization, ...headers }: RequestHeaders): Set<string> {
  const given = KEY_HEADERS.flatMap((name) => headers[name] ?? []).filter((key) => key !== '')
  const bearers = [authorization ?? []].flat().map(bearerCredential)
  // One that is too long is a credential, and a wrong one.
  return new Set(
    [...bearers, ...given.map((key) => key.slice(0, MAX_CREDENTIAL_CHARS + 1))].filter((one) => one !== undefined),
  )
}
