import { EventEmitter } from 'node:events'
import type DHT from 'hyperdht'
import type { KeyPair, NoiseStream } from 'hyperdht'
import DHTNode from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import { Counter, Gauge, type Registry } from 'prom-client'
import { acceptGenerations, connectError, type GenerationSink, Link } from '../../link/index.js'
import {
  type Caller,
  decodeKey,
  encodeKey,
  type GenerateRequest,
  type Hello,
  type Load,
  MeshError,
  type MeshProfile,
  type Role,
  type WorkerView,
} from '../../protocol/index.js'
import type { Directory } from '../../store/index.js'
import { type Facility, withDeadline } from '../facility.js'
import type { Logger } from '../log.js'
import type { Store } from '../store.js'
import type { NetConfig } from './config.js'
import { nodeOptions, serveBootstrap } from './dht.js'
import { Dispatcher } from './dispatcher.js'

const HEARTBEAT_MS = 500
/** How often silence is looked at: a link is closed this much late at most. */
const CHECK_MS = 100
/** A change of load is told at once, but not more often than this. */
const REPORT_SPACING_MS = 10
/** How long a dial may take: on one machine or LAN a dead peer is given up fast, so that its return is noticed within 2 s. */
const DIAL_MS = { local: 800, lan: 1000, private: 12_000, public: 12_000 } as const
const MAX_DOUBLINGS = 2
/** A dial that goes through takes a fraction of this on one machine or LAN. */
const HANGING_MS = 300
/** How long a worker that has just started calls those who dial it. */
const GREET_MS = 2000
/** How long a stopping worker tries to take its announcements back. */
const LEAVE_MS = { local: 300, lan: 500, private: 1500, public: 1500 } as const
const BACKOFFS_MS = [100, 200, 400, 500]

/** Which roles a worker dials. Everyone dials the authority. */
const DIALS: Record<Role, readonly Role[]> = {
  auth: [],
  gateway: ['auth', 'gateway', 'processor'],
  processor: ['auth'],
  metrics: ['auth', 'gateway', 'processor', 'metrics'],
}

/** The doors of the mesh: the roles that strangers may connect to, as clients. */
const DOORS: ReadonlySet<Role> = new Set(['auth', 'gateway'])

export type GenerationHandler = (
  request: GenerateRequest,
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
}

export interface NetOptions {
  config: NetConfig
  profile: MeshProfile
  directory: Directory
  store: Store
  keyPair: KeyPair
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
  /** Links that carry every core of this worker, not the directory alone. */
  readonly #replicating = new WeakSet<Link>()
  readonly #dialled = new Set<string>()
  /** Dials under way: when they began, and their last error by public key. */
  readonly #dials = new Map<string, { conn: NoiseStream; since: number }>()
  /** How many dials in a row took too long, by public key. */
  readonly #lateDials = new Map<string, number>()
  readonly #reasons = new Map<string, MeshError>()
  readonly #closed: Counter<'reason'>
  #bootstrap: DHT | undefined
  #swarm: Hyperswarm | undefined
  readonly #badFrames: Counter
  #timer: NodeJS.Timeout | undefined
  #lastTick = 0
  #lastBeat = 0
  #reportTimer: NodeJS.Timeout | undefined
  #generation: { callers: readonly Caller[]; handler: GenerationHandler } | undefined
  #stopping = false

