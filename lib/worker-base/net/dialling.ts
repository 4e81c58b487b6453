import { connectError } from '../../link/index.js'
import { decodeKey, MeshError, type MeshProfile, type Role } from '../../protocol/index.js'
import type { Directory } from '../../store/index.js'
import type { Logger } from '../log.js'

/** How long a dial may take: on one machine or LAN a dead peer is given up fast, so that its return is noticed within 2 s. */
const DIAL_MS = { local: 800, lan: 1000, private: 12_000, public: 12_000 } as const
const MAX_DOUBLINGS = 2
/** A dial that goes through takes a fraction of this on one machine or LAN. */
const HANGING_MS = 300
/** How long a worker that has just started calls those who dial it. */
const GREET_MS = 2000
/** How often the authority calls members that are not linked, where they were seen last: it may be where they do not look. */
const SEEK_MS = 4000

/** Which roles a worker dials. Everyone dials the authority. */
const DIALS: Record<Role, readonly Role[]> = {
  auth: [],
  gateway: ['auth', 'gateway', 'processor'],
  processor: ['auth'],
  metrics: ['auth', 'gateway', 'processor', 'metrics'],
}

/** A connection, be it one that is still being dialled. */
export interface Dial {
  readonly destroying: boolean
  destroy(err?: Error): void
  on(event: 'error', listener: (err: unknown) => void): unknown
  on(event: 'close', listener: () => void): unknown
}

/** What dialling needs of Hyperswarm, which dials again and again whom it was told to join. */
export interface Dialler {
  joinPeer(publicKey: Uint8Array): void
  leavePeer(publicKey: Uint8Array): void
  /** Every connection, those still being dialled included. */
  readonly _allConnections: { get(publicKey: Uint8Array): Dial | undefined }
}

export interface DiallingOptions {
  swarm: Dialler
  publicKey: string
  role: Role
  profile: MeshProfile
  directory: Pick<Directory, 'member' | 'members' | 'membersWithRole'>
  /** Whether a connection is open: then its errors are told by its link. */
  isOpen: (conn: Dial) => boolean
  /** Whether a peer is linked as a member. */
  isLinked: (publicKey: string) => boolean
  /** Whether it is known where a peer can be called without asking the DHT. */
  isPlaceKnown: (publicKey: string) => boolean
  /** Whether the DHT has answered. */
  isOnline: () => boolean
  log: Pick<Logger, 'info'>
  /** Milliseconds of a clock that never steps. */
  now: () => number
}

/** Whom this worker dials, the dials under way, and why there is no link where there should be one. */
export class Dialling {
  readonly #options: DiallingOptions
  readonly #wanted = new Set<string>()
  /** Dials under way, and when they began, by public key. */
  readonly #dials = new Map<string, { conn: Dial; since: number }>()
  /** How many dials in a row took too long, by public key. */
  readonly #lateDials = new Map<string, number>()
  /** Who is called once, at the start, and until when. */
  readonly #greeted = new Map<string, number>()
  readonly #reasons = new Map<string, MeshError>()
  #soughtAt = 0
  #stopped = false

  constructor(options: DiallingOptions) {
    this.#options = options
  }

  /** Why the last dial failed or the last link ended; undefined where nothing is known, or there is a link. */
  reasonFor(publicKey: string): MeshError | undefined {
    return this.#reasons.get(publicKey)
  }

