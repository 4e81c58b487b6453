import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import {
  type AccountsKey,
  accountsKeyPath,
  findProfile,
  homeFiles,
  identityPath,
  readAccountsKey,
  writeAccountsKey,
  writeProfile,
} from '../../lib/home/index.js'
import {
  encodeKey,
  isSameNetwork,
  MeshError,
  type MeshProfile,
  newApiKey,
  TokenVerifier,
} from '../../lib/protocol/index.js'
import { raiseFork } from '../../lib/store/index.js'
import { BaseWorker, type Facility, netConfigSchema, type WorkerOptions } from '../../lib/worker-base/index.js'
import { type AuthorityAccounts, mustBeReadable, unreadableHere } from './accounts.js'
import { AccountsCore } from './accounts-core.js'
import { Admissions } from './admissions.js'
import { Advertiser } from './advertiser.js'
import { type AuthConfig, authConfigSchema } from './config.js'
import { ensureAdmin, ensureHomeInvite } from './first-start.js'
import { HashQueue } from './hash-queue.js'
import { Invites } from './invites.js'
import { Journals } from './journals.js'
import { Keys } from './keys.js'
import { UsageLedger } from './ledger.js'
import { Logins } from './logins.js'
import { Members } from './members.js'
import { serveMethods } from './methods.js'
import { registerMetrics } from './metrics.js'
import { Models } from './models.js'
import { keepNetwork } from './network.js'
import { Nodes } from './nodes.js'
import { Replicas } from './replicas.js'
import { Sightings } from './sightings.js'
import { StoreWriter } from './store-writer.js'
import { Throttle } from './throttle.js'
import { UsageChecks } from './usage-checks.js'
import { Users } from './users.js'

const DAY_MS = 86_400_000
/** How long members have to read where the mesh will be found: it is pushed to them. */
const FOLLOW_MS = 500
/** How often it is noted who is linked. */
const SIGHT_MS = 60_000
/** A secret key is its seed and its public key. */
const SEED_BYTES = 32

/** The authority: the only writer of the directory and of the accounts, and the one who adds up the usage. */
export class AuthWorker extends BaseWorker {
  readonly #config: AuthConfig
  #directoryCore: Hypercore | undefined
  #writer: StoreWriter | undefined
  #invites: Invites | undefined
  #journals: Journals | undefined
  #nodes: Nodes | undefined
  #sightings: Sightings | undefined
  #sightingsTimer: NodeJS.Timeout | undefined
  #accounts: AuthorityAccounts | undefined
  /** What `mesh.json` said when this worker began to start. */
  #found: MeshProfile | undefined

  /** @throws MeshError CONFIG_INVALID, STORE_INVALID */
  constructor(options: WorkerOptions) {
    super('auth', options)
    this.#config = this.config('auth', authConfigSchema)
  }

  /** The home's mesh; at the first start a new one, whose address is the key of the directory just made. */
  protected override async _profile(): Promise<MeshProfile> {
    const core = this.store.own('directory')
    await core.ready()
    if (this.restoredAt !== undefined) await raiseFork(core, this.restoredAt)
    this.#directoryCore = core
    const address = encodeKey(core.key)
    const known = findProfile(this.home)
    this.#found = known
    if (known !== undefined) return this.#knownProfile(known, address)
    const { kind, bootstrap } = this.config('net', netConfigSchema)
    if (kind === 'private' && bootstrap.length === 0) {
      throw MeshError.CONFIG_INVALID('net.bootstrap: a private network needs at least one DHT node, as host:port')
    }
    return { address, authority: this.publicKey, network: { kind, bootstrap } }
  }

