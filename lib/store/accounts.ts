import { createHash } from 'node:crypto'
import {
  type Access,
  type ApiKey,
  apiKeySchema,
  isToken,
  type Limits,
  loginKeyId,
  loginUserOf,
  MeshError,
  noApiKey,
  parseApiKey,
  type Scope,
  scopesOf,
  secretMatches,
  TOKEN_MS,
  type TokenVerifier,
  type User,
  type UserRole,
  userSchema,
} from '../protocol/index.js'
import { applyTo, BeeView } from './bee-view.js'

/** Who a valid API key or token speaks for. */
export interface Principal {
  /** For a token `login:` and the user's name: what it uses is counted under that. */
  keyId: string
  user: string
  role: UserRole
  /** What the credential may be used for. */
  scopes: readonly Scope[]
  /** All of them hold: the key's own, those of the keys that it was made with (the nearest first), and the user's. */
  limits: { key: Limits; parents: readonly KeyLimits[]; user: Limits }
  /** When the token, the key or one that it was made with ends, in milliseconds since the epoch; absent: not by itself. */
  expiresAt?: number
  /** When the password was given that a token stands for, in milliseconds since the epoch; absent for keys. */
  loggedInAt?: number
}

/** The limits of one key. */
export interface KeyLimits {
  keyId: string
  limits: Limits
}

/** How many keys may stand above a key, each made with the next. */
export const MAX_PARENTS = 4

/** How far the authority's clock may be from a gateway's. */
const CLOCK_SKEW_MS = 5 * 60_000

/**
 * For so long after a user's removal its name is nobody's. A gateway that has not heard of the removal takes the user's
 * tokens until they end, and its clock, too, may be off. So what it keeps of them is always older than `ownedFrom` says of
 * the next user of that name.
 */
export const NAME_RESTS_MS = TOKEN_MS + 2 * CLOCK_SKEW_MS

/**
 * Whether a credential may be used for this.
 * @param what what is asked for, for the message
 * @throws MeshError FORBIDDEN
 */
export function mustHaveScope(
  { keyId, user, role, scopes }: Principal,
  wanted: Exclude<Access, 'none'>,
  what: string,
): void {
  if (wanted === 'key' || scopes.includes(wanted)) return
  if (wanted === 'admin' && role !== 'admin') {
    throw MeshError.FORBIDDEN(`${what} is for admins; the key ${keyId} belongs to ${user}, who is no admin`, {
      scope: wanted,
    })
  }
  const whose = loginUserOf(keyId) === undefined ? `the key im_${keyId}_…` : `the token of ${user}`
  throw MeshError.FORBIDDEN(
    `${what} wants the scope ${wanted}; ${whose} has ${scopes.join(', ') || 'none'}. An admin makes one that has it: infermesh keys create --scope ${wanted}`,
    { scope: wanted },
  )
}

/** A field of a later version may narrow what a user or a key may do: an entry that has one is not read. */
const userEntrySchema = userSchema.strict()
const apiKeyEntrySchema = apiKeySchema.strict()

/** Keys of the accounts' entries. */
export const accountKeys = {
  user: (name: string) => `user/${name}`,
  apiKey: (id: string) => `key/${id}`,
  invite: (id: string) => `invite/${id}`,
  /** Padded, so that the bee's order is the order of time. */
  audit: (seq: number) => `audit/${String(seq).padStart(12, '0')}`,
}

/** The accounts as the authority and the gateways read them: users and keys held in memory, so that a check takes microseconds. */
export class Accounts extends BeeView {
  override readonly store = 'accounts'
  readonly users = new Map<string, User>()
  readonly keys = new Map<string, ApiKey>()

  protected override clear(): void {
    for (const map of [this.users, this.keys]) map.clear()
  }

  protected override apply(kind: string, id: string, value: Buffer | undefined): void {
    if (kind === 'user') applyTo(this.users, id, value, userEntrySchema, ({ name }) => name)
    else if (kind === 'key') applyTo(this.keys, id, value, apiKeyEntrySchema, (key) => key.id)
    // Other kinds are the authority's, or belong to later versions.
  }

  /** Checks tokens; without it none is accepted. */
  tokens: TokenVerifier | undefined

  /**
   * Checks an API key or a token.
   * @throws MeshError INVALID_API_KEY
   */
  authenticate(text: string, now = Date.now()): Principal {
    return isToken(text) ? this.#authenticateToken(text, now) : this.#authenticateKey(text, now)
  }

