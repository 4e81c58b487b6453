import { join } from 'node:path'
import type { z } from 'zod'
import { beginJournal, readJournalNames } from '../../lib/home/index.js'
import type { Link } from '../../lib/link/index.js'
import { encodeKey, type Load, MeshError } from '../../lib/protocol/index.js'
import type { BeeView } from '../../lib/store/index.js'
import { Http, httpConfigSchema } from '../../lib/worker-base/http/index.js'
import { BaseWorker, type Facility, type WorkerOptions } from '../../lib/worker-base/index.js'
import type { AccountsReplica } from './accounts-replica.js'
import { serveDoors } from './doors.js'
import { FetchDoor } from './fetch.js'
import { serveMethods } from './methods.js'
import { type GatewayParts, gatewayConfigSchema, gatewayParts } from './parts.js'
import { serveStored } from './stored/index.js'

const ENLIST_RETRY_MS = 1000
const DAY_MS = 86_400_000
/** How often old records are looked for. */
const FORGET_MS = 3_600_000
/** How soon after a change of the accounts what belonged to a key that is gone is deleted. */
const SWEEP_MS = 500

/** Admits, schedules and relays requests. */
export class GatewayWorker extends BaseWorker {
  readonly #config: z.output<typeof gatewayConfigSchema>
  readonly #http: Http
  readonly #fetches: FetchDoor
  #parts: GatewayParts | undefined
  #enlistTimer: NodeJS.Timeout | undefined
  #forgetTimer: NodeJS.Timeout | undefined
  #forgetting: Promise<void> | undefined
  #sweepTimer: NodeJS.Timeout | undefined

  constructor(options: WorkerOptions) {
    super('gateway', options)
    this.#config = this.config('gateway', gatewayConfigSchema)
    this.#http = new Http(
      this.config('http', httpConfigSchema),
      join(this.workerDir, 'http.port'),
      (message) => this.log.warn(message),
      'http',
      () => this.lanHost,
    )
    this.#fetches = new FetchDoor(this.#http.app, () => this.state === 'draining')
  }

  protected override _facilities(): Facility[] {
    return [this.#http]
  }

  protected override _addresses(): Record<string, string> {
    return this.#http.url === '' ? {} : { http: this.#http.url }
  }

  protected override _load(): Partial<Load> {
    if (this.#parts === undefined) return {}
    const { requests, scheduler } = this.#parts
    return { running: requests.running - scheduler.waiting, queued: scheduler.waiting }
  }

  protected override async _prepare(): Promise<void> {
    const { name, workerDir, disk, profile, net, store, log, registry, since } = this
    if (this.restoredAt !== undefined) await this.#beginJournal()
    const names = readJournalNames(workerDir)
    const core = store.journal(names.current)
    await core.ready()
    const earlier = names.earlier.map((one) => ({ core: store.journal(one.name), length: one.length }))
    for (const one of earlier) {
      await one.core.ready()
      // Of what the authority has more nothing may be missing here once it is known of.
      one.core.download({ start: one.length, end: -1 })
    }
    const watch = (view: BeeView) => {
      this.watch(view)
      view.on('change', () => this.#sweepSoon())
    }
    const base = { name, workerDir, disk, profile, net, store, log, registry, watch }
    const parts = gatewayParts(this.#config, base, { core, earlier })
    this.#parts = parts
    await parts.journal.open()
    await parts.accounts.open()
    parts.stored.local.open()
    for (const one of [core, ...earlier.map((journal) => journal.core)]) net.share(one, ({ role }) => role === 'auth')
    net.dispatcher.authenticate = (key) => parts.accounts.authenticate(key)
    net.dispatcher.settled = () => parts.accounts.settled()
    net.dispatcher.respond('gateway.follow', async (access, { signal }) => {
      await parts.accounts.follow(access, signal)
      return {}
    })
    serveMethods(net, profile.address, parts)
    serveStored(net, parts.stored.local)
    serveDoors(this.#http.app, { net, log, since, bodyLimitBytes: this.#http.bodyLimitBytes }, parts)
    this.#followLinks(parts)
    this.#forgetTimer = setInterval(() => {
      void this.#forget(parts)
      this.#sweepSoon()
    }, FORGET_MS).unref()
  }

  /** The authority may have more of the journal than was restored: it is written no more. */
  async #beginJournal(): Promise<void> {
    const last = this.store.journal(readJournalNames(this.workerDir).current)
    await last.ready()
    beginJournal(this.workerDir, last.length)
    await last.close()
  }

  protected override async _drain(): Promise<void> {
    await this.#parts?.requests.drain()
  }

  protected override async _stop(): Promise<void> {
    clearTimeout(this.#enlistTimer)
    clearInterval(this.#forgetTimer)
    clearTimeout(this.#sweepTimer)
    await this.#forgetting
    await this.#parts?.background.close()
    await this.#parts?.stored.local.close()
    await this.#parts?.bodies.close()
    await this.#parts?.accounts.close()
    await this.#parts?.journal.close()
  }

  /** Forgets what users used who are gone, and deletes what is stored and belongs to nobody any more, once for many changes. */
  #sweepSoon(): void {
    if (this.#sweepTimer !== undefined) return
    this.#sweepTimer = setTimeout(() => {
      this.#sweepTimer = undefined
      if (this.#parts === undefined) return
      const { accounts, journal, stored } = this.#parts
      const users = accounts.usersAddedAt()
      if (users !== undefined) journal.keepUsers(users)
      void stored.local.sweep()
    }, SWEEP_MS).unref()
  }

  /** Gives back the room of old records, as far as the authority has counted them: only it can say how far that is. */
  #forget({ journal }: GatewayParts): Promise<void> {
    const forget = async (): Promise<void> => {
      const authority = this.net.members.get(this.profile.authority)
      if (authority === undefined) return
      const { next } = await authority.call('gateway.folded', { journal: encodeKey(journal.core.key) })
      // By whole days: giving room back writes what is left anew.
      const today = Math.floor(Date.now() / DAY_MS) * DAY_MS
      await journal.forget(next, today - this.#config.retentionDays * DAY_MS)
    }
    this.#forgetting ??= forget()
      .catch((err: unknown) => this.log.warn({ err }, 'old usage records could not be deleted'))
      .finally(() => {
        this.#forgetting = undefined
      })
    return this.#forgetting
  }

  /** Processors that come, go or report may free a slot; an authority that comes is told of this gateway. */
  #followLinks({ accounts, scheduler }: GatewayParts): void {
    this.net.on('connected', (link) => this.#fetches.attach(link))
    this.net.on('link', (link) => {
      if (link.role === 'auth') void this.#enlist(accounts, link)
      if (link.role === 'processor') scheduler.dispatch()
    })
    this.net.on('unlink', () => scheduler.dispatch())
    this.net.on('load', (link) => scheduler.reported(link.publicKey))
  }

  /** The authority follows the journal from here on, and the accounts come. Tried until it works or the link is gone. */
  async #enlist(accounts: AccountsReplica, authority: Link): Promise<void> {
    try {
      await accounts.enlist(authority)
    } catch (err) {
      const failure = MeshError.from(err)
      // A gateway that is just joining is not a member yet in the moment it links.
      this.log[failure.code === 'FORBIDDEN' ? 'debug' : 'warn'](
        { code: failure.code, reason: failure.message },
        'could not enlist with the authority',
      )
      if (authority.closed) return
      this.#enlistTimer = setTimeout(() => void this.#enlist(accounts, authority), ENLIST_RETRY_MS)
    }
  }
}
