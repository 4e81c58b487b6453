import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import {
  type ErrorAnswer,
  errorAnswerOf,
  type HttpCode,
  MeshError,
  noRequestAnswer,
} from '../../../lib/protocol/index.js'
import { Routes } from '../../../lib/worker-base/http/index.js'
import type { Logger } from '../../../lib/worker-base/index.js'

/** Errors as every HTTP door answers them: in OpenAI's form, so that one client reads them all. */

const MAX_TYPE_CHARS = 100

/** Any failure as status, headers and error object; of which request tells what of its body was refused, and by what bound. */
export function errorAnswer(err: unknown, request?: FastifyRequest): ErrorAnswer {
  if (err instanceof MeshError || !isHttpError(err) || err.statusCode >= 500) return errorAnswerOf(MeshError.from(err))
  if (err.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return errorAnswerOf(MeshError.MESSAGE_TOO_LARGE(`The body is too long: ${boundOf(request)}`))
  }
  if (err.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    const type = request?.headers['content-type']?.slice(0, MAX_TYPE_CHARS)
    const message = `The body is ${type === undefined ? 'of no type' : JSON.stringify(type)}, and only JSON is taken: send the header \`Content-Type: application/json\``
    return noRequestAnswer(err.statusCode, message, codeOfStatus(err.statusCode))
  }
  return noRequestAnswer(err.statusCode, err.message, codeOfStatus(err.statusCode))
}

/** How long a body may be, and which setting says so. */
function boundOf(request: FastifyRequest | undefined): string {
  if (request === undefined) return 'more than the gateway accepts'
  const { bodyLimit, url = '' } = request.routeOptions
  const accepted = `${bodyLimit} bytes are accepted`
  if (url.startsWith('/api/')) return `${accepted} here, whatever the settings`
  const factor = bodyLimit / (request.server.initialConfig.bodyLimit ?? bodyLimit)
  return `${accepted}, ${factor === 1 ? '' : `${factor} times `}the setting http.bodyLimitBytes`
}

/** An error of fastify's own: about a request that it could not read. */
function isHttpError(err: unknown): err is Error & { statusCode: number; code?: unknown } {
  return err instanceof Error && 'statusCode' in err && typeof err.statusCode === 'number'
}

function codeOfStatus(status: number): HttpCode {
  return status === 415 ? 'unsupported_media_type' : 'bad_request'
}

/**
 * Answers every failure of the app's routes, every path that it has none for, and every method that a path has not. Call
 * it before routes are added.
 */
export function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler(async (err, request, reply) => {
    const answer = errorAnswer(err, request)
    if (answer.status === 500) log.error({ err, requestId: request.id }, 'an HTTP request failed unexpectedly')
    return sendError(reply, answer)
  })
  const routes = new Routes(app)
  // Before the body is read: nobody sends megabytes to a path that does not exist.
  app.addHook('onRequest', async ({ is404, method, url }, reply) => {
    if (!is404) return undefined
    const methods = routes.methodsOf(url)
    const path = url.slice(0, 200)
    if (methods.length === 0) {
      const message = `There is no ${method} ${path} here; /docs lists what there is`
      return sendError(reply, noRequestAnswer(404, message, 'not_found'))
    }
    const allow = methods.join(', ')
    reply.header('allow', allow)
    if (method === 'OPTIONS') return reply.code(204).send()
    const message = `${path} has no method ${method}; it has ${allow}`
    return sendError(reply, noRequestAnswer(405, message, 'method_not_allowed'))
  })
}

export function sendError(reply: FastifyReply, { status, headers, error }: ErrorAnswer): FastifyReply {
  return reply.code(status).headers(headers).send({ error })
}
