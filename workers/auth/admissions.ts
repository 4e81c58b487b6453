import {
  type Admission,
  admissionCode,
  commitmentTo,
  type Member,
  MeshError,
  newNonce,
  type Page,
  type PageRequest,
  pageOf,
  type RequestOf,
  type ResponseOf,
  readCode,
} from '../../lib/protocol/index.js'
import { originOf } from '../../lib/worker-base/index.js'
import type { Actor } from './actor.js'
import type { Members } from './members.js'
import { nearby } from './nearby.js'
import { Throttle } from './throttle.js'

/** Requests that wait at a time, and of those from one address. */
const MAX_REQUESTS = 32
const MAX_PER_ADDRESS = 4
/** How often anybody, and how often one address, may ask in a minute: each time is a chance to hit another's code. */
const ASKS_PER_MINUTE = 30
const ASKS_PER_ADDRESS = 6
/** How long a person has to say yes. */
const OPEN_MS = 10 * 60_000
/** An applicant that has not asked how it stands for so long has gone away. */
const SILENT_MS = 15_000
const RETRY_MS = 60_000

interface Request {
  publicKey: string
  role: Admission['role']
  name: string
  address: string
  /** By the clock that only grows. */
  since: number
  heardAt: number
  /** Milliseconds since the epoch, for people. */
  askedAt: number
  commitment: string
  nonce: string
  /** Once the applicant has shown what it committed to: until then nobody sees the request. */
  code?: string
  refused?: boolean
}

export interface AdmissionsOptions {
  /** False: this mesh takes no requests. */
  isOpen: () => boolean
  members: Pick<Members, 'admit' | 'noteRefusal' | 'get' | 'mustBeFree'>
  /** Public key of the authority. */
  authority: string
  /** Milliseconds since the epoch, and of a clock that never steps. */
  now: () => number
  elapsed?: () => number
}

/**
 * The machines that ask to join without an invite, until a person says yes or no. They are kept in memory only: whoever is
 * not answered before the authority restarts asks again.
 */
export class Admissions {
  readonly #options: AdmissionsOptions
  readonly #elapsed: () => number
  /** By public key: each has one. */
  readonly #requests = new Map<string, Request>()
  readonly #asks: Throttle
  readonly #asksFrom: Throttle

  constructor(options: AdmissionsOptions) {
    this.#options = options
    this.#elapsed = options.elapsed ?? (() => performance.now())
    this.#asks = new Throttle(ASKS_PER_MINUTE, this.#elapsed)
    this.#asksFrom = new Throttle(ASKS_PER_ADDRESS, this.#elapsed)
  }

