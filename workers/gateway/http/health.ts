import type { FastifyInstance } from 'fastify'
import { errorAnswerOf, MeshError } from '../../../lib/protocol/index.js'
import { sendError } from './errors.js'
import type { Json, OpenApiPart } from './openapi.js'

/** Where programs made for llama-server ask. */
const HEALTH = ['/health', '/v1/health']

/**
 * Whether this process lives, and whether it can serve, for those who watch it. None wants a credential.
 * @param missing what keeps it from serving, in words; empty: nothing
 */
export function serveHealth(app: FastifyInstance, missing: () => string[]): void {
  app.get('/healthz', async () => ({ status: 'ok' }))
  app.get('/readyz', async (_request, reply) => {
    const lacks = missing()
    if (lacks.length === 0) return { status: 'ready' }
    return reply.code(503).send({ status: 'not ready', missing: lacks })
  })
  for (const url of HEALTH) {
    app.get(url, async (_request, reply) => {
      const lacks = missing()
      if (lacks.length === 0) return { status: 'ok' }
      const { error, ...answer } = errorAnswerOf(MeshError.NO_PROCESSOR(`Not ready: ${lacks.join('; ')}`))
      return sendError(reply, { ...answer, error: { ...error, type: 'unavailable_error' } })
    })
  }
}

export const healthPart: OpenApiPart = {
  paths: {
    '/healthz': { get: open('Whether this process lives') },
    '/readyz': { get: open('Whether this gateway can serve; 503 names what is missing') },
    ...Object.fromEntries(HEALTH.map((url) => [url, { get: open('The same, as llama-server tells it') }])),
  },
}

function open(summary: string): Json {
  return { summary, tags: ['Health'], security: [], responses: { 200: { description: 'Yes' } } }
}
