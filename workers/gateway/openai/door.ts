import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { EMBEDDINGS_FACTOR, type JournalRecord, MeshError } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import { type Call, callOf, credentialOf, holdBodies, keepJsonBodies } from '../http/index.js'
import { chat } from './chat.js'
import { completions } from './completions.js'
import { embeddings } from './embeddings.js'
import { rateHeaders } from './headers.js'
import { modelById, modelList } from './models.js'
import type { DoorOptions } from './options.js'
import { cancelResponse, deleteResponse, getInputItems, getResponse, inputTokens, respond } from './responses.js'
import { deleteChat, getChat, getMessages, listChats, updateChat } from './stored-chats.js'
import { applyTemplate, detokenize, tokenize } from './tokens.js'
import { type Api, inOpenAiWords } from './words.js'

/** A request to a route of ours: what its path names is always text. */
type Request = FastifyRequest<Route>
interface Route {
  Params: Record<string, string>
  Querystring: Record<string, unknown>
}
type Handler = (call: Call, request: Request, reply: FastifyReply) => unknown
type Answering = (request: Request, reply: FastifyReply) => Promise<unknown>

type Handlers = Record<string, Answering>

/** llama-server's paths that answer in forms of its own, and what to ask instead. */
const INSTEAD = { '/completion': '/v1/completions', '/infill': '/v1/completions', '/embedding': '/v1/embeddings' }

/** What the bodies of a path ask for, as usage is recorded. The same holds for the path without `/v1`. */
const KINDS: Partial<Record<string, JournalRecord['kind']>> = {
  '/v1/chat/completions': 'chat',
  '/v1/completions': 'completion',
  '/v1/embeddings': 'embedding',
  '/v1/responses': 'chat',
  // Not recorded: these are what they are counted as where they are refused.
  '/v1/responses/input_tokens': 'chat',
  '/v1/apply-template': 'chat',
  '/v1/tokenize': 'completion',
  '/v1/detokenize': 'completion',
}

/**
 * Puts the OpenAI routes on a gateway's HTTP app. All of it is in the app and none in the socket, so that `app.inject`
 * serves the same.
 */
