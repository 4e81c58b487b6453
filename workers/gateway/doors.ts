import type { FastifyInstance } from 'fastify'
import { mustHaveScope, type Principal } from '../../lib/store/index.js'
import { type Logger, type Net, VERSION } from '../../lib/worker-base/index.js'
import { apiPart, serveApi } from './api/index.js'
import { watchAdminKeys } from './elsewhere.js'
import { answerErrors, docsPage, healthPart, openApiDocument, serveHealth } from './http/index.js'
import { openAiPart, serveOpenAi } from './openai/index.js'
import type { GatewayParts } from './parts.js'

/** The routes that want no credential. Every other one may check a key, whatever path it has. */
const OPEN: ReadonlySet<string | undefined> = new Set([...Object.keys(healthPart.paths), '/openapi.json', '/docs'])

/** Made at the first ask: to write down every schema takes a tenth of a second, and hardly any gateway is asked. */
const ownDocument = once(() => openApiDocument(VERSION, [openAiPart(), healthPart, apiPart()]))
const ownPage = once(() => docsPage(ownDocument()))

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

/** Puts every HTTP door on the app: OpenAI's, the management's, health, and what describes them. */
export function serveDoors(
  app: FastifyInstance,
  { net, log, since, bodyLimitBytes }: { net: Net; log: Logger; since: number; bodyLimitBytes: number },
  { accounts, background, bodies, catalogue, journal, limiter, requests, stored, tokens }: GatewayParts,
): void {
  const authenticate = (credential: string) => accounts.authenticate(credential)
  answerErrors(app, log)
  app.addHook('onRequest', async ({ routeOptions }) => {
    if (!OPEN.has(routeOptions.url)) await accounts.settled()
  })
  const rates = (principal: Principal) => limiter.rates(principal)
  const mayInfer = (credential: string) => {
    const principal = authenticate(credential)
    mustHaveScope(principal, 'inference', 'This API')
    return principal
  }
  serveOpenAi(app, {
    requests,
    tokens,
    background,
    bodies,
    stored,
    authenticate: mayInfer,
    rates,
    catalogue,
    bodyLimitBytes,
    since,
  })
  app.get('/openapi.json', async () => ownDocument())
  app.get('/docs', async (_request, reply) => reply.type('text/html; charset=utf-8').send(ownPage()))
  serveApi(app, { net, authenticate })
  watchAdminKeys(app, net, authenticate)
  serveHealth(app, () => {
    const missing: string[] = []
    if (!net.directory.known) missing.push('the directory has not been read yet')
    if (!accounts.ready) missing.push('the accounts have not been read yet')
    if (catalogue.lacking !== undefined) missing.push(catalogue.lacking)
    if (journal.hindrance !== undefined) missing.push(journal.hindrance.message)
    return missing
  })
}
