import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { KeyPair } from 'hyperdht'
import { Registry } from 'prom-client'
import { z } from 'zod'
import {
  homeFiles,
  makePrivateDir,
  nodesKeeper,
  readNodes,
  readProfile,
  readRestored,
  removeRestored,
  writeProfile,
} from '../home/index.js'
import { isOwnIpv4 } from '../lan/index.js'
import {
  decodeKey,
  encodeKey,
  type Hello,
  isLoopback,
  isLoopbackHost,
  isSameNetwork,
  type Load,
  MeshError,
  type MeshProfile,
  PROTOCOL_VERSION,
  type Role,
  type WorkerStatus,
} from '../protocol/index.js'
import { type BeeView, Directory } from '../store/index.js'
import { type ConfigSources, checkFacilities, loadConfig, PACKAGE_ROOT, removedSettings } from './config.js'
import { Disk } from './disk.js'
import { type Facility, withDeadline } from './facility.js'
import { loadIdentity } from './identity.js'
import { type Logger, logConfigSchema, openLog } from './log.js'
import { Membership } from './membership.js'
import { registerWorkerMetrics } from './metrics.js'
import { netConfigSchema } from './net/config.js'
import { Net } from './net/index.js'
import { plainAddress } from './origin.js'
import { StatusFile } from './status-file.js'
import { Store } from './store.js'

/** The package's version. */
export const VERSION = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8'))).version

/** Less than the authority stays after it has said where it goes. */
const FOLLOW_AFTER_MS = 200

const workerConfigSchema = z.strictObject({
  /** How long one facility may take to start or stop. */
  facilityDeadlineMs: z.int().min(1),
  /** How long all of a start may take, the reading of what is stored included. */
  startDeadlineMs: z.int().min(1),
  /** How long a stopping worker may take to finish what runs. */
  drainMs: z.int().min(0),
})

export interface WorkerOptions {
  /** The home: what `--data-dir` names. */
  home: string
  /** This worker's instance name: what `--rack` names. */
  name: string
  /** `production`, `development`, …: what `--env` names; goes into the log. */
  env?: string
  /** Settings from the command line: facility -> key -> value. */
  flags?: Record<string, Record<string, unknown>>
  /** Environment to read INFERMESH_* variables from. */
  environment?: NodeJS.ProcessEnv
  /** Shows the log on standard error in people's form. */
  terminal?: boolean
  /** Resolves when the worker may go to the network. Until then it does what it can do alone. Absent: at once. */
  go?: Promise<unknown>
  /** Called when the worker cannot go on; the process should end with this error's exit code. */
  onFatal?: (err: MeshError) => void
}

/**
 * What every worker is: settings, an identity, an ordered list of facilities, and its own `_start` and `_stop`.
 *
 * Start: log, identity, disk, store, `_opened`, and after `go` directory, `_prepare`, net, own facilities, `_start`. Stop: the
 * same in reverse.
 */
export abstract class BaseWorker {
  readonly role: Role
  readonly name: string
  readonly home: string
  /** This worker's own directory in the home. */
  readonly workerDir: string
  readonly registry = new Registry()
  readonly since = Date.now()
  readonly publicKey: string
  /** The disk that this worker's stores lie on. */
  readonly disk: Disk
  protected readonly keyPair: KeyPair
  /** When this worker's stores were restored or moved here; undefined where they were opened since, or never were. */
  protected readonly restoredAt: number | undefined
  protected readonly options: WorkerOptions
  readonly #settings: z.output<typeof workerConfigSchema>
  readonly #netConfig: z.output<typeof netConfigSchema>
  readonly #sources: ConfigSources
  #log: Logger | undefined
  #net: Net | undefined
  #store: Store | undefined
  #directory: Directory | undefined
  #profile: MeshProfile | undefined
  readonly #views = new Set<BeeView>()
  #started: Facility[] = []
  #state: Load['state'] = 'starting'
  readonly #statusFile: StatusFile
  #membership: Membership | undefined
  #stopping: Promise<void> | undefined
  /** What the directory named last as the mesh's network. */
  #networkTold: MeshProfile['network'] | undefined

  /** @throws MeshError CONFIG_INVALID, STORE_INVALID */
  constructor(role: Role, options: WorkerOptions) {
    this.role = role
    this.name = options.name
    this.home = options.home
    this.options = options
    this.workerDir = homeFiles(options.home).worker(role, options.name)
    this.#sources = { home: options.home, env: options.environment ?? process.env, flags: options.flags ?? {} }
    checkFacilities(this.#sources)
    this.#settings = this.config('worker', workerConfigSchema)
    this.#netConfig = this.config('net', netConfigSchema)
    this.disk = new Disk(this.workerDir)
    this.#statusFile = new StatusFile(
      this.home,
      () => this.status(),
      (err) => this.#log?.warn({ err }, 'the status file could not be written'),
    )
    makePrivateDir(this.home)
    makePrivateDir(this.workerDir)
    this.restoredAt = readRestored(this.workerDir)?.at
    this.keyPair = loadIdentity(this.workerDir)
    this.publicKey = encodeKey(this.keyPair.publicKey)
  }

