import { randomBytes } from 'node:crypto'
import { MeshError, type ResponseOf, signToken, TOKEN_MS, type User } from '../../lib/protocol/index.js'
import { passwordMark } from '../../lib/store/index.js'
import { hashPassword, verifyPassword } from './passwords.js'
import type { StoreWriter } from './store-writer.js'
import { Throttle } from './throttle.js'

/** Several people may sit behind one address. */
const ADDRESS_FACTOR = 3
/** Passwords are checked one at a time, each for about a tenth of a second: no more than this many wait. */
const MAX_WAITING = 16

export interface LoginsOptions {
  writer: StoreWriter
  /** The mesh's address, which a token names as its issuer. */
  mesh: string
  /** The seed of the authority's key pair. */
  seed: Uint8Array
  /** Attempts with one name in one minute. */
  perMinute: number
}

/** Names and passwords, exchanged for tokens. */
export class Logins {
  readonly #options: LoginsOptions
  readonly #names: Throttle
  readonly #addresses: Throttle
  #waiting = 0
  #nobody: Promise<string> | undefined

  constructor(options: LoginsOptions) {
    const { perMinute } = options
    this.#options = options
    this.#names = new Throttle(perMinute)
    this.#addresses = new Throttle(perMinute * ADDRESS_FACTOR)
  }

  /**
   * @param address where the attempt comes from
   * @throws MeshError LOGIN_FAILED, RATE_LIMITED
   */
  async login(name: string, password: string, address: string, signal?: AbortSignal): Promise<ResponseOf<'login'>> {
    // Counted before the password is checked: attempts that run side by side count as well.
    this.#names.check(name, 'logins with this name')
    this.#addresses.check(address, 'logins from this address')
    if (this.#waiting >= MAX_WAITING) {
      throw MeshError.RATE_LIMITED('Too many people log in right now. Try again shortly', { retryAfterMs: 2000 })
    }
    this.#names.count(name)
    this.#addresses.count(address)
    const { writer } = this.#options
    const user = await this.#verified(name, password)
    if (user === undefined) throw MeshError.LOGIN_FAILED('No user has this name and password')
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

  /** An unknown name costs as much time as a wrong password, so that names cannot be tried out. */
  async #verified(name: string, password: string): Promise<User | undefined> {
    this.#waiting++
    try {
      this.#nobody ??= hashPassword(randomBytes(16).toString('hex'))
      const user = this.#options.writer.accounts.users.get(name)
      const isRight = await verifyPassword(password, user?.passwordHash ?? (await this.#nobody))
      return isRight ? user : undefined
    } finally {
      this.#waiting--
    }
  }
}