  constructor(options: NetOptions) {
    super()
    this.#options = options
    this.#role = options.hello().role
    this.directory = options.directory
    this.publicKey = encodeKey(options.keyPair.publicKey)
    this.dispatcher = new Dispatcher(options.log, options.registry)
    this.#closed = this.#registerMetrics(options.registry)
    this.#badFrames = new Counter({
      name: 'infermesh_bad_frames_total',
      help: 'Links closed because the other side sent what is no frame of the protocol.',
      registers: [options.registry],
    })
  }

  /** Runs the handler for each generation that one of the callers asks for. */
  onGenerate(callers: readonly Caller[], handler: GenerationHandler): void {
    this.#generation = { callers, handler }
  }

  /** Begins to listen and to dial; does not wait for the DHT. */
  async start(): Promise<void> {
    const { config, profile, keyPair, workerDir } = this.#options
    const { kind } = profile.network
    if (this.#role === 'auth' && (kind === 'local' || kind === 'lan')) {
      this.#bootstrap = await serveBootstrap(workerDir, kind, config)
      profile.network.bootstrap = [`${this.#bootstrap.host}:${this.#bootstrap.port}`]
    }
    const dht = new DHTNode(nodeOptions(profile.network, { config, keyPair, role: this.#role }))
    const swarm = new Hyperswarm({
      dht,
      keyPair,
      maxPeers: 65_536,
      maxParallel: 64,
      backoffs: BACKOFFS_MS,
      jitter: 50,
      firewall: (publicKey, payload) => {
        if (payload !== null) this.#giveWay(encodeKey(publicKey))
        return false
      },
    })
    this.#swarm = swarm
    swarm.on('connection', (conn) => this.#onConnection(conn))
    swarm.on('update', () => this.#watchDials())
    this.directory.on('change', () => this.#reconcile())
    this.#background(swarm.listen(), 'listening')
    this.#background(
      dht.fullyBootstrapped().then(() => this.#announceAgain()),
      'announcing',
    )
    if (DOORS.has(this.#role)) {
      swarm.join(this.directory.core.discoveryKey, { server: true, client: false })
    }
    this.#reconcile()
    this.#greet(swarm)
    this.#lastTick = Date.now()
    this.#timer = setInterval(() => this.#tick(), CHECK_MS)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    clearInterval(this.#timer)
    clearTimeout(this.#reportTimer)
    const links = [...this.#links]
    for (const link of links) link.close(MeshError.SHUTTING_DOWN(`${this.#role} stops`))
    await Promise.all(links.map(({ gone }) => gone))
    // Politely first: that takes this worker's announcements out of the DHT, where they would mislead for minutes.
    const swarm = this.#swarm
    if (swarm !== undefined) {
      const leaveMs = LEAVE_MS[this.#options.profile.network.kind]
      // Nodes that stopped just before do not answer; the swarm waits for them whether forced or not, its node does not.
      await withDeadline(swarm.destroy(), leaveMs, 'Leaving the DHT').catch(() => swarm.dht.destroy({ force: true }))
    }
    await this.#bootstrap?.destroy({ force: true })
  }

  /** Addresses for the status file. */
  get addresses(): Record<string, string> {
    const found: Record<string, string> = {}
    if (this.#bootstrap) found.bootstrap = `${this.#bootstrap.host}:${this.#bootstrap.port}`
    // This machine's clients find the mesh through it while the authority, and the bootstrap node with it, is down.
    const port = this.#options.profile.network.kind === 'local' ? this.#dhtPort : 0
    if (port > 0) found.dht = `127.0.0.1:${port}`
    return found
  }

  /** UDP port of this worker's DHT node; 0 until it is bound. */
  get #dhtPort(): number {
    return this.#swarm?.dht.address()?.port ?? 0
  }

  /** True once the DHT has answered. */
  get online(): boolean {
    return this.#swarm?.dht.bootstrapped ?? false
  }

  /** The authority's link; throws where there is none. @throws MeshError AUTHORITY_DOWN */
  authority(): Link {
    const link = this.members.get(this.#options.profile.authority)
    if (link === undefined || link.suspect) {
      throw MeshError.AUTHORITY_DOWN(
        'The auth worker cannot be reached now; inference goes on, but nothing can be changed. Try again shortly',
        {
          retryAfterMs: 2000,
        },
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
    if (this.#stopping) return
    this.#reportTimer ??= setTimeout(() => {
      this.#reportTimer = undefined
      this.#reportLoad()
    }, REPORT_SPACING_MS)
  }

  /** Every member of the directory as this worker sees it, itself included. */
  views(): WorkerView[] {
    const own = this.#options.hello()
    return [...this.directory.members.values()].map((member) => {
      const { role, name, publicKey } = member
      const view: WorkerView = { role, name, publicKey, state: 'down' }
      if (publicKey === this.publicKey) {
        const load = this.#options.load()
        return { ...view, state: load.state, version: own.version, since: own.since, addresses: own.addresses, load }
      }
      const link = this.members.get(publicKey)
      if (link?.hello === undefined) {
        const reason = this.#reasons.get(publicKey)
        return reason ? { ...view, reason: reason.message } : view
      }
      const { version, since, addresses } = link.hello
      return {
        ...view,
        state: link.suspect ? 'suspect' : (link.load?.state ?? 'starting'),
        version,
        since,
        addresses,
        load: link.load,
      }
    })
  }

  #roleOf = (publicKey: string): Caller => {
    // The authority's key comes from the home's own profile: it is known before the directory is.
    if (publicKey === this.#options.profile.authority) return 'auth'
    return this.directory.member(publicKey)?.role ?? 'client'
  }

  #onConnection(conn: NoiseStream): void {
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
    acceptGenerations(link.mux, (request, sink) => this.#runGeneration(link, request, sink))
    this.emit('connected', link)
    link.on('hello', () => this.#admit(link))
    link.on('close', (reason) => this.#onLinkClosed(link, reason))
    link.on('garbage', () => this.#badFrames.inc())
    link.on('load', () => {
      if (this.members.get(link.publicKey) === link) this.emit('load', link)
    })
    link.on('suspect', () => {
      this.#options.log.warn({ peer: link.label }, 'a link is silent')
      this.emit('load', link)
    })
    this.#links.add(link)
    this.#dials.delete(link.publicKey)
    if (link.role === 'client') {
      if (!DOORS.has(this.#role)) {
        return link.close(
          MeshError.NOT_A_MEMBER(`This ${this.#role} accepts members of the mesh only, and ${link.publicKey} is none`),
        )
      }
      const clients = [...this.#links].filter(({ role }) => role === 'client').length
      if (clients > this.#options.config.maxClients) {
        return link.close(
          MeshError.BUSY(`${clients - 1} clients are connected; no more are taken`, { retryAfterMs: 5000 }),
        )
      }
    }
    // After our own channels, in the same tick. A member replicates the cores whose keys it was told; a client gets the
    // directory alone, because a removed member still has the keys of others.
    if (link.role === 'client') this.directory.core.replicate(conn)
    else this.#replicateAll(link)
  }

  /** Counts a peer that has said hello among the members, once the directory says that it is one. */
  #admit(link: Link): void {
    const { role, publicKey, hello } = link
    if (role === 'client' || hello === undefined || link.closed) return
    if (hello.role !== role) {
      return link.close(MeshError.REFUSED(`The directory says that this key is of the role ${role}, not ${hello.role}`))
    }
    const known = this.members.get(publicKey)
    if (known === link) return
    known?.close(MeshError.LINK_CLOSED('A newer connection took this one’s place'))
    this.members.set(publicKey, link)
    this.#replicateAll(link)
    this.#reasons.delete(publicKey)
    this.#lateDials.delete(publicKey)
    link.report(this.#options.load())
    this.#options.log.info({ peer: link.label, publicKey }, 'linked')
    this.#announceAgain()
    this.emit('link', link)
  }

  #onLinkClosed(link: Link, reason: MeshError): void {
    this.#links.delete(link)
    this.#closed.inc({ reason: reason.code })
    if (link.role !== 'client' || link.conn.isInitiator) this.#reasons.set(link.publicKey, reason)
    if (this.members.get(link.publicKey) !== link) {
      if (link.conn.isInitiator)
        this.#options.log.debug({ peer: link.label, reason: reason.message }, 'a link was not set up')
      if (link.publicKey === this.#options.profile.authority) this.emit('unlink', link, reason)
      return
    }
    this.members.delete(link.publicKey)
    if (!this.#stopping)
      this.#options.log.info({ peer: link.label, code: reason.code, reason: reason.message }, 'link closed')
    this.emit('unlink', link, reason)
  }

  #replicateAll(link: Link): void {
    if (this.#replicating.has(link)) return
    this.#replicating.add(link)
    this.#options.store.corestore.replicate(link.conn)
  }

  async #runGeneration(link: Link, request: GenerateRequest, sink: GenerationSink): Promise<void> {
    const { role, publicKey } = link
    if (this.#generation === undefined || !this.#generation.callers.includes(role)) {
      throw MeshError.FORBIDDEN(`A peer with the role ${role} may not ask this ${this.#role} for a generation`)
    }
    try {
      await this.#generation.handler(request, sink, { peer: publicKey, role })
    } catch (err) {
      const failure = MeshError.from(err)
      if (failure.code === 'INTERNAL')
        this.#options.log.error({ err, requestId: request.requestId }, 'a generation failed unexpectedly')
      throw failure
    }
  }

  /**
   * Announces this worker's key anew. HyperDHT looks after its announcements every three seconds; until then nobody would
   * find a worker that began before there was a node to keep them, or whose only keeper has just been restarted. A member
   * that has just linked is a sign of both.
   */
  #announceAgain(): void {
    const announcer = this.#swarm?.server._announcer
    if (announcer == null || this.#stopping) return
    announcer.refresh()
    announcer._sleeper.resume()
  }

  /** Makes dials and links fit the directory: dials whom it should, admits the newly known, cuts the removed. */
  #reconcile(): void {
    const swarm = this.#swarm
    if (swarm === undefined || this.#stopping) return
    const { authority } = this.#options.profile
    const wanted = new Set<string>()
    if (this.publicKey !== authority) wanted.add(authority)
    for (const role of DIALS[this.#role]) {
      for (const { publicKey } of this.directory.membersWithRole(role)) {
        // Of two gateways, or two metrics workers, one dials.
        if (role !== this.#role || publicKey > this.publicKey) wanted.add(publicKey)
      }
    }
    wanted.delete(this.publicKey)
    for (const publicKey of wanted) {
      if (this.#dialled.has(publicKey)) continue
      this.#dialled.add(publicKey)
      swarm.joinPeer(decodeKey(publicKey))
    }
    for (const publicKey of this.#dialled) {
      if (wanted.has(publicKey)) continue
      this.#dialled.delete(publicKey)
      swarm.leavePeer(decodeKey(publicKey))
    }
    this.#cutRemoved()
    for (const publicKey of this.#reasons.keys())
      if (this.#roleOf(publicKey) === 'client') this.#reasons.delete(publicKey)
    for (const link of this.#links) this.#admit(link)
  }

  /** Closes the links of members that were removed, or whose time is over. */
  #cutRemoved(): void {
    for (const [publicKey, link] of this.members) {
      if (this.#roleOf(publicKey) !== 'client') continue
      link.close(MeshError.NOT_A_MEMBER(`${link.label} is no longer a member of this mesh`))
    }
  }

  /**
   * Calls once, at the start, those who dial this worker: after a crash they may still hold the old link, and would
   * notice only by its silence.
   */
  #greet(swarm: Hyperswarm): void {
    for (const { role, publicKey } of this.directory.members.values()) {
      if (publicKey === this.publicKey || this.#dialled.has(publicKey) || !DIALS[role].includes(this.#role)) continue
      const key = decodeKey(publicKey)
      swarm.joinPeer(key)
      setTimeout(() => {
        if (!this.#dialled.has(publicKey)) swarm.leavePeer(key)
      }, GREET_MS).unref()
    }
  }

  /** Hyperswarm says nothing of dials that fail: look at those under way to learn why, and since when. */
  #watchDials(): void {
    for (const publicKey of this.#dialled) {
      const conn = this.#swarm?._allConnections.get(decodeKey(publicKey))
      if (
        conn === undefined ||
        this.#dials.get(publicKey)?.conn === conn ||
        [...this.#links].some((link) => link.conn === conn)
      )
        continue
      this.#dials.set(publicKey, { conn, since: Date.now() })
      conn.on('error', (err: Error) => {
        // An open connection's end is told by its link.
        if (this.#dials.get(publicKey)?.conn === conn) this.#onDialError(publicKey, err)
      })
      conn.on('close', () => {
        if (this.#dials.get(publicKey)?.conn === conn) this.#dials.delete(publicKey)
      })
    }
  }

  /**
   * A peer that calls while a dial to it hangs has come back elsewhere: the dial ends, or Hyperswarm might prefer it to
   * the call. Two that have just dialled each other are left to Hyperswarm.
   */
  #giveWay(publicKey: string): void {
    const dial = this.#dials.get(publicKey)
    if (dial !== undefined && Date.now() - dial.since > HANGING_MS) dial.conn.destroy()
  }

  #onDialError(publicKey: string, err: Error): void {
    if (this.members.has(publicKey) || this.#stopping) return
    const member = this.directory.member(publicKey)
    const peer = member
      ? `${member.role} ${member.name}`
      : publicKey === this.#options.profile.authority
        ? 'the authority'
        : publicKey
    const reason = this.online
      ? connectError(err, peer)
      : MeshError.DHT_UNREACHABLE(
          `No DHT node answers at ${this.#options.profile.network.bootstrap.join(', ') || 'the public bootstrap nodes'}`,
        )
    if (this.#reasons.get(publicKey)?.code !== reason.code) {
      this.#options.log.info({ peer, code: reason.code, reason: reason.message }, 'could not connect')
    }
    this.#reasons.set(publicKey, reason)
  }

  #tick(): void {
    const now = Date.now()
    // After a pause of this process itself (suspended laptop, SIGSTOP) the silence was ours: give the others one turn.
    const ownPauseMs = now - this.#lastTick - CHECK_MS
    this.#lastTick = now
    if (ownPauseMs > HEARTBEAT_MS) for (const link of this.#links) link.lastHeard += ownPauseMs
    if (now - this.#lastBeat >= HEARTBEAT_MS) {
      this.#lastBeat = now
      this.#reportLoad()
      this.#cutRemoved()
    }
    for (const link of this.#links) if (link.hello !== undefined || link.conn.isInitiator) link.check(now)
    const dialMs = DIAL_MS[this.#options.profile.network.kind]
    for (const [publicKey, { conn, since }] of this.#dials) {
      const late = this.#lateDials.get(publicKey) ?? 0
      if (conn.destroying || now - since <= dialMs * 2 ** late) continue
      // Twice the time at the next dial, and twice that: a machine under load may need it.
      this.#lateDials.set(publicKey, Math.min(late + 1, MAX_DOUBLINGS))
      conn.destroy(new Error(`no answer within ${dialMs * 2 ** late} ms`))
    }
  }

  #reportLoad(): void {
    const load = this.#options.load()
    for (const link of this.#links) if (link.hello !== undefined) link.report(load)
  }

  #background(work: Promise<unknown>, what: string): void {
    work.catch((err: unknown) => {
      if (!this.#stopping) this.#options.log.warn({ err }, `${what} failed`)
    })
  }

  #registerMetrics(registry: Registry): Counter<'reason'> {
    const links = new Gauge({
      name: 'infermesh_links',
      help: 'Links to other members and to clients.',
      labelNames: ['role', 'state'],
      registers: [registry],
      collect: () => {
        links.reset()
        for (const link of this.#links) links.inc({ role: link.role, state: link.suspect ? 'suspect' : 'open' })
      },
    })
    const rtt = new Gauge({
      name: 'infermesh_link_rtt_seconds',
      help: 'Last round-trip time of a heartbeat, the slowest link of each role.',
      labelNames: ['role'],
      registers: [registry],
      collect: () => {
        rtt.reset()
        const slowest = new Map<string, number>()
        for (const { role, rttMs } of this.members.values()) {
          if (rttMs !== undefined) slowest.set(role, Math.max(slowest.get(role) ?? 0, rttMs))
        }
        for (const [role, ms] of slowest) rtt.set({ role }, ms / 1000)
      },
    })
    return new Counter({
      name: 'infermesh_link_closed_total',
      help: 'Links that ended, by the code of the reason.',
      labelNames: ['reason'],
      registers: [registry],
    })
  }
}
