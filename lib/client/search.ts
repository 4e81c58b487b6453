import type DHT from 'hyperdht'
import { connectError } from '../link/index.js'
import { decodeKey, encodeKey, MeshError } from '../protocol/index.js'
import type { DirectoryCopy } from './directory.js'
import type { Settings } from './options.js'
import type { Peer } from './peer.js'
import { answers, unreachable } from './reach.js'

/** Dials under way at a time: enough that a dead gateway delays nobody, few enough not to load a large mesh. */
const PARALLEL_DIALS = 4
/** A connected peer that the directory does not list is dropped after this long: its own copy may be a little newer. */
const GRACE_MS = 750
/** A peer that could not be dialled may be tried again after this long. */
const REDIAL_MS = 250
/** How long other peers may show a newer directory before a gateway is taken, and after it while it is in use already. */
const CONFIRM_MS = 40
const FOLLOW_MS = 5000
const LOOKUP_MS = { first: 50, last: 500 } as const
/** Looking for anybody at all ends after this long: a wrong address should not cost the whole deadline. */
const NOBODY_MS = { local: 2500, lan: 2500, private: 10_000, public: 10_000 } as const
/** Where nobody is found after this long, it is asked whether the DHT is there at all. */
const PROBE_AFTER_MS = 500
const TICK_MS = 25

export interface SearchOptions {
  settings: Settings
  dht: DHT
  directory: DirectoryCopy
  dial: (publicKey: Buffer) => Peer
  /** Gateways that have just failed: tried after the others. */
  avoid: ReadonlySet<string>
  /** Begins at other nodes where no known one answers. @returns whether there are any */
  goElsewhere: () => Promise<boolean>
}

interface Candidate {
  publicKey: string
  /** Whether it was looked up or has answered; false for one that this home only remembers. */
  isFound: boolean
  peer?: Peer
  openedAt?: number
  failedAt?: number
}

/**
 * Looks for gateways that announce the mesh's address, dials several at a time, reads the directory from whoever has
 * it, and ends with the first connected peer that the directory lists as a gateway. Until then no peer is told
 * anything but which core is wanted.
 */
export class Search {
  readonly #options: SearchOptions
  readonly #candidates = new Map<string, Candidate>()
  readonly #strangers = new Set<string>()
  #startedAt = performance.now()
  #dialError: MeshError | undefined
  /** Gateways that speak another version, and what one of them said. */
  readonly #others = new Set<string>()
  #mismatch: MeshError | undefined
  /** False once the DHT's bootstrap nodes have been asked and none has answered. */
  #reachable: boolean | undefined
  #probing = false
  #isLookingElsewhere = false
  #foundAt: number | undefined
  #witness: Peer | undefined
  #resolve: (peer: Peer) => void = () => {}
  #reject: (err: MeshError) => void = () => {}
  #over = false

  constructor(options: SearchOptions) {
    this.#options = options
  }