  /** @throws MeshError CONFIG_INVALID when this worker is not the authority of the home's mesh */
  #knownProfile(known: MeshProfile, address: string): MeshProfile {
    if (known.address !== address) {
      throw MeshError.CONFIG_INVALID(
        `${homeFiles(this.home).mesh} says that this home belongs to the mesh ${known.address}, whose directory is not in ${this.workerDir}. Restore that folder, or make a new mesh in another home (--data-dir)`,
      )
    }
    if (known.authority !== this.publicKey) {
      throw MeshError.CONFIG_INVALID(
        `${homeFiles(this.home).mesh} names the authority ${known.authority}, but ${identityPath(this.workerDir)} is another key. Restore that file: the members of the mesh know no other authority`,
      )
    }
    return known
  }

  protected override _directoryCore(): Hypercore {
    if (this.#directoryCore === undefined) throw new Error('the directory is opened with the profile')
    return this.#directoryCore
  }

  protected override async _prepare(): Promise<void> {
    const core = new AccountsCore(
      {
        store: this.store,
        workerDir: this.workerDir,
        tokens: new TokenVerifier(this.profile.address, this.publicKey),
        onOpening: (accounts) => this.watch(accounts),
        onCurrent: (accounts) => this.#serveAccounts(accounts),
      },
      await this.#accountsKey(),
    )
    let accounts = await core.open(this.directory.known)
    for (const view of [this.directory, accounts]) mustBeReadable(view)
    // Gateways may have more of these accounts than was restored, so nothing more is written to them.
    if (this.restoredAt !== undefined) accounts = await core.renew(accounts)
    this.directory.on('unreadable', (err) => this.fatal(unreadableHere(err)))
    const replicas = new Replicas({
      core,
      gateways: () => this.directory.membersWithRole('gateway'),
      linkTo: (publicKey) => this.net.members.get(publicKey),
      onUntold: ({ name }, { code, message: reason }) =>
        this.log.warn({ gateway: name, code, reason }, 'a gateway could not be told where the accounts are now'),
    })

    const usageCore = this.store.own('usage')
    const ledger = new UsageLedger(new Hyperbee(usageCore, { keyEncoding: 'utf-8', valueEncoding: 'binary' }))
    await ledger.open()

    const metrics = registerMetrics(this.registry, {
      members: (role) => this.directory.membersWithRole(role).length,
      journalLag: () => this.#journals?.lag ?? 0,
    })
    const writer = new StoreWriter({
      accounts,
      directory: this.directory,
      now: Date.now,
      shortage: () => this.disk.shortage(this.#config.minFreeDiskBytes, 'The authority', 'it changes nothing'),
      renew: async (from) => {
        const accounts = await core.renew(from)
        this.log.info('a gateway was removed: the accounts have moved to where it cannot read them')
        void replicas.tell()
        return accounts
      },
      onNotRenewed: (err) => this.log.error({ err }, 'the accounts could not move; they do before the next change'),
      onWrite: (store, seconds) => metrics.storeOp(`${store}.write`, seconds),
    })
    const keys = new Keys({ writer, newKey: newApiKey, perUser: this.#config.keysPerUser })
    const queue = new HashQueue()
    const users = new Users(writer, keys)
    const logins = new Logins({
      writer,
      queue,
      mesh: this.profile.address,
      seed: this.keyPair.secretKey.subarray(0, SEED_BYTES),
      perMinute: this.#config.loginsPerMinute,
    })
    const invites = new Invites(writer, newApiKey)
    const models = new Models(writer)
    const throttle = new Throttle(this.#config.joinFailuresPerMinute)
    const members = new Members({ writer, invites, models, authority: this.publicKey, throttle })
    const journals = new Journals({
      writer,
      store: this.store,
      ledger,
      log: this.log,
      own: () => [this.profile.address, core.access.accounts, encodeKey(usageCore.key)],
      share: (journal, gateway) => this.net.share(journal, ({ publicKey }) => publicKey === gateway),
      retentionMs: this.#config.retentionDays * DAY_MS,
      onFolded: (counts) => metrics.folded(counts),
    })
    this.#sightings = this.#watchMembers(writer)
    const { net, directory, home, log } = this
    this.#nodes = new Nodes({ net, directory, writer, home, mesh: this.profile.address, log })
    this.#writer = writer
    this.#invites = invites
    this.#journals = journals

    await members.repair()
    await writer.renewWhereDue()
    await models.repair()
    await members.enrolSelf(this.name)
    await ensureAdmin(writer, users, this.home)
    await journals.open()
    const { dispatcher } = this.net
    serveMethods(dispatcher.respond.bind(dispatcher), {
      config: this.#config,
      profile: () => this.profile,
      writer,
      users,
      keys,
      queue,
      logins,
      invites,
      members,
      admissions: new Admissions({
        isOpen: () => this.#config.nearby && this.profile.network.kind === 'lan',
        members,
        authority: this.publicKey,
        now: Date.now,
      }),
      models,
      journals,
      ledger,
      sightings: this.#sightings,
      checks: new UsageChecks({ ledger, journals, writer, log: this.log }),
      metrics,
      core,
      replicas,
    })
  }

  /** From here on keys are checked by these accounts, and gateways get them. */
  #serveAccounts(accounts: AuthorityAccounts): void {
    if (this.#accounts !== undefined) this.net.withdraw(this.#accounts.core)
    this.#accounts = accounts
    accounts.on('unreadable', (err) => this.fatal(unreadableHere(err)))
    this.net.dispatcher.authenticate = (key) => accounts.authenticate(key)
    this.net.share(accounts.core, ({ role }) => role === 'gateway')
  }

  protected override _facilities(): Facility[] {
    return [new Advertiser({ enabled: this.#config.nearby, profile: () => this.profile, log: () => this.log })]
  }

  /** The net has started, so the profile holds the address of the bootstrap node that it serves. */
  protected override async _start(): Promise<void> {
    if (this.#invites === undefined || this.#nodes === undefined)
      throw new Error('invites are made before the worker starts')
    await ensureHomeInvite(this.#invites, this.profile, this.home)
    this.#keepProfile()
    await this.#nodes.start()
    await this.#tellNetwork(this.profile.network)
  }

  /** `infermesh network` has changed the profile: members that are linked hear of it while they can. */
  protected override async _drain(): Promise<void> {
    const kept = findProfile(this.home)
    if (kept === undefined || isSameNetwork(kept.network, this.profile.network)) return
    const next = await this.#nextNetwork(kept.network)
    if (next !== kept.network) writeProfile(this.home, { ...kept, network: next })
    await this.#tellNetwork(next)
    if (this.net.members.size > 0) await sleep(FOLLOW_MS)
  }

  /** At which node the mesh begins on a network of its own, this worker knows: its next start takes what it says here. */
  async #nextNetwork(network: MeshProfile['network']): Promise<MeshProfile['network']> {
    const { kind, bootstrap } = network
    if (bootstrap.length > 0 || (kind !== 'local' && kind !== 'lan')) return network
    return { kind, bootstrap: [await this.net.nextNode(kind, this.config('net', netConfigSchema))] }
  }

  /** Invites and commands name the nodes that there are now. What `infermesh network` has written since stays as it is. */
  #keepProfile(): void {
    const kept = JSON.stringify(findProfile(this.home))
    if (kept === JSON.stringify(this.#found) && kept !== JSON.stringify(this.profile))
      writeProfile(this.home, this.profile)
  }

  /** That the members cannot be told is no reason not to run. */
  async #tellNetwork(network: MeshProfile['network']): Promise<void> {
    try {
      if (this.#writer !== undefined) await keepNetwork(this.#writer, network)
    } catch (err) {
      this.log.warn({ err }, 'the members could not be told of the network')
    }
  }

  /** Notes which members are linked: as they come, each minute, and as they go. */
  #watchMembers(writer: StoreWriter): Sightings {
    const sightings = new Sightings({
      workerDir: this.workerDir,
      now: Date.now,
      isMember: (publicKey) => this.directory.members.has(publicKey),
      isKey: (id) => writer.accounts.keys.has(id),
      log: this.log,
    })
    const note = (): void => {
      for (const publicKey of [this.publicKey, ...this.net.members.keys()]) sightings.sawMember(publicKey)
      sightings.save()
    }
    this.net.on('link', note)
    this.net.on('unlink', ({ publicKey }) => sightings.sawMember(publicKey))
    this.#sightingsTimer = setInterval(note, SIGHT_MS).unref()
    return sightings
  }

  protected override async _stop(): Promise<void> {
    clearInterval(this.#sightingsTimer)
    this.#sightings?.save({ atOnce: true })
    await this.#writer?.close()
    await this.#journals?.close()
  }

  /**
   * The key that the accounts' blocks are encrypted with, made at the first start and kept with mode 0600.
   * @throws MeshError STORE_INVALID when the accounts are there but their key is not
   */
  async #accountsKey(): Promise<AccountsKey> {
    const known = readAccountsKey(this.workerDir)
    if (known !== undefined) return known
    const key = { core: 'accounts', encryptionKey: randomBytes(32) }
    const core = this.store.own(key.core)
    await core.ready()
    const { length } = core
    await core.close()
    if (length > 0 || this.directory.known) {
      throw MeshError.STORE_INVALID(
        `${accountsKeyPath(this.workerDir)} is missing, and the accounts cannot be read without it. Restore it`,
      )
    }
    writeAccountsKey(this.workerDir, key)
    return key
  }
}
