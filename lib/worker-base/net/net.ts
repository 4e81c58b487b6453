import { EventEmitter } from 'node:events'
import type Hypercore from 'hypercore'
import type { KeyPair, NoiseStream } from 'hyperdht'
import type Hyperswarm from 'hyperswarm'
import type { Discovery } from 'hyperswarm'
import type { Registry } from 'prom-client'
import { acceptGenerations, CHECK_MS, type GenerationSink, Link } from '../../link/index.js'
import {
  type Caller,
  encodeKey,
  type GenerateAsk,
  type Hello,
  isDoor,
  type LinkView,
  type Load,
  type MemberNode,
  MeshError,
  type MeshProfile,
  type Role,
  type WorkerView,
} from '../../protocol/index.js'
import type { Directory } from '../../store/index.js'
import { type Facility, withDeadline } from '../facility.js'
import type { Logger } from '../log.js'
import { tooManyClients } from './clients.js'
import type { NetConfig } from './config.js'
import { Dialling } from './dialling.js'
import { Dispatcher } from './dispatcher.js'
import { Heartbeats } from './heartbeats.js'
import { NetMetrics } from './metrics.js'
import { type Audience, Replication } from './replication.js'
import { announceAgain, openSwarm } from './swarm.js'
import { linkViews, type ViewsOptions, workerViews } from './views.js'
import { Whereabouts } from './whereabouts.js'

/** How long a stopping worker tries to take its announcements back. */
const LEAVE_MS = { local: 300, lan: 500, private: 1500, public: 1500 } as const

export type GenerationHandler = (
  ask: GenerateAsk,
  sink: GenerationSink,
  context: { peer: string; role: Caller },
) => Promise<void>

interface NetEvents {
  /** Anyone connected, member or not: the tick in which further channels are attached to the link. */
  connected: [Link]
  /** A member is linked and has said hello. */
  link: [Link]
  /** A member's link ended. */
  unlink: [Link, MeshError]
  /** A member reported its load, or became suspect. */
  load: [Link]
  /** Others look for this worker where it is no longer: it must start anew. */
  moved: [MeshError]
}

export interface NetOptions {
  config: NetConfig
  profile: MeshProfile
  directory: Directory
  keyPair: KeyPair
  /** Where members were seen last, as the home remembers it. */
  remembered: () => readonly MemberNode[]
  hello: () => Hello
  load: () => Load
  workerDir: string
  log: Logger
  registry: Registry
}

/** The worker's place in the mesh: one Hyperswarm, one link to each member it needs, heartbeats and the calls over them. */
export class Net extends EventEmitter<NetEvents> implements Facility {
  readonly name = 'net'
  readonly directory: Directory
  readonly dispatcher: Dispatcher
  readonly publicKey: string
  /** Links to members that have said hello, by public key. */
  readonly members = new Map<string, Link>()
  readonly #options: NetOptions
  readonly #role: Role
  readonly #links = new Set<Link>()
  /** What each link's key was in the directory when it was last looked at. */
  readonly #rolesSeen = new WeakMap<Link, Caller>()
  readonly #replication: Replication
  readonly #heartbeats: Heartbeats
  readonly #metrics: NetMetrics
  readonly #whereabouts: Whereabouts
  #discovery: Discovery | undefined
  #swarm: Hyperswarm | undefined
  #dialling: Dialling | undefined
  #timer: NodeJS.Timeout | undefined
  #generation: { callers: readonly Caller[]; handler: GenerationHandler } | undefined
  #stopping = false

