import { randomBytes } from 'node:crypto'
import { MeshError, type ResponseOf, signToken, TOKEN_MS, type User } from '../../lib/protocol/index.js'
import { type Principal, passwordMark } from '../../lib/store/index.js'
import { originOf } from '../../lib/worker-base/index.js'
import type { HashLane, HashQueue } from './hash-queue.js'
import { hashPassword, verifyPassword } from './passwords.js'
import type { StoreWriter } from './store-writer.js'
import { Throttle } from './throttle.js'
import type { PasswordProof } from './users.js'

/** Several people may sit behind one address. */
const ADDRESS_FACTOR = 3
/** Places from which one user has logged in that are remembered. */
const MAX_PLACES = 8
/** For so long after a login its token proves that the password is known. */
const FRESH_MS = 5 * 60_000

export interface LoginsOptions {
  writer: StoreWriter
  queue: HashQueue
  /** The mesh's address, which a token names as its issuer. */
  mesh: string
  /** The seed of the authority's key pair. */
  seed: Uint8Array
  /** Wrong passwords for one name in one minute. */
  perMinute: number
  /** Milliseconds that only grow. */
  monotonic?: () => number
}

/**
 * Names and passwords, exchanged for tokens.
 *
 * Wrong passwords are counted for the address that they come from and for the name that they are tried with. All places
 * from which nobody ever logged in with the name share one count; each place from which somebody did has its own. So a
 * stranger who guesses, from however many addresses or with however many key pairs, runs out of guesses, and does not lock
 * out the one whose name it is.
 */
export class Logins {
  readonly #options: LoginsOptions
  readonly #names: Throttle
  readonly #addresses: Throttle
  /** The places that each user logged in from, the latest last. */
  readonly #places = new Map<string, string[]>()
  #nobody: Promise<string> | undefined

  constructor(options: LoginsOptions) {
    const { perMinute, monotonic } = options
    this.#options = options
    this.#names = new Throttle(perMinute, monotonic)
    this.#addresses = new Throttle(perMinute * ADDRESS_FACTOR, monotonic)
  }

  /**
   * @param address where the attempt comes from
   * @throws MeshError LOGIN_FAILED, RATE_LIMITED, BUSY
   */
  async login(name: string, password: string, address: string, signal?: AbortSignal): Promise<ResponseOf<'login'>> {
    const { writer } = this.#options
    const place = originOf(address)
    const isKnown = this.#places.get(name)?.includes(place) === true
    const user = await this.#verified(name, password, place, isKnown ? 'known' : 'login', signal)
    if (user === undefined) throw MeshError.LOGIN_FAILED('No user has this name and password')
    this.#remember(name, place)
    return writer.change((draft) => {
      // What was true before the password was checked may have changed since.
      const { passwordHash, role } = writer.accounts.users.get(name) ?? {}
      if (passwordHash === undefined || passwordHash !== user.passwordHash || role === undefined) {
        throw MeshError.LOGIN_FAILED('No user has this name and password')
      }
      const issuedAt = Math.floor(writer.now() / 1000)
      const claims = {
        iss: this.#options.mesh,
        sub: name,
        role,
        iat: issuedAt,
        exp: issuedAt + TOKEN_MS / 1000,
        jti: randomBytes(12).toString('base64url'),
        pwd: passwordMark(passwordHash),
      }
      draft.audit(name, 'user.login', name, { token: claims.jti, address })
      return { token: signToken(claims, this.#options.seed), expiresAt: claims.exp * 1000, user: name, role }
    }, signal)
  }

  /** Whoever has the name next is not known where the one before logged in. */
  forget(name: string): void {
    this.#places.delete(name)
  }

  /**
   * Whether somebody may give itself a new password: it knows the old one, or has just logged in with it.
   * @throws MeshError FORBIDDEN where neither is shown, LOGIN_FAILED for another than the old one, RATE_LIMITED, BUSY
   */
  async prove(principal: Principal, oldPassword: string | undefined, signal?: AbortSignal): Promise<PasswordProof> {
    const { user: name, keyId, scopes, loggedInAt } = principal
    const { writer } = this.#options
    const passwordHash = writer.accounts.users.get(name)?.passwordHash
    if (oldPassword !== undefined) {
      // Whoever has a key of the user may guess no faster than a stranger.
      const user = await this.#verified(name, oldPassword, `key ${keyId}`, 'change', signal)
      if (user === undefined) throw MeshError.LOGIN_FAILED('This is not the old password', { param: 'oldPassword' })
      return { by: 'old password', passwordHash: user.passwordHash }
    }
    if (loggedInAt !== undefined && writer.now() - loggedInAt < FRESH_MS) return { by: 'login', passwordHash }
    if (passwordHash === undefined && scopes.includes('admin')) return { by: 'admin', passwordHash }
    if (passwordHash === undefined)
      throw MeshError.FORBIDDEN(`${name} has no password yet: an admin sets the first one`)
    throw MeshError.FORBIDDEN(
      'A new password wants the old one, as oldPassword, or a token from a login of the last five minutes',
      { param: 'oldPassword' },
    )
  }

  /**
   * The user that a name and password belong to. An unknown name costs as much time as a wrong password, so that names
   * cannot be tried out.
   */
  async #verified(
    name: string,
    password: string,
    place: string,
    lane: HashLane,
    signal: AbortSignal | undefined,
  ): Promise<User | undefined> {
    const counted = lane === 'known' ? `${name} ${place}` : name
    this.#names.check(counted, 'logins with this name')
    this.#addresses.check(place, 'wrong passwords from this address')
    // Counted before the password is checked: attempts that run side by side count as well.
    this.#names.count(counted)
    this.#addresses.count(place)
    let isWrong = false
    try {
      const user = this.#options.writer.accounts.users.get(name)
      const isRight = await this.#options.queue.run(lane, name, () => this.#matches(password, user), signal)
      isWrong = !isRight
      return isRight ? user : undefined
    } finally {
      // Also right ones count where the place is known: each leaves an entry in the audit trail.
      if (!isWrong && lane !== 'known') {
        this.#names.refund(counted)
        this.#addresses.refund(place)
      }
    }
  }

  async #matches(password: string, user: User | undefined): Promise<boolean> {
    this.#nobody ??= hashPassword(randomBytes(16).toString('hex'))
    return verifyPassword(password, user?.passwordHash ?? (await this.#nobody))
  }

  #remember(name: string, place: string): void {
    const others = (this.#places.get(name) ?? []).filter((one) => one !== place)
    this.#places.set(name, [...others, place].slice(-MAX_PLACES))
  }
}