  /** Makes the dials fit the directory. */
  reconcile(): void {
    const { swarm, directory, profile } = this.#options
    if (this.#stopped) return
    const wanted = this.#whomToDial()
    for (const publicKey of wanted) {
      if (this.#wanted.has(publicKey)) continue
      this.#wanted.add(publicKey)
      swarm.joinPeer(decodeKey(publicKey))
    }
    for (const publicKey of this.#wanted) {
      if (wanted.has(publicKey)) continue
      this.#wanted.delete(publicKey)
      swarm.leavePeer(decodeKey(publicKey))
    }
    for (const publicKey of this.#reasons.keys()) {
      if (publicKey !== profile.authority && directory.member(publicKey) === undefined) this.#reasons.delete(publicKey)
    }
  }

  /**
   * Calls once, at the start, those who dial this worker: after a crash they may still hold the old link, and would
   * notice only by its silence.
   */
  greet(): void {
    this.#soughtAt = this.#options.now()
    this.#call(() => true)
  }

  /** Somebody who knows where peers are has come back: dials at once, without waiting for the pause after a failure. */
  callAgain(): void {
    const { swarm, isLinked } = this.#options
    if (this.#stopped) return
    for (const publicKey of this.#wanted) if (!isLinked(publicKey)) swarm.joinPeer(decodeKey(publicKey))
  }

  /** Calls for a while, of those who dial this worker, whom the filter names. */
  #call(filter: (publicKey: string) => boolean): void {
    const { swarm, directory, publicKey: own, role: ownRole, now } = this.#options
    for (const { role, publicKey } of directory.members.values()) {
      if (publicKey === own || this.#wanted.has(publicKey) || !DIALS[role].includes(ownRole)) continue
      if (this.#greeted.has(publicKey) || !filter(publicKey)) continue
      this.#greeted.set(publicKey, now() + GREET_MS)
      swarm.joinPeer(decodeKey(publicKey))
    }
  }

  /** Hyperswarm says nothing of dials that fail: look at those under way to learn why, and since when. */
  watch(): void {
    const { swarm, isOpen, now } = this.#options
    for (const publicKey of this.#wanted) {
      const conn = swarm._allConnections.get(decodeKey(publicKey))
      if (conn === undefined || this.#isUnderWay(publicKey, conn) || isOpen(conn)) continue
      this.#dials.set(publicKey, { conn, since: now() })
      conn.on('error', (err) => {
        if (this.#isUnderWay(publicKey, conn)) this.#onError(publicKey, err)
      })
      conn.on('close', () => {
        if (this.#isUnderWay(publicKey, conn)) this.#dials.delete(publicKey)
      })
    }
  }

  /**
   * A peer that calls while a dial to it hangs has come back elsewhere: the dial ends, or Hyperswarm might prefer it to
   * the call. Two that have just dialled each other are left to Hyperswarm.
   */
  giveWay(publicKey: string): void {
    const dial = this.#dials.get(publicKey)
    if (dial !== undefined && this.#options.now() - dial.since > HANGING_MS) dial.conn.destroy()
  }

  /** The dial went through, or the peer called: its errors are the link's from here on. */
  connected(publicKey: string): void {
    this.#dials.delete(publicKey)
  }

  /** The peer is linked as a member. */
  linked(publicKey: string): void {
    this.#reasons.delete(publicKey)
    this.#lateDials.delete(publicKey)
  }

  /** The peer's link ended. */
  lost(publicKey: string, reason: MeshError): void {
    this.#reasons.set(publicKey, reason)
  }

  /** Call it often: ends the dials that take too long, and the greetings. */
  tick(): void {
    const { swarm, profile, role, isLinked, isPlaceKnown, now } = this.#options
    const dialMs = DIAL_MS[profile.network.kind]
    for (const [publicKey, { conn, since }] of this.#dials) {
      const late = this.#lateDials.get(publicKey) ?? 0
      if (conn.destroying || now() - since <= dialMs * 2 ** late) continue
      // Twice the time at the next dial, and twice that: a machine under load may need it.
      this.#lateDials.set(publicKey, Math.min(late + 1, MAX_DOUBLINGS))
      conn.destroy(new Error(`no answer within ${dialMs * 2 ** late} ms`))
    }
    if (role === 'auth' && now() - this.#soughtAt >= SEEK_MS) {
      this.#soughtAt = now()
      this.#call((publicKey) => !isLinked(publicKey) && isPlaceKnown(publicKey))
    }
    for (const [publicKey, until] of this.#greeted) {
      if (now() < until) continue
      this.#greeted.delete(publicKey)
      if (!this.#wanted.has(publicKey)) swarm.leavePeer(decodeKey(publicKey))
    }
  }

  stop(): void {
    this.#stopped = true
  }

  #whomToDial(): Set<string> {
    const { directory, publicKey: own, role: ownRole, profile } = this.#options
    const wanted = new Set([profile.authority])
    for (const role of DIALS[ownRole]) {
      for (const { publicKey } of directory.membersWithRole(role)) {
        // Of two gateways, or two metrics workers, one dials.
        if (role !== ownRole || publicKey > own) wanted.add(publicKey)
      }
    }
    wanted.delete(own)
    return wanted
  }

  #isUnderWay(publicKey: string, conn: Dial): boolean {
    return this.#dials.get(publicKey)?.conn === conn
  }

  #onError(publicKey: string, err: unknown): void {
    const { isLinked, isOnline, profile, log } = this.#options
    if (this.#stopped || isLinked(publicKey)) return
    const peer = this.#nameOf(publicKey)
    const reason = isOnline()
      ? connectError(err, peer)
      : MeshError.DHT_UNREACHABLE(
          `No DHT node answers at ${profile.network.bootstrap.join(', ') || 'the public bootstrap nodes'}`,
        )
    if (this.#reasons.get(publicKey)?.code !== reason.code) {
      log.info({ peer, code: reason.code, reason: reason.message }, 'could not connect')
    }
    this.#reasons.set(publicKey, reason)
  }

  #nameOf(publicKey: string): string {
    const { directory, profile } = this.#options
    const member = directory.member(publicKey)
    if (member !== undefined) return `${member.role} ${member.name}`
    return publicKey === profile.authority ? 'the authority' : publicKey
  }
}