  constructor(options: NetOptions) {
    super()
    this.#options = options
    this.#role = options.hello().role
    this.directory = options.directory
    this.publicKey = encodeKey(options.keyPair.publicKey)
    const { authority } = options.profile
    this.#whereabouts = new Whereabouts({
      ...options,
      publicKey: this.publicKey,
      role: this.#role,
      mayAnnounce: this.#mayAnnounce,
      isAuthorityHere: () => authority === this.publicKey || this.members.has(authority),
      onReturned: () => {
        this.#announceAgain()
        this.#dialling?.callAgain()
      },
      onMoved: (reason) => this.emit('moved', reason),
    })
    this.dispatcher = new Dispatcher(options.log, options.registry)
    this.#heartbeats = new Heartbeats(this.#links, options.load)
    this.#metrics = new NetMetrics(options.registry, this.#links, this.members)
    this.#replication = new Replication(this.#links, (link) =>
      this.members.get(link.publicKey) === link ? link.role : 'client',
    )
    // Clients read in it whom they may trust, and workers that are not listed yet, that they are.
    this.share(this.directory.core, () => true)
  }

  /** Replicates a core to those who have said hello and whom the audience names. It ends with the core. */
  share(core: Hypercore, audience: Audience): void {
    this.#replication.share(core, audience)
  }

  /** Replicates a core on no further links. Close it, and it ends on those that there are. */
  withdraw(core: Hypercore): void {
    this.#replication.withdraw(core)
  }

  /** How the mesh is reached now. */
  get profile(): MeshProfile {
    return this.#whereabouts.profile
  }

  /** Runs the handler for each generation that one of the callers asks for. */
  onGenerate(callers: readonly Caller[], handler: GenerationHandler): void {
    this.#generation = { callers, handler }
  }

  /** Begins to listen and to dial; does not wait for the DHT. */
  async start(): Promise<void> {
    const { keyPair } = this.#options
    const dht = await this.#whereabouts.open()
    const swarm = openSwarm(dht, keyPair, (publicKey) => dialling.giveWay(publicKey))
    this.#swarm = swarm
    const dialling = new Dialling({
      swarm,
      publicKey: this.publicKey,
      role: this.#role,
      profile: this.profile,
      directory: this.directory,
      isOpen: (conn) => [...this.#links].some((link) => link.conn === conn),
      isLinked: (publicKey) => this.members.has(publicKey),
      isPlaceKnown: (publicKey) => this.#whereabouts.isPlaceKnown(publicKey),
      isOnline: () => this.online,
      log: this.#options.log,
      now: () => performance.now(),
    })
    this.#dialling = dialling
    swarm.on('connection', (conn) => this.#onConnection(conn, dialling))
    swarm.on('update', () => dialling.watch())
    let isListed = this.#isListed
    this.directory.on('change', () => {
      this.#reconcile(dialling)
      this.#whereabouts.consider()
      // What a stranger announced under the mesh's address was not kept.
      if (this.#isListed && !isListed) this.#announceAgain()
      isListed = this.#isListed
    })
    this.#background(swarm.listen(), 'listening')
    this.#background(
      dht.fullyBootstrapped().then(() => this.#announceAgain()),
      'announcing',
    )
    if (isDoor(this.#role)) {
      const topic = this.directory.core.discoveryKey
      this.#background(this.#whereabouts.announceHere(topic), 'announcing')
      this.#discovery = swarm.join(topic, { server: true, client: false })
    }
    this.#whereabouts.watch()
    this.#reconcile(dialling)
    dialling.greet()
    this.#timer = setInterval(() => this.#tick(dialling), CHECK_MS)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    clearInterval(this.#timer)
    this.#heartbeats.stop()
    this.#dialling?.stop()
    const links = [...this.#links]
    for (const link of links) link.close(MeshError.SHUTTING_DOWN(`${this.#role} stops`))
    await Promise.all(links.map(({ gone }) => gone))
    // Politely first: that takes this worker's announcements out of the DHT, where they would mislead for minutes.
    const swarm = this.#swarm
    if (swarm !== undefined) {
      const leaveMs = LEAVE_MS[this.profile.network.kind]
      // Nodes that stopped just before do not answer; the swarm waits for them whether forced or not, its node does not.
      await withDeadline(swarm.destroy(), leaveMs, 'Leaving the DHT').catch(() => swarm.dht.destroy({ force: true }))
    }
  }

  /** Addresses for the status file. */
  get addresses(): Record<string, string> {
    return this.#whereabouts.addresses
  }

  /** True while the DHT answers; the authority of a network of its own is where that begins. */
  get online(): boolean {
    return this.#whereabouts.online
  }

  /** Where this worker can be called directly; undefined on networks where that is not known. */
  get ownNode(): MemberNode | undefined {
    return this.#whereabouts.ownNode
  }

  /** Where a linked member can be called directly; undefined where it has not said. */
  placeOf(link: Link): MemberNode | undefined {
    return this.#whereabouts.placeOf(link)
  }

  /** Where the authority's node will be on another network of the mesh's own. @throws MeshError DHT_UNREACHABLE */
  nextNode(kind: 'local' | 'lan', config: NetConfig): Promise<string> {
    return this.#whereabouts.nextNode(kind, config)
  }

  /** The authority's link; throws where there is none. @throws MeshError AUTHORITY_DOWN */
  authority(): Link {
    const link = this.members.get(this.profile.authority)
    if (link === undefined || link.suspect) {
      throw MeshError.AUTHORITY_DOWN(
        'The auth worker cannot be reached now; inference goes on, but nothing can be changed. Try again shortly',
        { retryAfterMs: 2000 },
      )
    }
    return link
  }

  /** Links to members of one role that are not suspect. */
  linksTo(role: Role): Link[] {
    return [...this.members.values()].filter((link) => link.role === role && !link.suspect)
  }

  /** Tells all links the load soon: call it when something about it changed. */
  loadChanged(): void {
    this.#heartbeats.loadChanged()
  }

  /** Every member of the directory as this worker sees it, itself included. */
  views(): WorkerView[] {
    return workerViews(this.#views)
  }

  /** Those that this worker is linked with, or dials in vain. The authority is always among them, but for itself. */
  linkViews(): LinkView[] {
    return linkViews(this.#views, this.profile.authority)
  }

  get #views(): ViewsOptions {
    const { hello, load } = this.#options
    const { directory, members, publicKey } = this
    return { directory, members, publicKey, hello, load, reasonFor: (key) => this.#dialling?.reasonFor(key)?.message }
  }

  #roleOf = (publicKey: string): Caller => {
    // The authority's key comes from the home's own profile: it is known before the directory is.
    if (publicKey === this.profile.authority) return 'auth'
    return this.directory.member(publicKey)?.role ?? 'client'
  }

  get #isListed(): boolean {
    return this.directory.member(this.publicKey) !== undefined
  }

  /** Under the mesh's address only its doors are found, however many others say that they are some. */
  #mayAnnounce = (topic: Uint8Array, publicKey: Uint8Array): boolean => {
    const { known, core } = this.directory
    if (!known || Buffer.compare(topic, core.discoveryKey) !== 0) return true
    const role = this.#roleOf(encodeKey(publicKey))
    return isDoor(role)
  }

  #onConnection(conn: NoiseStream, dialling: Dialling): void {
    let link: Link
    try {
      link = new Link({ conn, hello: this.#options.hello(), roleOf: this.#roleOf })
    } catch (err) {
      conn.on('error', () => {})
      conn.destroy()
      this.#options.log.debug({ err }, 'a connection ended before its link was set up')
      return
    }
    this.dispatcher.attach(link.rpc, link)
    acceptGenerations(link.mux, (ask, sink) => this.#runGeneration(link, ask, sink))
    this.emit('connected', link)
    link.on('hello', () => this.#admit(link, dialling))
    link.on('close', (reason) => this.#onLinkClosed(link, reason, dialling))
    link.on('garbage', () => this.#metrics.badFrame())
    link.on('load', () => {
      if (this.members.get(link.publicKey) === link) this.emit('load', link)
    })
    link.on('suspect', () => {
      this.#options.log.warn({ peer: link.label }, 'a link is silent')
      // It may be back already, with a DHT that has forgotten everybody, and look for this worker to say so.
      if (link.role === 'auth') this.#announceAgain()
      this.emit('load', link)
    })
    this.#links.add(link)
    this.#rolesSeen.set(link, link.role)
    dialling.connected(link.publicKey)
    const refusal = link.role === 'client' ? this.#refusalOf(link) : undefined
    if (refusal !== undefined) link.close(refusal)
  }

  /** Why this worker does not take a client; undefined where it does. */
  #refusalOf({ publicKey, address }: Link): MeshError | undefined {
    if (!isDoor(this.#role)) {
      return MeshError.NOT_A_MEMBER(`This ${this.#role} accepts members of the mesh only, and ${publicKey} is none`)
    }
    const clients = [...this.#links].filter(({ role }) => role === 'client')
    return tooManyClients(
      clients.map((client) => client.address),
      address,
      this.#options.config,
    )
  }

  /**
   * Counts a peer that has said hello among the members, once the directory says that it is one, and replicates to it what
   * it is entitled to.
   */
  #admit(link: Link, dialling: Dialling): void {
    const { role, publicKey, hello } = link
    if (link.closed) return
    if (role === 'client' || hello === undefined) return this.#replication.update(link)
    if (hello.role !== role) {
      return link.close(MeshError.REFUSED(`The directory says that this key is of the role ${role}, not ${hello.role}`))
    }
    const known = this.members.get(publicKey)
    if (known === link) return
    known?.close(MeshError.LINK_CLOSED('A newer connection took this one’s place'))
    this.members.set(publicKey, link)
    this.#whereabouts.saw(link)
    this.#replication.update(link)
    dialling.linked(publicKey)
    link.report(this.#options.load())
    this.#options.log.info({ peer: link.label, publicKey }, 'linked')
    this.#announceAgain()
    this.emit('link', link)
  }

  #onLinkClosed(link: Link, reason: MeshError, dialling: Dialling): void {
    const { publicKey, label: peer, dialled } = link
    const { log } = this.#options
    this.#links.delete(link)
    this.#metrics.closed(reason.code)
    if (link.role !== 'client' || dialled) dialling.lost(publicKey, reason)
    if (this.members.get(publicKey) !== link) {
      if (dialled) log.debug({ peer, reason: reason.message }, 'a link was not set up')
      if (publicKey === this.profile.authority) this.emit('unlink', link, reason)
      return
    }
    this.members.delete(publicKey)
    if (!this.#stopping) log.info({ peer, code: reason.code, reason: reason.message }, 'link closed')
    this.emit('unlink', link, reason)
  }

  async #runGeneration(link: Link, ask: GenerateAsk, sink: GenerationSink): Promise<void> {
    const { role, publicKey } = link
    if (this.#generation === undefined || !this.#generation.callers.includes(role)) {
      throw MeshError.FORBIDDEN(`A peer with the role ${role} may not ask this ${this.#role} for a generation`)
    }
    try {
      await this.#generation.handler(ask, sink, { peer: publicKey, role })
    } catch (err) {
      const failure = MeshError.from(err)
      if (failure.code === 'INTERNAL')
        this.#options.log.error({ err, requestId: ask.requestId }, 'a generation failed unexpectedly')
      throw failure
    }
  }

  #announceAgain(): void {
    if (this.#swarm === undefined || this.#stopping) return
    this.#background(announceAgain(this.#swarm, this.#discovery), 'announcing')
  }

  /** Makes dials and links fit the directory: dials whom it should, admits the newly known, cuts the removed. */
  #reconcile(dialling: Dialling): void {
    if (this.#stopping) return
    this.#cutRemoved()
    dialling.reconcile()
    for (const link of this.#links) if (link.greeted) this.#admit(link, dialling)
  }

  /** Closes every link of members that were removed or got another role, or whose time is over. */
  #cutRemoved(): void {
    for (const link of [...this.#links]) {
      const before = this.#rolesSeen.get(link)
      const { role } = link
      this.#rolesSeen.set(link, role)
      if (before === undefined || before === 'client' || before === role) continue
      link.close(MeshError.NOT_A_MEMBER(`${link.label} is no longer the ${before} that it was in this mesh`))
    }
  }

  #tick(dialling: Dialling): void {
    // With each heartbeat: a member's time may be over without a change of the directory.
    if (this.#heartbeats.tick(performance.now())) this.#cutRemoved()
    dialling.tick()
    this.#whereabouts.tick()
  }

  #background(work: Promise<unknown>, what: string): void {
    work.catch((err: unknown) => {
      if (!this.#stopping) this.#options.log.warn({ err }, `${what} failed`)
    })
  }
}
