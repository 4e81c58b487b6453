import type { FastifyInstance } from 'fastify'
import type { Json, OpenApiPart } from './openapi.js'

/**
 * Whether this process lives, and whether it can serve, for those who watch it. Neither wants a credential.
 * @param missing what keeps it from serving, in words; empty: nothing
 */
export function serveHealth(app: FastifyInstance, missing: () => string[]): void {
  app.get('/healthz', async () => ({ status: 'ok' }))
  app.get('/readyz', async (_request, reply) => {
    const lacks = missing()
    if (lacks.length === 0) return { status: 'ready' }
    return reply.code(503).send({ status: 'not ready', missing: lacks })
  })
}

export const healthPart: OpenApiPart = {
  paths: {
    '/healthz': { get: open('Whether this process lives') },
    '/readyz': { get: open('Whether this gateway can serve; 503 names what is missing') },
  },
}

function open(summary: string): Json {
  return { summary, tags: ['Health'], security: [], responses: { 200: { description: 'Yes' } } }
}
