import { z } from 'zod'
import type { GenerationSink, Link } from '../../lib/link/index.js'
import {
  AnswerCollector,
  type GenerateRequest,
  type InferenceRequest,
  type InferenceResult,
  type Load,
  MeshError,
  type Model,
  TokenVerifier,
} from '../../lib/protocol/index.js'
import {
  BaseWorker,
  type Facility,
  Http,
  httpConfigSchema,
  VERSION,
  type WorkerOptions,
} from '../../lib/worker-base/index.js'
import { AccountsReplica } from './accounts-replica.js'
import { serveApi } from './api/index.js'
import { apiPaths } from './api/openapi.js'
import { FetchDoor } from './fetch.js'
import { Journal } from './journal.js'
import { Limiter } from './limiter.js'
import { GatewayMetrics } from './metrics.js'
import { describeDoor, docsPage, openDoor } from './openai/index.js'
import { type Asking, Requests } from './requests.js'
import { type Candidate, Scheduler } from './scheduler.js'

export const gatewayConfigSchema = z.strictObject({
  /** The model of requests that name none; empty: the first of the mesh, by name. */
  defaultModel: z.string(),
  /** Most requests that wait for one model. */
  queueLimit: z.int().min(0),
  /** A processor that sends nothing for this long has lost the request. */
  stallMs: z.int().min(1000),
  /** With less free disk than this no request is taken, because its usage might not be recorded. */
  minFreeDiskBytes: z.int().min(0),
})

const ENLIST_RETRY_MS = 1000

/** Admits, schedules and relays requests. */
export class GatewayWorker extends BaseWorker {
  readonly #config: z.output<typeof gatewayConfigSchema>
  readonly #http: Http
  readonly #fetches: FetchDoor
  #journal: Journal | undefined
  #accounts: AccountsReplica | undefined
  #requests: Requests | undefined
  #scheduler: Scheduler | undefined
  #limiter: Limiter | undefined
  #enlistTimer: NodeJS.Timeout | undefined

  constructor(options: WorkerOptions) {
    super('gateway', options)
    this.#config = this.config('gateway', gatewayConfigSchema)
    this.#http = new Http(this.config('http', httpConfigSchema))
    this.#fetches = new FetchDoor(this.#http.app, () => this.state === 'draining')
  }