  /** The role and the limits are the user's as they are now, whatever they were at login. */
  #authenticateToken(text: string, now: number): Principal {
    if (this.tokens === undefined) throw MeshError.INVALID_API_KEY('Tokens are not accepted here: use an API key')
    const { sub, pwd, iat, exp } = this.tokens.verify(text, now)
    const user = this.#user(sub, `this token, ${sub},`)
    if (user.passwordHash === undefined || passwordMark(user.passwordHash) !== pwd) {
      throw MeshError.INVALID_API_KEY(`The password of ${sub} was changed. Log in again`)
    }
    return {
      keyId: loginKeyId(user.name),
      user: user.name,
      role: user.role,
      scopes: scopesOf(user.role),
      limits: { key: {}, parents: [], user: user.limits },
      expiresAt: exp * 1000,
      loggedInAt: iat * 1000,
    }
  }

  /**
   * Checks an API key.
   * @throws MeshError INVALID_API_KEY: malformed, unknown, wrong, revoked or expired
   */
  #authenticateKey(text: string, now: number): Principal {
    const parts = parseApiKey(text)
    if (parts === undefined) throw noApiKey(text)
    const key = this.keys.get(parts.id)
    if (this.unreadable.has(accountKeys.apiKey(parts.id))) throw unreadable(`The API key im_${parts.id}_…`)
    // An unknown id and a wrong secret read the same, so that ids cannot be tried out.
    if (key === undefined || !secretMatches(parts.secret, key.secretHash)) {
      throw MeshError.INVALID_API_KEY(`The API key im_${parts.id}_… is not known to this mesh`)
    }
    const [, ...parents] = this.lineOf(key, now)
    const user = this.#user(key.user, `the API key im_${key.id}_…`)
    const { name, role } = user
    const ends = [key, ...parents].flatMap(({ expiresAt }) => expiresAt ?? [])
    return {
      keyId: key.id,
      user: name,
      role,
      scopes: parents.reduce(
        (scopes, parent) => common(scopes, scopesOf(role, parent.scopes)),
        scopesOf(role, key.scopes),
      ),
      limits: {
        key: key.limits,
        parents: parents.map(({ id, limits }) => ({ keyId: id, limits })),
        user: user.limits,
      },
      ...(ends.length > 0 && { expiresAt: Math.min(...ends) }),
    }
  }

  /**
   * A key and the keys above it, the nearest first: it was made with the next, and that with the one after it.
   * @throws MeshError INVALID_API_KEY where one of them is not in force: what a key made dies with it
   */
  lineOf(key: ApiKey, now = Date.now()): [ApiKey, ...ApiKey[]] {
    const parents: ApiKey[] = []
    for (let { parent: id } = key; id !== undefined; ) {
      const parent = this.keys.get(id)
      if (this.unreadable.has(accountKeys.apiKey(id)))
        throw unreadable(`${shown(id)}, with which ${shown(key.id)} was made,`)
      if (parent?.user !== key.user || parents.length === MAX_PARENTS) {
        throw MeshError.INVALID_API_KEY(
          `The API key ${shown(key.id)} was made with ${shown(id)}, which is not there any more`,
        )
      }
      parents.push(parent)
      id = parent.parent
    }
    for (const parent of parents.toReversed())
      mustBeInForce(parent, now, `${shown(key.id)} was made with the API key ${shown(parent.id)}, which`)
    mustBeInForce(key, now, shown(key.id))
    return [key, ...parents]
  }

  /**
   * From when on what was made with a key may still belong to somebody, in milliseconds since the epoch: Infinity where the
   * key, one above it or the user is gone for good. A key that only expired may be given a later end, and one whose entry
   * cannot be read may be readable to a later version.
   */
  ownedFrom(keyId: string, user: string): number {
    const owner = this.users.get(user)
    if (owner === undefined) return this.unreadable.has(accountKeys.user(user)) ? 0 : Number.POSITIVE_INFINITY
    // Tokens carry the user's name: what another user of that name made is not this one's. This one's gateway may be slow
    // by the allowed skew; the other was removed long before, see `NAME_RESTS_MS`.
    if (loginUserOf(keyId) !== undefined) return owner.createdAt - CLOCK_SKEW_MS
    for (let id: string | undefined = keyId, above = 0; id !== undefined && above <= MAX_PARENTS; above++) {
      if (this.unreadable.has(accountKeys.apiKey(id))) return 0
      const key = this.keys.get(id)
      if (key === undefined || key.user !== user || key.revokedAt !== undefined) return Number.POSITIVE_INFINITY
      id = key.parent
    }
    return 0
  }

  /** @throws MeshError INVALID_API_KEY: removed, or not readable */
  #user(name: string, whose: string): User {
    const user = this.users.get(name)
    if (user !== undefined) return user
    if (this.unreadable.has(accountKeys.user(name))) throw unreadable(`The user of ${whose}`)
    throw MeshError.INVALID_API_KEY(`The user of ${whose} was removed`)
  }
}

function shown(keyId: string): string {
  return `im_${keyId}_…`
}

function common(some: readonly Scope[], others: readonly Scope[]): readonly Scope[] {
  return some.filter((scope) => others.includes(scope))
}

/** @throws MeshError INVALID_API_KEY */
function mustBeInForce({ revokedAt, expiresAt }: ApiKey, now: number, who: string): void {
  if (revokedAt !== undefined) throw MeshError.INVALID_API_KEY(`The API key ${who} was revoked`)
  if (expiresAt !== undefined && expiresAt <= now) {
    throw MeshError.INVALID_API_KEY(`The API key ${who} expired at ${new Date(expiresAt).toISOString()}`)
  }
}

/** Why nobody has rights by an entry that this version does not understand. */
function unreadable(what: string): MeshError {
  return MeshError.INVALID_API_KEY(
    `${what} cannot be checked: its entry in the accounts was written by a later version of infermesh, or is damaged. Upgrade this worker; its log says more`,
    { reason: 'unreadable' },
  )
}

/** What stands for a password in a token: tells nothing of it, and changes with it. */
export function passwordMark(passwordHash: string): string {
  return createHash('sha256').update(passwordHash).digest('base64url').slice(0, 16)
}
