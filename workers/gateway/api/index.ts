import type { FastifyInstance, FastifyRequest } from 'fastify'
import {
  type InputOf,
  MAX_CREDENTIAL_CHARS,
  MeshError,
  type MethodName,
  methods,
  type ResponseOf,
} from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import type { Net } from '../../../lib/worker-base/index.js'
import { parseJsonBodies } from '../openai/json.js'
import { type ApiRoute, apiRoutes } from './routes.js'

/** What the management API needs of its gateway. */
export interface ApiParts {
  net: Net
  /** Checks a credential against this gateway's replica of the accounts. @throws MeshError */
  authenticate: (credential: string) => Principal
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
 * A credential comes in the Authorization header alone and a body as JSON alone: a page of another site can send neither
 * without being allowed to. Errors take the door's own form.
 */
export function serveApi(app: FastifyInstance, parts: ApiParts): void {
  void app.register(
    async (api) => {
      api.removeAllContentTypeParsers()
      parseJsonBodies(api)
      // Answers hold keys and names: no cache may keep them.
      api.addHook('onRequest', async (_request, reply) => {
        reply.header('cache-control', 'no-store')
      })
      for (const route of apiRoutes) {
        api.route({
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

async function call(parts: ApiParts, route: ApiRoute, request: FastifyRequest): Promise<unknown> {
  const { method, at, find } = route
  const key = methods[method].credential === 'none' ? undefined : credentialOf(request)
  const params = request.params as Record<string, string>
  const query = request.query as Record<string, string>
  const body = { ...route.input({ params, query, body: (request.body ?? {}) as Record<string, unknown> }) }
  if (method === 'login') body.address = request.ip
  // The method's own schema checks what came.
  const input = body as InputOf<MethodName>
  const options = { key, requestId: request.id }
  const peer = at === 'authority' ? parts.net.authority() : parts.net.dispatcher
  const answer = await peer.call(method, input, options)
  await settle(parts, method, answer)
  return find === undefined ? answer : found(answer, find, params[find.by] ?? '')
}

/** @throws MeshError INVALID_API_KEY */
function credentialOf({ headers }: FastifyRequest): string {
  const credential = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1]
  if (credential !== undefined && credential.length <= MAX_CREDENTIAL_CHARS) return credential
  throw MeshError.INVALID_API_KEY(
    'This wants a credential: send the header "Authorization: Bearer <API key, or token from POST /api/v1/login>"',
  )
}

/** Waits until this gateway knows a credential that the authority has just made, so that it works here at once. */
async function settle({ authenticate }: ApiParts, method: MethodName, answer: unknown): Promise<void> {
  const credential =
    method === 'login'
      ? (answer as ResponseOf<'login'>).token
      : method === 'keys.create'
        ? (answer as ResponseOf<'keys.create'>).key
        : undefined
  if (credential === undefined) return
  for (let waitedMs = 0; waitedMs < SETTLE_MS; waitedMs += SETTLE_STEP_MS) {
    try {
      authenticate(credential)
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, SETTLE_STEP_MS))
    }
  }
}

/** The one of a list that the path names. @throws MeshError NOT_FOUND */
function found(answer: unknown, { list, by }: { list: string; by: string }, value: string): unknown {
  const items = (answer as Record<string, Record<string, unknown>[]>)[list] ?? []
  const item = items.find((one) => one[by] === value)
  if (item === undefined)
    throw MeshError.NOT_FOUND(`None of the ${list} has the ${by} ${value.slice(0, 64)}`, { param: by })
  return item
}
