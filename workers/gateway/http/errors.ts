import type { FastifyInstance, FastifyReply } from 'fastify'
import { type ErrorCode, MeshError } from '../../../lib/protocol/index.js'
import type { Logger } from '../../../lib/worker-base/index.js'

/** Errors as every HTTP door answers them: in OpenAI's form, so that one client reads them all. */

/** OpenAI's error object: all four keys are always there. */
export interface OpenAiError {
  message: string
  type: string
  param: string | null
  code: string | null
}

export interface ErrorAnswer {
  status: number
  headers: Record<string, string>
  error: OpenAiError
}

/** Codes that OpenAI's clients know by another name. The others are ours in lower case. */
const CODES: Partial<Record<ErrorCode, string>> = {
  RATE_LIMITED: 'rate_limit_exceeded',
  QUOTA_EXCEEDED: 'insufficient_quota',
}

/** A retry cannot help here, though the clients would try for this status. */
const FINAL: ReadonlySet<ErrorCode> = new Set(['QUOTA_EXCEEDED', 'CONFLICT', 'MODEL_CONFLICT', 'SLOW_READER'])

/** When a 503 that says nothing itself may be tried again. */
const RETRY_MS = 1000

/** Any failure as status, headers and error object. */
export function errorAnswer(err: unknown): ErrorAnswer {
  if (err instanceof MeshError || !isHttpError(err) || err.statusCode >= 500) return fromMeshError(MeshError.from(err))
  if (err.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return fromMeshError(MeshError.MESSAGE_TOO_LARGE('The body is longer than this gateway accepts'))
  }
  return plain(err.statusCode, err.message, codeOfStatus(err.statusCode))
}

/** An error of fastify's own: about a request that it could not read. */
function isHttpError(err: unknown): err is Error & { statusCode: number; code?: unknown } {
  return err instanceof Error && 'statusCode' in err && typeof err.statusCode === 'number'
}

/** The answer where there is no such path, or where it has no such method. */
export function noRoute(status: 404 | 405, message: string): ErrorAnswer {
  return plain(status, message, codeOfStatus(status))
}

function codeOfStatus(status: number): string {
  return { 404: 'not_found', 405: 'method_not_allowed', 415: 'unsupported_media_type' }[status] ?? 'bad_request'
}

function plain(status: number, message: string, code: string): ErrorAnswer {
  return { status, headers: {}, error: { message, type: 'invalid_request_error', param: null, code } }
}

function fromMeshError(err: MeshError): ErrorAnswer {
  const { code, message, httpStatus: status, details } = err
  const headers: Record<string, string> = {}
  const retryAfterMs = err.retryAfterMs ?? (status === 503 ? RETRY_MS : undefined)
  if (FINAL.has(code)) headers['x-should-retry'] = 'false'
  else if (retryAfterMs !== undefined) {
    headers['retry-after'] = String(Math.ceil(retryAfterMs / 1000))
    headers['retry-after-ms'] = String(Math.ceil(retryAfterMs))
    headers['x-should-retry'] = 'true'
  }
  if (status === 401) headers['www-authenticate'] = 'Bearer'
  return {
    status,
    headers,
    error: {
      message,
      type: typeOf(code, status),
      param: typeof details.param === 'string' ? details.param : null,
      code: CODES[code] ?? code.toLowerCase(),
    },
  }
}

function typeOf(code: ErrorCode, status: number): string {
  if (code === 'QUOTA_EXCEEDED') return 'insufficient_quota'
  if (status === 429) return 'rate_limit_error'
  if (status === 403) return 'permission_error'
  return status >= 500 ? 'server_error' : 'invalid_request_error'
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
