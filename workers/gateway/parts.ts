import { join } from 'node:path'
import type Hypercore from 'hypercore'
import type { Registry } from 'prom-client'
import { z } from 'zod'
import type { Link } from '../../lib/link/index.js'
import { type MeshProfile, TokenVerifier } from '../../lib/protocol/index.js'
import type { BeeView } from '../../lib/store/index.js'
import { type Disk, type Logger, type Net, type Store, sampled } from '../../lib/worker-base/index.js'
import { AccountsReplica } from './accounts-replica.js'
import { Catalogue } from './catalogue.js'
import { type EarlierJournal, JournalWriter } from './journal.js'
import { GatewayMetrics } from './metrics.js'
import { Background, BodyReader, interruptedResponse } from './openai/index.js'
import { processorOf } from './processor.js'
import { Limiter, Requests, Scheduler, systemClock, Tokens } from './requests/index.js'
import { LocalStored, otherGateways, Stored } from './stored/index.js'

export const gatewayConfigSchema = z.strictObject({
  /** The model of requests that name none; empty: the mesh's. */
  defaultModel: z.string(),
  /** Most requests that wait for one model. */
  queueLimit: z.int().min(0),
  /** A processor that sends nothing for this long has lost the request. */
  stallMs: z.int().min(1000),
  /** With less free disk than this no request is taken, because its usage might not be recorded. */
  minFreeDiskBytes: z.int().min(0),
  /** Usage records that the authority has counted are kept for so many days. */
  retentionDays: z.int().min(1).max(3650),
  /** Responses and stored chats are kept for so many days. */
  storedDays: z.int().min(1).max(3650),
  /** What they may take of the disk; 0: none is stored. */
  storedBytes: z.int().min(0),
})

/** What a gateway is made of, besides what every worker has. */
export interface GatewayParts {
  accounts: AccountsReplica
  background: Background
  bodies: BodyReader
  catalogue: Catalogue<Link>
  journal: JournalWriter
  limiter: Limiter
  requests: Requests
  scheduler: Scheduler
  stored: Stored
  tokens: Tokens
}

/** What the parts need of their worker. */
export interface GatewayBase {
  name: string
  workerDir: string
  disk: Disk
  profile: MeshProfile
  net: Net
  store: Store
  log: Logger
  registry: Registry
  /** Tells of what the worker cannot read of a store. */
  watch: (view: BeeView) => void
}

/**
 * Puts a gateway together. The journal and the accounts are to be opened then.
 * @param journals the core of the journal and those of earlier ones, which are ready
 */
export function gatewayParts(
  config: z.output<typeof gatewayConfigSchema>,
  { name, workerDir, disk, profile, net, store, log, registry, watch }: GatewayBase,
  { core, earlier }: { core: Hypercore; earlier: readonly EarlierJournal[] },
): GatewayParts {
  const metrics = new GatewayMetrics(registry, {
    models: () => net.directory.models.keys(),
    running: () => requests.running,
    depths: () => scheduler.depths(),
    stored: () => local.stats,
  })
  const catalogue = new Catalogue({
    models: net.directory.models,
    processors: () => net.linksTo('processor'),
    defaultModel: () => config.defaultModel || net.directory.defaultModel,
    mayServe: (publicKey, model) => net.directory.mayServe(publicKey, model),
  })
  const scheduler = new Scheduler({
    candidates: (model) => catalogue.candidates(model),
    queueLimit: config.queueLimit,
  })
  const journal = new JournalWriter(core, {
    dir: workerDir,
    earlier,
    shortage: () => disk.shortage(config.minFreeDiskBytes, 'This gateway', 'it takes no requests'),
    onStored: (records, seconds) => metrics.stored(records, seconds),
    onLost: ({ path: file, bytes, isHalfRecord }) => {
      metrics.journalLost(isHalfRecord, bytes)
      if (isHalfRecord)
        log.info({ file, bytes }, 'a record that was being written when the gateway was killed is left out')
      else {
        log.warn(
          { file, bytes },
          'a part of the write-ahead log cannot be read and is left out: the requests recorded there last may be missing from the usage',
        )
      }
    },
    onError: (err) => log.error({ err }, 'usage could not be recorded'),
    userAddedAt: (name) => accounts.userAddedAt(name),
  })
  const limiter = new Limiter(journal, systemClock.now, (kind) => metrics.limited(kind))
  const accounts = new AccountsReplica({
    store,
    net,
    workerDir,
    journal: core.key,
    tokens: new TokenVerifier(profile.address, profile.authority),
    authority: () => net.members.get(profile.authority),
    watch,
  })
  const processorAt = (publicKey: string) => {
    const link = net.members.get(publicKey)
    return link && processorOf(link)
  }
  const candidates = (model: string) => catalogue.candidates(model)
  const tokens = new Tokens({ catalogue, limiter, processorAt, candidates })
  const requests = new Requests({
    catalogue,
    limiter,
    scheduler,
    processorAt,
    journal,
    observer: metrics,
    // A caller may be refused as often as it likes; what is served is in the journal.
    log: { debug: (facts, message) => log.debug(facts, message), ...sampled(log) },
    clock: systemClock,
    gateway: name,
    stallMs: config.stallMs,
  })
  const local = new LocalStored({
    dir: join(workerDir, 'stored'),
    days: config.storedDays,
    bytes: config.storedBytes,
    hasRoom: (bytes) => (disk.freeBytes ?? Number.POSITIVE_INFINITY) - bytes >= config.minFreeDiskBytes,
    keptFrom: ({ keyId, user }) => accounts.ownedFrom(keyId, user),
    interrupted: interruptedResponse,
    log: sampled(log),
    failed: (op) => metrics.storedFailed(op),
    now: Date.now,
  })
  const stored = new Stored(local, () => otherGateways(net))
  const background = new Background(stored)
  const bodies = new BodyReader()
  return { accounts, background, bodies, catalogue, journal, limiter, requests, scheduler, stored, tokens }
}
