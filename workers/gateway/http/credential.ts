import type { FastifyRequest } from 'fastify'
import { credentialIn } from '../../../lib/protocol/index.js'

/**
 * The credential of a request, of whatever form; undefined where it has none.
 * @throws MeshError INVALID_API_KEY where it has two that differ
 */
export function credentialOf(request: Pick<FastifyRequest, 'headers' | 'raw'>): string | undefined {
  // Of a header that comes twice `headers` has the first alone. A request through the mesh has one of each.
  return credentialIn({ ...request.headers, ...request.raw.headersDistinct })
}
