import type { FastifyInstance, FastifyReply } from 'fastify'
import { type ErrorAnswer, errorAnswerOf, MeshError, noRequestAnswer } from '../../../lib/protocol/index.js'
import type { Logger } from '../../../lib/worker-base/index.js'

/** Errors as every HTTP door answers them: in OpenAI's form, so that one client reads them all. */

/** Any failure as status, headers and error object. */
export function errorAnswer(err: unknown): ErrorAnswer {
  if (err instanceof MeshError || !isHttpError(err) || err.statusCode >= 500) return errorAnswerOf(MeshError.from(err))
  if (err.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return errorAnswerOf(MeshError.MESSAGE_TOO_LARGE('The body is longer than this gateway accepts'))
  }
  return noRequestAnswer(err.statusCode, err.message, codeOfStatus(err.statusCode))
}

/** An error of fastify's own: about a request that it could not read. */
function isHttpError(err: unknown): err is Error & { statusCode: number; code?: unknown } {
  return err instanceof Error && 'statusCode' in err && typeof err.statusCode === 'number'
}

/** The answer where there is no such path, or where it has no such method. */
export function noRoute(status: 404 | 405, message: string): ErrorAnswer {
  return noRequestAnswer(status, message, codeOfStatus(status))
}

function codeOfStatus(status: number): string {
  return { 404: 'not_found', 405: 'method_not_allowed', 415: 'unsupported_media_type' }[status] ?? 'bad_request'
}

/** Answers every failure of the app's routes, and every path that it has none for. */
export function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler(async (err, request, reply) => {
    const answer = errorAnswer(err)
    if (answer.status === 500) log.error({ err, requestId: request.id }, 'an HTTP request failed unexpectedly')
    return sendError(reply, answer)
  })
  // Before the body is read: nobody sends megabytes to a path that does not exist.
  app.addHook('onRequest', async ({ is404, method, url }, reply) => {
    if (!is404) return undefined
    return sendError(reply, noRoute(404, `There is no ${method} ${url.slice(0, 200)} here; /docs lists what there is`))
  })
}

export function sendError(reply: FastifyReply, { status, headers, error }: ErrorAnswer): FastifyReply {
  return reply.code(status).headers(headers).send({ error })
}
