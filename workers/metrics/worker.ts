import { bearerCredential, hashSecret, isLoopbackHost, secretMatches } from '../../lib/protocol/index.js'
import { BaseWorker, type Facility, Http, type WorkerOptions } from '../../lib/worker-base/index.js'
import { metricsConfigSchema } from './config.js'
import { CONTENT_TYPE } from './exposition.js'
import { Gatherer } from './gather.js'

/** One Prometheus endpoint for the whole mesh. */
export class MetricsWorker extends BaseWorker {
  readonly #http: Http
  readonly #token: string
  readonly #isOpen: boolean

  constructor(options: WorkerOptions) {
    super('metrics', options)
    const { token, ...address } = this.config('metrics', metricsConfigSchema)
    this.#token = token
    this.#isOpen = token === '' && !isLoopbackHost(address.host)
    this.#http = new Http(address)
  }

  protected override _facilities(): Facility[] {
    if (this.#isOpen) this.log.warn('anyone who reaches this machine can read the metrics: metrics.token is empty')
    const { net, registry, log, role, name } = this
    const gatherer = new Gatherer({ net, registry, log, self: { role, name } })
    const http = this.#http
    const token = this.#token
    http.app.get('/healthz', async () => ({ status: 'ok' }))
    http.app.get('/metrics', async (request, reply) => {
      if (token !== '' && !showsToken(request.headers.authorization, token)) {
        return reply
          .code(401)
          .header('www-authenticate', 'Bearer')
          .type('text/plain')
          .send('The metrics of this mesh want `Authorization: Bearer <metrics.token>`\n')
      }
      return reply.type(CONTENT_TYPE).send(await gatherer.gather())
    })
    return [http]
  }

  protected override _addresses(): Record<string, string> {
    return this.#http.url ? { metrics: `${this.#http.url}/metrics` } : {}
  }
}

/** Compares hashes, so that neither the token's content nor its length shows in the time it takes. */
function showsToken(authorization: string | undefined, token: string): boolean {
  const given = bearerCredential(authorization)
  return given !== undefined && secretMatches(given, hashSecret(token))
}