  get log(): Logger {
    return present(this.#log, 'log')
  }
  get net(): Net {
    return present(this.#net, 'net')
  }
  get store(): Store {
    return present(this.#store, 'store')
  }
  get directory(): Directory {
    return present(this.#directory, 'directory')
  }
  get profile(): MeshProfile {
    return this.#net?.profile ?? present(this.#profile, 'profile')
  }
  /** This machine's address in its LAN, as other members know it; undefined where they know none. */
  protected get lanHost(): string | undefined {
    const host = this.#net?.ownNode?.host
    return host === undefined || isLoopbackHost(host) ? undefined : host
  }
  get state(): Load['state'] {
    return this.#state
  }

  /** A facility's settings, checked. @throws MeshError CONFIG_INVALID */
  config<T extends z.ZodObject>(facility: string, schema: T): z.output<T> {
    return loadConfig(facility, schema, this.#sources)
  }

  /**
   * Starts the facilities and then the worker itself. Never waits for the DHT.
   * @throws MeshError when anything cannot start; what had started is stopped again
   */
  async start(): Promise<void> {
    const logConfig = this.config('log', logConfigSchema)
    this.#log = await openLog({
      level: logConfig.level,
      role: this.role,
      name: this.name,
      file: homeFiles(this.home).log(this.role, this.name),
      terminal: this.options.terminal ?? false,
    })
    for (const line of removedSettings(this.#sources)) this.log.warn(line)
    try {
      await withDeadline(this.#open(), this.#settings.startDeadlineMs, 'The start')
      await this.options.go
      await withDeadline(this.#join(), this.#settings.startDeadlineMs, 'The start')
    } catch (err) {
      this.log.error({ err }, 'could not start')
      await this.stop()
      throw err
    }
    registerWorkerMetrics(this.registry, VERSION, this.#views, this.disk)
    this.setState('ready')
    for (const event of ['link', 'unlink'] as const) this.net.on(event, () => this.#statusFile.refresh())
    this.log.info({ publicKey: this.publicKey, env: this.options.env, version: VERSION, ...this._addresses() }, 'ready')
  }

  async #open(): Promise<void> {
    await this.#startFacility(this.disk)
    this.#store = new Store(this.workerDir)
    await this.#startFacility(this.#store)
    await this._opened()
  }

  async #join(): Promise<void> {
    this.#profile = await this._profile()
    this.#directory = new Directory(this._directoryCore())
    this.watch(this.#directory)
    await this.#directory.open()
    this.#net = this.#makeNet()
    this.#net.once('moved', (reason) => this.fatal(reason))
    this.#serveBase(this.#net)
    await this._prepare()
    await this.#endRestore()
    await this.#startFacility(this.#net)
    this.#rememberNodes()
    for (const facility of this._facilities()) await this.#startFacility(facility)
    await this._start()
  }

  /** Drains, then stops in reverse order. Safe to call more than once. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    this.#membership?.stop()
    if (this.#state === 'ready') {
      this.setState('draining')
      await this.#quietly(withDeadline(this._drain(), this.#settings.drainMs, 'Draining'), 'draining')
    }
    await this.#quietly(this._stop(), 'stopping')
    for (const facility of this.#started.reverse()) {
      await this.#quietly(
        withDeadline(facility.stop(), this.#settings.facilityDeadlineMs, `Stopping ${facility.name}`),
        `stopping ${facility.name}`,
      )
    }
    this.#statusFile.remove(this)
    this.#log?.info('stopped')
  }

  /** The worker cannot go on: logs, and leaves it to the process to end. */
  fatal(err: unknown): void {
    const failure = MeshError.from(err)
    this.log.fatal({ err }, failure.message)
    this.options.onFatal?.(failure)
  }

  /** Changes what this worker says of itself to its links and in its status file. */
  protected setState(state: Load['state']): void {
    this.#state = state
    this.#statusFile.write()
    this.#net?.loadChanged()
  }

  status(): WorkerStatus {
    const { role, name, publicKey, version, since, addresses } = this.#hello()
    const status = { role, name, publicKey, version, since, pid: process.pid, addresses, load: this.load() }
    if (this.#net === undefined) return status
    return { ...status, links: this.#net.linkViews(), listed: this.directory.member(publicKey) !== undefined }
  }

  /** This worker's load as its links see it. */
  load(): Load {
    const unreadable = [...this.#views].reduce((sum, view) => sum + view.unreadable.size, 0)
    return {
      state: this.#state,
      running: 0,
      queued: 0,
      models: [],
      ...(unreadable > 0 && { unreadable }),
      ...this._load(),
    }
  }

  /** Tells in the log, the metrics and the load what this worker cannot read of a store. Call it before the view opens. */
  protected watch(view: BeeView): void {
    this.#views.add(view)
    view.once('close', () => this.#views.delete(view))
    view.on('unreadable', (err) => this.log.error({ ...err.details }, err.message))
  }

  // --- what a role fills in ---

  /** The mesh this worker belongs to. The authority, which may have to create it, overrides this. */
  protected async _profile(): Promise<MeshProfile> {
    return readProfile(this.home)
  }
  /** The directory's core. The authority, which writes it, overrides this. */
  protected _directoryCore() {
    return this.store.replica(decodeKey(this.profile.address, 'mesh address'))
  }
  /** Runs once the store is this process's, and nobody else's: begins what wants no mesh. */
  protected async _opened(): Promise<void> {}
  /** Runs before the net starts: registers methods and generation handlers. */
  protected async _prepare(): Promise<void> {}
  /** Facilities of this role's own, started after the net. */
  protected _facilities(): Facility[] {
    return []
  }
  protected async _start(): Promise<void> {}
  /** Resolves once nothing runs any more. New work is refused by then. */
  protected async _drain(): Promise<void> {}
  protected async _stop(): Promise<void> {}
  protected _load(): Partial<Load> {
    return {}
  }
  /** Addresses for people and for the status file, such as `http`. */
  protected _addresses(): Record<string, string> {
    return {}
  }

  // --- the common part ---

  async #startFacility(facility: Facility): Promise<void> {
    this.#started.push(facility)
    await withDeadline(facility.start(), this.#settings.facilityDeadlineMs, `Starting ${facility.name}`)
  }

  /** From here on this worker goes on as any other. Nobody has heard of it yet. */
  async #endRestore(): Promise<void> {
    if (this.restoredAt === undefined) return
    await this.store.persist()
    removeRestored(this.workerDir)
    this.log.info({ at: new Date(this.restoredAt) }, 'goes on with stores that were restored or moved here')
  }

  #makeNet(): Net {
    const { address: mesh } = this.profile
    return new Net({
      config: this.#netConfig,
      profile: this.profile,
      directory: this.directory,
      keyPair: this.keyPair,
      remembered: () => readNodes(this.home, mesh),
      hello: () => this.#hello(),
      load: () => this.load(),
      workerDir: this.workerDir,
      log: this.log,
      registry: this.registry,
    })
  }

  /** Where the members are is kept in the home, for later starts and for commands. */
  #rememberNodes(): void {
    const keepNodes = nodesKeeper(this.home, this.profile.address, (err) =>
      this.log.warn({ err }, 'where the members are could not be kept'),
    )
    const keep = () => keepNodes(this.directory.nodes)
    this.directory.on('change', keep)
    keep()
  }

  #hello(): Hello & { publicKey: string } {
    return {
      protocolVersion: PROTOCOL_VERSION,
      version: VERSION,
      role: this.role,
      name: this.name,
      publicKey: this.publicKey,
      since: this.since,
      addresses: { ...this.#net?.addresses, ...this._addresses() },
    }
  }

  #serveBase(net: Net): void {
    net.dispatcher.respond('ping', async () => ({ at: Date.now() }))
    net.dispatcher.respond('status', async () => this.status())
    net.dispatcher.respond('metrics.collect', async () => ({ metrics: await this.registry.getMetricsAsJSON() }))
    if (this.publicKey === this.profile.authority) return
    this.#membership = new Membership({
      role: this.role,
      name: this.name,
      publicKey: this.publicKey,
      authority: this.profile.authority,
      home: this.home,
      invite: this.#sources.env.INFERMESH_INVITE,
      net,
      directory: this.directory,
      log: this.log,
      onRefused: (reason) => this.fatal(reason),
    })
    this.#membership.start()
    this.#networkTold = this.directory.network
    this.directory.on('change', () => this.#followNetwork())
  }

  /**
   * Follows the mesh to another network: keeps where it is, and starts anew there. Only what the authority says while it is
   * linked counts, and only what it says last: a directory that was read before, or from others, may be of another time.
   */
  #followNetwork(): void {
    const former = this.#networkTold
    const { network } = this.directory
    this.#networkTold = network
    if (former === undefined || network === undefined || isSameNetwork(former, network)) return
    const authority = this.net.members.get(this.profile.authority)
    if (authority === undefined) return
    // On a network of another machine alone nobody is found from here.
    if (isLoopback(network) && !isOwnIpv4(plainAddress(authority.address))) return
    setTimeout(() => {
      const last = this.directory.network
      if (last === undefined || !isSameNetwork(last, network) || isSameNetwork(last, this.profile.network)) return
      if (this.#state !== 'ready') return
      const kept = readProfile(this.home)
      if (!isSameNetwork(network, kept.network)) writeProfile(this.home, { ...kept, network })
      this.fatal(MeshError.LINK_CLOSED(`The mesh moves to the network ${network.kind}: this worker starts anew there`))
    }, FOLLOW_AFTER_MS)
  }

  async #quietly(work: Promise<void>, what: string): Promise<void> {
    try {
      await work
    } catch (err) {
      this.#log?.warn({ err }, `${what} did not go well`)
    }
  }
}

function present<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`${what} is not there before the worker has started`)
  return value
}