  /** @throws MeshError DHT_UNREACHABLE, MESH_NOT_FOUND, UNTRUSTED_GATEWAY, VERSION_MISMATCH, or why no gateway could be dialled */
  async run(): Promise<Peer> {
    const { directory } = this.#options
    const onChange = () => this.#judge()
    const timer = setInterval(() => this.#tick(), TICK_MS)
    directory.view.on('change', onChange)
    try {
      return await new Promise<Peer>((resolve, reject) => {
        this.#resolve = resolve
        this.#reject = reject
        this.#addKnown()
        void this.#lookUp()
      })
    } finally {
      this.#over = true
      clearInterval(timer)
      directory.view.off('change', onChange)
    }
  }

  /** Gateways of this home, and of an earlier connection's directory, need not be looked up. */
  #addKnown(): void {
    for (const { role, publicKey } of this.#options.settings.nodes) if (role === 'gateway') this.#add(publicKey, false)
    for (const { publicKey } of this.#options.directory.view.membersWithRole('gateway')) this.#add(publicKey)
  }

  /** One lookup sees who announces at that moment: again and again, until a gateway is found. */
  async #lookUp(): Promise<void> {
    const { dht, directory } = this.#options
    let pauseMs: number = LOOKUP_MS.first
    while (!this.#over) {
      try {
        for await (const { peers } of dht.lookup(directory.view.core.discoveryKey)) {
          if (this.#over) return
          for (const { publicKey } of peers) this.#add(encodeKey(publicKey))
        }
      } catch {
        // A lookup that fails found nobody.
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      pauseMs = Math.min(pauseMs * 2, LOOKUP_MS.last)
    }
  }

  #add(publicKey: string, isFound = true): void {
    const { settings, dial } = this.#options
    // The authority announces the address too. It serves no requests, but its directory is the newest.
    if (publicKey === settings.authority) return
    const known = this.#candidates.get(publicKey)
    if (known !== undefined) {
      known.isFound ||= isFound
      return
    }
    this.#candidates.set(publicKey, { publicKey, isFound })
    if (settings.authority !== undefined) this.#witness ??= dial(decodeKey(settings.authority))
    this.#dialMore()
  }

  #dialMore(): void {
    const now = performance.now()
    const { avoid, directory } = this.#options
    const othersLeft = directory.view.membersWithRole('gateway').some(({ publicKey }) => !avoid.has(publicKey))
    const all = [...this.#candidates.values()]
    let free = PARALLEL_DIALS - all.filter(({ peer, openedAt }) => peer !== undefined && openedAt === undefined).length
    const waiting = all.filter(
      ({ peer, publicKey, failedAt }) =>
        peer === undefined &&
        !this.#strangers.has(publicKey) &&
        !this.#others.has(publicKey) &&
        (failedAt === undefined || now - failedAt > REDIAL_MS) &&
        (!avoid.has(publicKey) || !othersLeft || now - this.#startedAt > GRACE_MS),
    )
    // Spread clients over the gateways.
    for (const candidate of shuffle(waiting)) {
      if (free-- <= 0 || this.#over) return
      this.#dial(candidate)
    }
  }

  #dial(candidate: Candidate): void {
    const peer = this.#options.dial(decodeKey(candidate.publicKey))
    candidate.peer = peer
    peer.once('open', () => {
      candidate.isFound = true
      candidate.openedAt = performance.now()
      this.#judge()
      this.#dialMore()
    })
    peer.once('close', (reason) => {
      if (candidate.peer !== peer) return
      if (reason.code === 'VERSION_MISMATCH') {
        candidate.isFound = true
        this.#others.add(candidate.publicKey)
        this.#mismatch = reason
      }
      if (candidate.openedAt === undefined) this.#dialError = reason
      else if (!this.#options.directory.view.known) this.#dialError ??= reason
      candidate.peer = undefined
      candidate.openedAt = undefined
      candidate.failedAt = performance.now()
    })
  }

  /** Takes the first connected peer that the directory lists as a gateway. */
  #judge(): void {
    const found = this.#over ? undefined : this.#listedGateway()
    if (found === undefined) return
    // A gateway that was removed may show a directory from before its removal: the others are heard too, for a while.
    this.#foundAt ??= performance.now()
    const peers = this.#peers()
    const heardAll = peers.every((peer) => peer.opened) && this.#options.directory.heardFrom(peers.length)
    if (heardAll) void this.#takeAsOfNow()
    else if (performance.now() - this.#foundAt >= CONFIRM_MS) this.#take(found)
  }

  /** What came last may still be on its way from the core into the view. */
  async #takeAsOfNow(): Promise<void> {
    const { view } = this.#options.directory
    await view.refresh()
    // Judged again when more of it comes.
    if (!view.caughtUp) return
    const found = this.#over ? undefined : this.#listedGateway()
    if (found !== undefined) this.#take(found)
  }

  #take(gateway: Peer): void {
    this.#over = true
    // For a while longer they may tell that the gateway has been removed: the client watches the directory.
    setTimeout(() => this.#letGo(gateway), FOLLOW_MS).unref()
    this.#resolve(gateway)
  }

  #listedGateway(): Peer | undefined {
    return [...this.#candidates.values()].find(({ peer }) => peer?.opened === true && peer.role === 'gateway')?.peer
  }

  /** Everyone who is connected or being dialled. */
  #peers(): Peer[] {
    const peers = [...this.#candidates.values()].map(({ peer }) => peer)
    return [...peers, this.#witness].filter((peer) => peer !== undefined).filter((peer) => !peer.closed)
  }

  #letGo(keep?: Peer): void {
    for (const candidate of this.#candidates.values()) {
      const { peer } = candidate
      candidate.peer = undefined
      if (peer !== keep) peer?.close()
    }
    this.#witness?.close()
  }

  #tick(): void {
    if (this.#over) return
    this.#judge()
    this.#dropStrangers()
    this.#addKnown()
    this.#dialMore()
    if (this.#isLookingElsewhere) return
    const { timeoutMs, network } = this.#options.settings
    const nobody = this.#nobody
    if (nobody && !this.#probing && performance.now() - this.#startedAt >= PROBE_AFTER_MS) void this.#probe()
    const allowedMs = nobody ? Math.min(timeoutMs, NOBODY_MS[network.kind]) : timeoutMs
    const waitedMs = performance.now() - this.#startedAt
    const hopeless = waitedMs >= GRACE_MS && this.#onlyOtherVersions()
    if (waitedMs >= allowedMs || hopeless || (nobody && this.#reachable === false)) this.#giveUp()
  }

  /** Whether nobody was found: those that this home remembers may be long gone. */
  get #nobody(): boolean {
    return [...this.#candidates.values()].every(({ isFound }) => !isFound)
  }

  /** Whether every gateway there may be speaks another version. The authority answers for the address too. */
  #onlyOtherVersions(): boolean {
    const { directory } = this.#options
    const mayServe = [...this.#candidates.keys()].filter((publicKey) => directory.roleOf(publicKey) !== 'auth')
    return mayServe.length > 0 && mayServe.every((publicKey) => this.#others.has(publicKey))
  }

  #dropStrangers(): void {
    const { directory } = this.#options
    if (!directory.view.known) return
    const now = performance.now()
    for (const { peer, publicKey, openedAt } of this.#candidates.values()) {
      if (peer === undefined || openedAt === undefined || now - openedAt < GRACE_MS) continue
      if (directory.roleOf(publicKey) !== undefined) continue
      this.#strangers.add(publicKey)
      peer.close(MeshError.UNTRUSTED_GATEWAY(`The peer ${publicKey.slice(0, 8)} is not in the directory of this mesh`))
    }
  }

  async #probe(): Promise<void> {
    this.#probing = true
    const { dht, settings, goElsewhere } = this.#options
    this.#isLookingElsewhere = true
    if (await answers(dht, settings.bootstrap)) this.#reachable = true
    // From here on nobody has looked there yet.
    else if (!this.#over && (await goElsewhere())) this.#startedAt = performance.now()
    else this.#reachable = false
    this.#isLookingElsewhere = false
  }

  #giveUp(): void {
    if (this.#over) return
    this.#over = true
    const connected = [...this.#candidates.values()].filter(({ openedAt }) => openedAt !== undefined).length
    this.#letGo()
    void this.#reason(connected).then(this.#reject)
  }

  async #reason(connected: number): Promise<MeshError> {
    const { settings, directory } = this.#options
    const { address, network } = settings
    const details = { mesh: address, candidates: this.#candidates.size }
    if (this.#nobody) {
      if (this.#reachable === false) return unreachable(settings, details)
      return MeshError.MESH_NOT_FOUND(
        `Nobody announces the mesh ${address} on the ${network.kind} network: check the address, and that a gateway runs`,
        details,
      )
    }
    if (this.#mismatch !== undefined) return this.#mismatch
    const peers = directory.view.known ? this.#strangers.size : connected
    const unreadable = directory.view.unreadable.size
    const hint =
      unreadable === 0 ? '' : `. Of its entries this version of infermesh cannot read ${unreadable}: upgrade it here`
    if (peers > 0) {
      return MeshError.UNTRUSTED_GATEWAY(
        directory.view.known
          ? `Whoever answers for this address (${peers}) is no gateway in the directory of the mesh; nothing was sent to them${hint}`
          : `Whoever answers for this address (${peers}) cannot show the directory of the mesh; nothing was sent to them${hint}`,
        details,
      )
    }
    if (directory.view.known && directory.view.membersWithRole('gateway').length === 0) {
      return MeshError.PEER_NOT_FOUND(
        'The mesh has no gateway yet: start one with `infermesh up --role gateway`',
        details,
      )
    }
    return this.#dialError ?? connectError(undefined, 'The gateway')
  }
}

function shuffle<T>(items: T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