  /**
   * Takes a request of the peer, in place of one that it had.
   * @throws MeshError FORBIDDEN where requests are not taken, CONFLICT for a name that is taken, RATE_LIMITED, BUSY
   */
  ask(peer: string, address: string, { commitment, role, name }: RequestOf<'admission.ask'>) {
    const { isOpen, members, now } = this.#options
    if (!isOpen()) {
      throw MeshError.FORBIDDEN('This mesh takes no requests to join: ask for an invite (`infermesh invite`)')
    }
    if (role === 'auth') throw MeshError.BAD_REQUEST('admission.ask: a mesh has one authority', { param: 'role' })
    const origin = originOf(address)
    // First: an address that asks too often must not use up the turns of all.
    this.#asksFrom.take(origin, 'requests to join from one address')
    this.#asks.take('all', 'requests to join')
    if (members.get(peer) === undefined) members.mustBeFree(role, name)
    this.#prune()
    this.#requests.delete(peer)
    const fromThere = [...this.#requests.values()].filter((other) => originOf(other.address) === origin).length
    if (fromThere >= MAX_PER_ADDRESS || this.#requests.size >= MAX_REQUESTS) {
      throw MeshError.BUSY('Too many machines ask to join: an admin says yes or no with `infermesh members requests`', {
        retryAfterMs: RETRY_MS,
      })
    }
    const since = this.#elapsed()
    const request: Request = {
      ...{ publicKey: peer, role, name, address, commitment },
      ...{ since, heardAt: since, askedAt: now(), nonce: newNonce() },
    }
    this.#requests.set(peer, request)
    return { nonce: request.nonce, expiresAt: request.askedAt + OPEN_MS }
  }

  /**
   * How a peer's request stands.
   * @throws MeshError NOT_FOUND where there is none any more, BAD_REQUEST where this is not what it committed to
   */
  wait(peer: string, { nonce }: RequestOf<'admission.wait'>): ResponseOf<'admission.wait'> {
    const member = this.#options.members.get(peer)
    if (member !== undefined) {
      this.#requests.delete(peer)
      return { state: 'accepted', member }
    }
    this.#prune()
    const request = this.#requests.get(peer)
    if (request === undefined) {
      throw MeshError.NOT_FOUND('No request of this machine waits any more: run `infermesh join` again')
    }
    if (request.refused) return { state: 'refused' }
    if (commitmentTo(nonce, peer) !== request.commitment) {
      this.#requests.delete(peer)
      throw MeshError.BAD_REQUEST('admission.wait: this is not what the request committed to', { param: 'nonce' })
    }
    request.heardAt = this.#elapsed()
    request.code ??= admissionCode({
      authority: this.#options.authority,
      applicant: peer,
      authorityNonce: request.nonce,
      applicantNonce: nonce,
    })
    return { state: 'pending' }
  }

  withdraw(peer: string): void {
    this.#requests.delete(peer)
  }

  /** Oldest first. */
  list(page: PageRequest): Page<Admission> {
    return pageOf(this.#shown(), ({ askedAt, publicKey }) => `${String(askedAt).padStart(16, '0')} ${publicKey}`, page)
  }

  /**
   * Makes the applicant a member.
   * @throws MeshError NOT_FOUND, CONFLICT where several have the name, or it was taken meanwhile
   */
  async accept(by: Actor, { request, trust }: RequestOf<'admission.accept'>, signal?: AbortSignal): Promise<Member> {
    const { publicKey, role, name, address, code } = this.#find(request)
    if (trust === 'guest' && role !== 'processor') {
      throw MeshError.BAD_REQUEST(`admission.accept: a ${role} sees the whole mesh: only a processor can be a guest`, {
        param: 'trust',
      })
    }
    return this.#options.members.admit(by, { publicKey, role, name, trust }, { address, code }, signal)
  }

  /** @throws MeshError NOT_FOUND, CONFLICT where several have the name */
  async refuse(by: Actor, { request }: RequestOf<'admission.refuse'>, signal?: AbortSignal): Promise<Admission> {
    const found = this.#find(request)
    await this.#options.members.noteRefusal(by, found, signal)
    const kept = this.#requests.get(found.publicKey)
    if (kept?.code === found.code) kept.refused = true
    return found
  }

  #find(given: string): Admission {
    const code = readCode(given)
    const requests = this.#shown()
    const found = requests.filter((one) => one.code === code || one.name === given || label(one) === given)
    const [first] = found
    if (first !== undefined && found.length === 1) return first
    if (first !== undefined) {
      const codes = found.map((one) => one.code)
      throw MeshError.CONFLICT(
        `${found.length} machines ask for the name ${given}: say which by its code, ${codes.join(' or ')}`,
      )
    }
    const known = nearby(
      given,
      requests.flatMap((one) => [one.code, one.name]),
    )
    throw MeshError.NOT_FOUND(`No machine asks to join with the code or name ${given.slice(0, 64)}. ${known}`, {
      param: 'request',
    })
  }

  #shown(): Admission[] {
    this.#prune()
    return [...this.#requests.values()].flatMap(({ publicKey, role, name, address, askedAt, code, refused }) =>
      code === undefined || refused || this.#options.members.get(publicKey) !== undefined
        ? []
        : [{ code, publicKey, role, name, address, askedAt, expiresAt: askedAt + OPEN_MS }],
    )
  }

  #prune(): void {
    const now = this.#elapsed()
    for (const [peer, { since, heardAt }] of this.#requests) {
      if (now - since >= OPEN_MS || now - heardAt >= SILENT_MS) this.#requests.delete(peer)
    }
  }
}

function label({ role, name }: Pick<Admission, 'role' | 'name'>): string {
  return `${role}/${name}`
}