  protected override _facilities(): Facility[] {
    return [this.#http]
  }

  protected override _addresses(): Record<string, string> {
    return this.#http.url === '' ? {} : { http: this.#http.url }
  }

  protected override _load(): Partial<Load> {
    const waiting = this.#scheduler?.waiting ?? 0
    return { running: (this.#requests?.running ?? 0) - waiting, queued: waiting }
  }

  protected override async _prepare(): Promise<void> {
    const { net, log, store, registry } = this
    const scheduler = new Scheduler({
      candidates: (model) => this.#candidates(model),
      queueLimit: this.#config.queueLimit,
    })
    const metrics = new GatewayMetrics(registry, {
      running: () => this.#requests?.running ?? 0,
      depths: () => scheduler.depths(),
    })
    const core = store.journal()
    await core.ready()
    const journal = new Journal(core, {
      dir: this.workerDir,
      minFreeBytes: this.#config.minFreeDiskBytes,
      onStored: (records, seconds) => metrics.stored(records, seconds),
      onError: (err) => log.error({ err }, 'usage could not be recorded'),
    })
    this.#journal = journal
    await journal.open()
    const limiter = new Limiter(journal, Date.now, (kind) => metrics.limited(kind))
    const tokens = new TokenVerifier(this.profile.address, this.profile.authority)
    const accounts = new AccountsReplica(store, this.workerDir, core.key, tokens, (view) => this.watch(view))
    this.#accounts = accounts
    await accounts.open()
    this.#limiter = limiter
    this.#scheduler = scheduler
    this.#requests = new Requests({
      net,
      limiter,
      scheduler,
      journal,
      metrics,
      log,
      gateway: this.name,
      defaultModel: this.#config.defaultModel,
      stallMs: this.#config.stallMs,
    })
    net.dispatcher.authenticate = (key) => accounts.authenticate(key)
    net.on('connected', (link) => this.#fetches.attach(link))
    net.on('link', (link) => {
      if (link.role === 'auth') void this.#enlist(link)
      if (link.role === 'processor') scheduler.dispatch()
    })
    net.on('unlink', () => scheduler.dispatch())
    net.on('load', (link) => scheduler.reported(link.publicKey))
    this.#serve()
    this.#route()
  }

  protected override async _drain(): Promise<void> {
    await this.#requests?.drain()
  }

  protected override async _stop(): Promise<void> {
    clearTimeout(this.#enlistTimer)
    await this.#accounts?.close()
    await this.#journal?.close()
  }

  /** The authority follows the journal from here on, and the accounts come. Tried until it works or the link is gone. */
  async #enlist(authority: Link): Promise<void> {
    try {
      await this.#accounts?.enlist(authority)
    } catch (err) {
      const failure = MeshError.from(err)
      // A gateway that is just joining is not a member yet in the moment it links.
      this.log[failure.code === 'FORBIDDEN' ? 'debug' : 'warn'](
        { code: failure.code, reason: failure.message },
        'could not enlist with the authority',
      )
      if (authority.closed) return
      this.#enlistTimer = setTimeout(() => void this.#enlist(authority), ENLIST_RETRY_MS)
    }
  }

  #serve(): void {
    const { net } = this
    const requests = this.#requests as Requests
    net.onGenerate(['client'], (request, sink) => this.#stream(request, sink))
    net.dispatcher.respond('chat', (request, context) => this.#whole(request, context as Asking))
    net.dispatcher.respond('complete', (request, context) => this.#whole(request, context as Asking))
    net.dispatcher.respond('embed', (request, context) => requests.embed(request, context as Asking))
    net.dispatcher.respond('models', async () => ({ models: this.#models() }))
    net.dispatcher.respond('mesh.status', async () => ({
      mesh: this.profile.address,
      workers: net.views(),
      models: this.#models(),
    }))
    net.dispatcher.respond('usage.self', async (_request, { principal }) => {
      const { keyId, user, role, expiresAt, limits } = principal as Asking['principal']
      return {
        keyId,
        user,
        role,
        ...(expiresAt !== undefined && { expiresAt }),
        limits,
        ...(this.#journal as Journal).totals(`key/${keyId}`),
        budgetRemaining: this.#limiter?.budgetRemaining(principal as Asking['principal']),
      }
    })
    net.dispatcher.respond('models.add', async ({ path, name, processor }) => {
      const link = this.#processor(processor)
      const model = await link.call('processor.models.add', { path, name })
      return { ...model, processor: link.hello?.name ?? '' }
    })
    net.dispatcher.respond('models.remove', async ({ name, processor }) => {
      const links = processor === undefined ? this.#processorsWith(name) : [this.#processor(processor)]
      if (links.length === 0)
        throw MeshError.MODEL_NOT_FOUND(`No connected processor has the model ${name}`, { param: 'name' })
      await Promise.all(links.map((link) => link.call('processor.models.remove', { name })))
      return { processors: links.map((link) => link.hello?.name ?? '') }
    })
  }

  /** HTTP: the OpenAI door, what there is, whether this process lives, and whether it can serve. */
  #route(): void {
    const { app } = this.#http
    openDoor(app, {
      requests: this.#requests as Requests,
      authenticate: (key) => (this.#accounts as AccountsReplica).authenticate(key),
      rates: (principal) => (this.#limiter as Limiter).rates(principal),
      models: () => this.#models(),
      log: this.log,
      since: this.since,
    })
    const document = describeDoor(VERSION, [{ paths: apiPaths }])
    const page = docsPage(document)
    app.get('/openapi.json', async () => document)
    app.get('/docs', async (_request, reply) => reply.type('text/html; charset=utf-8').send(page))
    const accounts = this.#accounts as AccountsReplica
    serveApi(app, { net: this.net, authenticate: (credential) => accounts.authenticate(credential) })
    app.get('/healthz', async () => ({ status: 'ok' }))
    app.get('/readyz', async (_request, reply) => {
      const missing = this.#missing()
      if (missing.length === 0) return { status: 'ready' }
      return reply.code(503).send({ status: 'not ready', missing })
    })
  }

  /** What keeps this gateway from serving, in words; empty: nothing. */
  #missing(): string[] {
    const missing: string[] = []
    if (!this.directory.known) missing.push('the directory has not been read yet')
    if (this.#accounts?.ready !== true) missing.push('the accounts have not been read yet')
    if (![...this.directory.models.keys()].some((model) => this.#candidates(model).length > 0)) {
      missing.push('no processor that has a model is connected')
    }
    return missing
  }

  async #stream({ requestId, key, request }: GenerateRequest, sink: GenerationSink): Promise<void> {
    if (key === undefined) throw MeshError.INVALID_API_KEY('A generation wants an API key')
    const principal = (this.#accounts as AccountsReplica).authenticate(key)
    const asking = { requestId, principal, signal: sink.signal }
    const finish = await (this.#requests as Requests).generate(request, asking, (event) => sink.push(event))
    sink.finish(finish)
  }

  async #whole(request: InferenceRequest, asking: Asking): Promise<InferenceResult> {
    const collected = new AnswerCollector()
    const finish = await (this.#requests as Requests).generate(request, asking, (event) => collected.add(event))
    return collected.result(asking.requestId, finish)
  }

  /** Processors that can serve the very file that the directory names. */
  #candidates(model: string): Candidate[] {
    const hash = this.directory.models.get(model)?.hash
    const candidates: Candidate[] = []
    for (const { publicKey, load } of this.net.linksTo('processor')) {
      if (load?.state !== 'ready') continue
      const found = load.models.find(
        ({ name, hash: has, state }) => name === model && has === hash && state !== 'failed',
      )
      if (found === undefined) continue
      candidates.push({ id: publicKey, slots: Math.max(1, found.slots), loaded: found.state === 'loaded' })
    }
    return candidates
  }

  #models(): (Model & { processors: string[] })[] {
    return [...this.directory.models.values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map((model) => ({
        ...model,
        processors: this.#processorsWith(model.name).map((link) => link.hello?.name ?? ''),
      }))
  }

  #processorsWith(model: string): Link[] {
    const able = new Set(this.#candidates(model).map(({ id }) => id))
    return this.net.linksTo('processor').filter(({ publicKey }) => able.has(publicKey))
  }

  /** @throws MeshError NO_PROCESSOR, NOT_FOUND, BAD_REQUEST when the mesh has several and none was named */
  #processor(name: string | undefined): Link {
    const links = this.net.linksTo('processor')
    const names = links.map((link) => link.hello?.name ?? '').join(', ')
    if (name !== undefined) {
      const link = links.find(({ hello }) => hello?.name === name)
      if (link === undefined)
        throw MeshError.NOT_FOUND(`No processor named ${name} is connected; connected: ${names || 'none'}`, {
          param: 'processor',
        })
      return link
    }
    if (links.length === 0) throw MeshError.NO_PROCESSOR('No processor is connected')
    if (links.length > 1)
      throw MeshError.BAD_REQUEST(`This mesh has several processors: say which with --processor (${names})`, {
        param: 'processor',
      })
    return links[0] as Link
  }
}