export function serveOpenAi(app: FastifyInstance, options: DoorOptions): void {
  const principals = new WeakMap<FastifyRequest, Principal>()
  const startedAt = new WeakMap<FastifyRequest, number>()
  /** Whose request it is, checked once. @throws MeshError INVALID_API_KEY */
  const principalOf = (request: FastifyRequest): Principal => {
    const known = principals.get(request)
    if (known !== undefined) return known
    const principal = options.authenticate(keyOf(request))
    principals.set(request, principal)
    return principal
  }
  void app.register(async (v1) => {
    keepJsonBodies(v1)
    v1.addHook('onRequest', async (request) => {
      startedAt.set(request, performance.now())
      const principal = principalOf(request)
      const kind = request.method === 'POST' ? KINDS[withV1(request.routeOptions.url)] : undefined
      // Before the body is read: what is refused anyway costs nothing.
      if (kind !== undefined) options.requests.assertMayAsk(kind, { requestId: request.id, principal })
    })
    holdBodies(v1, (request, bytes) => options.bodies.hold(principalOf(request).user, bytes))
    v1.addHook('onSend', async (request, reply) => {
      const tookMs = performance.now() - (startedAt.get(request) ?? performance.now())
      reply.header('openai-processing-ms', String(Math.round(tookMs)))
      const principal = principals.get(request)
      if (principal !== undefined) reply.headers(rateHeaders(options.rates(principal)))
    })
    const answering =
      (handler: Handler, api: Api = 'chat'): Answering =>
      async (request, reply) => {
        try {
          return await handler(callOf(request, reply, principalOf(request)), request, reply)
        } catch (err) {
          throw inOpenAiWords(err, { api })
        }
      }

    const { bodies } = options
    route(v1, '/v1/chat/completions', {
      GET: answering((call, { query }, reply) => listChats(options, call, query, reply)),
      POST: answering(async (call, { body }, reply) =>
        chat(options, await bodies.read('chat', call.principal.user, body), call, reply),
      ),
    })
    route(v1, '/v1/chat/completions/:id', {
      GET: answering((call, request, reply) => getChat(options, call, idOf(request), reply)),
      POST: answering(async (call, request, reply) =>
        updateChat(
          options,
          await bodies.read('metadata', call.principal.user, request.body),
          call,
          idOf(request),
          reply,
        ),
      ),
      DELETE: answering((call, request) => deleteChat(options, call, idOf(request))),
    })
    route(v1, '/v1/chat/completions/:id/messages', {
      GET: answering((call, request, reply) => getMessages(options, call, idOf(request), request.query, reply)),
    })
    route(v1, '/v1/completions', {
      POST: answering(
        async (call, { body }, reply) =>
          completions(options, await bodies.read('completions', call.principal.user, body), call, reply),
        'completions',
      ),
    })
    route(
      v1,
      '/v1/embeddings',
      {
        POST: answering(
          async (call, { body }) =>
            embeddings(options, await bodies.read('embeddings', call.principal.user, body), call),
          'embeddings',
        ),
      },
      options.bodyLimitBytes * EMBEDDINGS_FACTOR,
    )
    route(v1, '/v1/models', { GET: answering(({ principal }) => modelList(options, principal)) })
    route(v1, '/v1/models/*', {
      GET: answering(({ principal }, { params }) => modelById(options, principal, params['*'] ?? '')),
    })
    route(v1, '/v1/responses', {
      POST: answering(
        async (call, { body }, reply) =>
          respond(options, await bodies.read('responses', call.principal.user, body), call, reply),
        'responses',
      ),
    })
    route(v1, '/v1/responses/input_tokens', {
      POST: answering(
        async (call, { body }, reply) =>
          inputTokens(options, await bodies.read('responses', call.principal.user, body), call, reply),
        'responses',
      ),
    })
    route(v1, '/v1/tokenize', {
      POST: answering(
        async (call, { body }) => tokenize(options, await bodies.read('tokenize', call.principal.user, body), call),
        'tokens',
      ),
    })
    route(v1, '/v1/detokenize', {
      POST: answering(
        async (call, { body }) => detokenize(options, await bodies.read('detokenize', call.principal.user, body), call),
        'tokens',
      ),
    })
    route(v1, '/v1/apply-template', {
      POST: answering(async (call, { body }) =>
        applyTemplate(options, await bodies.read('chat', call.principal.user, body), call),
      ),
    })
    for (const [url, instead] of Object.entries(INSTEAD)) {
      const why = `llama-server's own form of answers, at ${url}, is not served here: ask POST ${instead}`
      v1.post(url, async () => {
        throw MeshError.NOT_FOUND(why)
      })
    }
    route(v1, '/v1/responses/:id', {
      GET: answering((call, request, reply) => getResponse(options, call, idOf(request), request.query, reply)),
      DELETE: answering((call, request) => deleteResponse(options, call, idOf(request))),
    })
    route(v1, '/v1/responses/:id/cancel', {
      POST: answering((call, request, reply) => cancelResponse(options, call, idOf(request), reply)),
    })
    route(v1, '/v1/responses/:id/input_items', {
      GET: answering((call, request, reply) => getInputItems(options, call, idOf(request), request.query, reply)),
    })
  })
}

function idOf({ params }: Request): string {
  return params.id ?? ''
}

/** A path of the door as KINDS has it, however it was called. */
function withV1(url = ''): string {
  return url.startsWith('/v1/') ? url : `/v1${url}`
}

/** Serves some methods of a path. Without `/v1` it is the same path: programs made for llama-server leave that out. */
function route(app: FastifyInstance, path: string, handlers: Handlers, bodyLimit?: number): void {
  for (const url of [path, path.replace(/^\/v1/, '')]) {
    for (const [method, handler] of Object.entries(handlers)) {
      app.route<Route>({ method, url, handler, ...(bodyLimit !== undefined && { bodyLimit }) })
    }
  }
}

/** @throws MeshError INVALID_API_KEY */
function keyOf(request: FastifyRequest): string {
  const key = credentialOf(request)
  if (key !== undefined) return key
  throw MeshError.INVALID_API_KEY(
    request.headers.authorization === undefined
      ? 'This request has no API key. Send it in the header `Authorization: Bearer im_…`'
      : 'The Authorization header has another form than `Bearer im_…`',
  )
}
