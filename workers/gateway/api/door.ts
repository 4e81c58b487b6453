import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type InputOf, MeshError, type MethodName, methods } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import type { Net } from '../../../lib/worker-base/index.js'
import { credentialOf, isJsonObject, parseJsonBodies } from '../http/index.js'
import { type ApiRoute, apiRoutes } from './routes.js'

/** What the management API needs of its gateway. */
export interface ApiParts {
  net: Net
  /** Checks a credential against this gateway's replica of the accounts. @throws MeshError */
  authenticate: (credential: string) => Principal
}

/** What a request brings besides its headers. A DELETE may have no body. */
interface Sent {
  Params: Record<string, string>
  Querystring: Record<string, string>
  Body: Record<string, unknown> | null | undefined
}

/** No method of the management takes more. */
const MAX_BODY_BYTES = 64 * 1024
/** How long a new credential may take to reach this gateway before its answer goes out anyway. */
const SETTLE_MS = 1000
const SETTLE_STEP_MS = 5

/**
 * The management API under /api/v1: every route is a method of the mesh, called with the caller's own credential. What
 * the authority serves is decided by the authority, which checks the credential again.
 *
 * A credential comes in a header alone, which no browser adds by itself, and a body as JSON alone: a page of another site
 * can send neither without being allowed to. Errors take the door's own form.
 */
export function serveApi(app: FastifyInstance, parts: ApiParts): void {
  void app.register(
    async (api) => {
      parseJsonBodies(api)
      // Answers hold keys and names: no cache may keep them.
      api.addHook('onRequest', async (_request, reply) => {
        reply.header('cache-control', 'no-store')
      })
      for (const route of apiRoutes) {
        api.route<Sent>({
          method: route.http,
          url: route.path,
          bodyLimit: MAX_BODY_BYTES,
          handler: async (request, reply) => {
            const answer = await call(parts, route, request)
            return route.status === 204 ? reply.code(204).send() : reply.code(route.status).send(answer)
          },
        })
      }
    },
    { prefix: '/api/v1' },
  )
}

async function call(parts: ApiParts, route: ApiRoute, request: FastifyRequest<Sent>): Promise<unknown> {
  const { at, method } = route.call
  const { params, query, body } = request
  const key = methods[method].scope === 'none' ? undefined : keyOf(request)
  const input = {
    ...route.input({ params, query, body: body ?? {} }),
    ...(method === 'login' && { address: request.ip }),
  }
  const peer = at === 'authority' ? parts.net.authority() : parts.net.dispatcher
  // The method's own schema checks what came.
  const answer: unknown = await peer.call(method, input as InputOf<MethodName>, { key, requestId: request.id })
  if (!isJsonObject(answer)) return answer
  if (route.makes !== undefined) await untilKnown(parts, answer[route.makes])
  return route.find === undefined ? answer : found(answer, route.find, params[route.find.by] ?? '')
}

/** @throws MeshError INVALID_API_KEY */
function keyOf(request: FastifyRequest<Sent>): string {
  const credential = credentialOf(request)
  if (credential !== undefined) return credential
  throw MeshError.INVALID_API_KEY(
    'This wants a credential: send the header "Authorization: Bearer <API key, or token from POST /api/v1/login>"',
  )
}

/** Waits until this gateway knows a credential that the authority has just made, so that it works here at once. */
async function untilKnown({ authenticate }: ApiParts, credential: unknown): Promise<void> {
  for (let waitedMs = 0; waitedMs < SETTLE_MS; waitedMs += SETTLE_STEP_MS) {
    try {
      authenticate(String(credential))
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, SETTLE_STEP_MS))
    }
  }
}

/** The one of a list that the path names. @throws MeshError NOT_FOUND */
function found(answer: Record<string, unknown>, { list, by }: { list: string; by: string }, value: string): unknown {
  const items: unknown = answer[list]
  const item = Array.isArray(items) ? items.find((one) => isJsonObject(one) && one[by] === value) : undefined
  if (item === undefined)
    throw MeshError.NOT_FOUND(`None of the ${list} has the ${by} ${value.slice(0, 64)}`, { param: by })
  return item
}
