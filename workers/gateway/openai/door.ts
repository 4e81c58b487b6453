import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods, RouteHandlerMethod } from 'fastify'
import { MeshError } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import type { Logger } from '../../../lib/worker-base/index.js'
import { type Call, callOf } from './call.js'
import { chat } from './chat.js'
import { completions } from './completions.js'
import { embeddings } from './embeddings.js'
import { type ErrorAnswer, errorAnswer, noRoute } from './errors.js'
import { rateHeaders } from './headers.js'
import { parseJsonBodies } from './json.js'
import { modelById, modelList } from './models.js'
import type { DoorOptions } from './options.js'
import { ResponseStore } from './response-store.js'
import { deleteResponse, getInputItems, getResponse, respond } from './responses.js'
import { type Api, inOpenAiWords } from './to-inference.js'

type Handler = (call: Call, request: FastifyRequest, reply: FastifyReply) => unknown

const METHODS: HTTPMethods[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']

/**
 * Puts the OpenAI routes on a gateway's HTTP app, with errors in OpenAI's form for every path of it. All of it is in the
 * app and none in the socket, so that `app.inject` serves the same.
 */
export function openDoor(app: FastifyInstance, options: DoorOptions): void {
  const principals = new WeakMap<FastifyRequest, Principal>()
  const startedAt = new WeakMap<FastifyRequest, number>()
  const responses = new ResponseStore()
  answerErrors(app, options.log)
  void app.register(async (v1) => {
    parseJsonBodies(v1)
    v1.addHook('onRequest', async (request) => {
      startedAt.set(request, performance.now())
      principals.set(request, options.authenticate(bearerOf(request)))
    })
    v1.addHook('onSend', async (request, reply) => {
      const tookMs = performance.now() - (startedAt.get(request) ?? performance.now())
      reply.header('openai-processing-ms', String(Math.round(tookMs)))
      const principal = principals.get(request)
      if (principal !== undefined) reply.headers(rateHeaders(options.rates(principal)))
    })
    const answering =
      (handler: Handler, api: Api = 'chat'): RouteHandlerMethod =>
      async (request, reply) => {
        try {
          return await handler(callOf(request, reply, principals.get(request) as Principal), request, reply)
        } catch (err) {
          throw inOpenAiWords(err, api)
        }
      }

    route(v1, '/v1/chat/completions', { POST: answering((call, { body }, reply) => chat(options, body, call, reply)) })
    route(v1, '/v1/completions', {
      POST: answering((call, { body }, reply) => completions(options, body, call, reply), 'completions'),
    })
    route(v1, '/v1/embeddings', { POST: answering((call, { body }) => embeddings(options, body, call), 'embeddings') })
    route(v1, '/v1/models', { GET: answering(({ principal }) => modelList(options, principal)) })
    route(v1, '/v1/models/*', {
      GET: answering(({ principal }, { params }) => modelById(options, principal, (params as { '*': string })['*'])),
    })
    route(v1, '/v1/responses', {
      POST: answering((call, { body }, reply) => respond(options, responses, body, call, reply), 'responses'),
    })
    const idOf = ({ params }: FastifyRequest): string => (params as { id: string }).id
    route(v1, '/v1/responses/:id', {
      GET: answering(({ principal }, request) => getResponse(responses, principal.keyId, idOf(request))),
      DELETE: answering(({ principal }, request) => deleteResponse(responses, principal.keyId, idOf(request))),
    })
    route(v1, '/v1/responses/:id/input_items', {
      GET: answering(({ principal }, request) => getInputItems(responses, principal.keyId, idOf(request))),
    })
  })
}

/** Serves some methods of a path, and says of the others that it has none. */
function route(
  app: FastifyInstance,
  url: string,
  handlers: Partial<Record<(typeof METHODS)[number], RouteHandlerMethod>>,
): void {
  const allowed = METHODS.filter((method) => handlers[method] !== undefined)
  for (const method of allowed) app.route({ method, url, handler: handlers[method] as RouteHandlerMethod })
  app.route({
    method: METHODS.filter((method) => !allowed.includes(method)),
    url,
    exposeHeadRoute: false,
    handler: async ({ method }, reply) => {
      reply.header('allow', allowed.join(', '))
      return send(reply, noRoute(405, `${url} has no method ${method}; it has ${allowed.join(', ')}`))
    },
  })
}

/** @throws MeshError INVALID_API_KEY */
function bearerOf({ headers: { authorization } }: FastifyRequest): string {
  const key = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1]
  if (key !== undefined) return key
  throw MeshError.INVALID_API_KEY(
    authorization === undefined
      ? 'This request has no API key. Send it in the header `Authorization: Bearer im_…`'
      : 'The Authorization header has another form than `Bearer im_…`',
  )
}

function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler(async (err, request, reply) => {
    const answer = errorAnswer(err)
    if (answer.status === 500) log.error({ err, requestId: request.id }, 'an HTTP request failed unexpectedly')
    return send(reply, answer)
  })
  // Before the body is read: nobody sends megabytes to a path that does not exist.
  app.addHook('onRequest', async ({ is404, method, url }, reply) => {
    if (!is404) return undefined
    return send(reply, noRoute(404, `There is no ${method} ${url.slice(0, 200)} here; /docs lists what there is`))
  })
}

function send(reply: FastifyReply, { status, headers, error }: ErrorAnswer): FastifyReply {
  return reply.code(status).headers(headers).send({ error })
}
