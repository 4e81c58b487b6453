import type { FastifyRequest } from 'fastify'
import { MAX_CREDENTIAL_CHARS } from '../../../lib/protocol/index.js'

/** The credential in a request's `Authorization: Bearer …`; undefined where there is none that could be one. */
export function bearerOf({ headers: { authorization } }: FastifyRequest): string | undefined {
  const credential = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1]
  return credential !== undefined && credential.length <= MAX_CREDENTIAL_CHARS ? credential : undefined
}
