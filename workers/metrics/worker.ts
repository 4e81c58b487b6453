import { join } from 'node:path'
import type { FastifyReply } from 'fastify'
import type { z } from 'zod'
import { homeFiles, metricsToken } from '../../lib/home/index.js'
import {
  bearerCredential,
  type ErrorAnswer,
  errorAnswerOf,
  hashSecret,
  isLoopbackHost,
  MeshError,
  noRequestAnswer,
  secretMatches,
} from '../../lib/protocol/index.js'
import { Http, Routes } from '../../lib/worker-base/http/index.js'
import { BaseWorker, type Facility, type Logger, sampled, type WorkerOptions } from '../../lib/worker-base/index.js'
import { metricsConfigSchema } from './config.js'
import { CONTENT_TYPE } from './exposition.js'
import { Gatherer } from './gather.js'

/** One Prometheus endpoint for the whole mesh. */
export class MetricsWorker extends BaseWorker {
  readonly #http: Http
  readonly #config: z.output<typeof metricsConfigSchema>

  constructor(options: WorkerOptions) {
    super('metrics', options)
    this.#config = this.config('metrics', metricsConfigSchema)
    const { token, open, ...address } = this.#config
    this.#http = new Http(
      address,
      join(this.workerDir, 'metrics.port'),
      (message) => this.log.warn(message),
      'metrics',
      () => this.lanHost,
    )
  }

  protected override _facilities(): Facility[] {
    const { net, registry, log, role, name } = this
    const gatherer = new Gatherer({ net, registry, log, self: { role, name } })
    const http = this.#http
    const token = this.#tokenOf()
    answerFailures(http.app, log)
    http.app.get('/healthz', async () => ({ status: 'ok' }))
    http.app.get('/metrics', async (request, reply) => {
      if (token !== '' && !showsToken(request.headers.authorization, token)) {
        throw MeshError.INVALID_API_KEY(
          'The metrics want the header `Authorization: Bearer <token>`: the token is that of the setting metrics.token, else of the file metrics.token in the home of this worker',
        )
      }
      return reply.type(CONTENT_TYPE).send(await gatherer.gather())
    })
    return [http]
  }

  /** What a scraper must show; empty: nothing. */
  #tokenOf(): string {
    const { token, open, host } = this.#config
    if (token !== '') return token
    if (isLoopbackHost(host)) return ''
    if (open) {
      this.log.warn('anyone who reaches this machine can read the metrics: metrics.open says so')
      return ''
    }
    this.log.info({ file: homeFiles(this.home).metricsToken }, 'the metrics want the token of this file')
    return metricsToken(this.home)
  }

  protected override _addresses(): Record<string, string> {
    return this.#http.url ? { metrics: `${this.#http.url}/metrics` } : {}
  }
}

/** Every failure in the form in which all doors of the mesh answer one. */
function answerFailures(app: Http['app'], log: Logger): void {
  const refusals = sampled(log)
  const send = (reply: FastifyReply, { status, headers, error }: ErrorAnswer) => {
    if (status < 500) refusals.info({ code: error.code ?? '', status }, 'an HTTP request was refused')
    return reply.code(status).headers(headers).send({ error })
  }
  app.setErrorHandler(async (err, request, reply) => {
    const answer = errorAnswerOf(MeshError.from(err))
    if (answer.status === 500) log.error({ err, requestId: request.id }, 'an HTTP request failed unexpectedly')
    return send(reply, answer)
  })
  // No route takes a body, and none is read: what is refused is refused by its head.
  app.removeAllContentTypeParsers()
  const routes = new Routes(app)
  app.addHook('onRequest', async ({ is404, method, url }, reply) => {
    if (!is404) return undefined
    const methods = routes.methodsOf(url)
    if (methods.length === 0) {
      const message = `There is no ${method} ${url.slice(0, 200)} here; there is GET /metrics`
      return send(reply, noRequestAnswer(404, message, 'not_found'))
    }
    const allow = methods.join(', ')
    reply.header('allow', allow)
    if (method === 'OPTIONS') return reply.code(204).send()
    const message = `${url.slice(0, 200)} has no method ${method}; it has ${allow}`
    return send(reply, noRequestAnswer(405, message, 'method_not_allowed'))
  })
}

/** Compares hashes, so that neither the token's content nor its length shows in the time it takes. */
function showsToken(authorization: string | undefined, token: string): boolean {
  const given = bearerCredential(authorization)
  return given !== undefined && secretMatches(given, hashSecret(token))
}
