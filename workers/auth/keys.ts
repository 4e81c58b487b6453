import {
  type ApiKey,
  type ApiKeyInfo,
  hashSecret,
  MeshError,
  type newApiKey,
  newestFirst,
  type Page,
  type PageRequest,
  pageOf,
  type RequestOf,
  type Scope,
  scopesOf,
} from '../../lib/protocol/index.js'
import { type Accounts, accountKeys, MAX_PARENTS } from '../../lib/store/index.js'
import { type Actor, isAdmin, mustBeSelfOrAdmin } from './actor.js'
import { forgettable, hasAdminKey, isLive, isOwn, madeWith } from './key-families.js'
import { askedWithin, widerThan } from './limits.js'
import { nearby } from './nearby.js'
import type { Draft, StoreWriter } from './store-writer.js'

/** A key's entry and, this once, its text. */
export interface NewKey {
  entry: ApiKey
  text: string
}

type Wanted = Pick<RequestOf<'keys.create'>, 'label' | 'scopes' | 'limits' | 'expiresAt'>

export interface KeysOptions {
  writer: StoreWriter
  /** Where a key's randomness comes from. */
  newKey: typeof newApiKey
  /** Keys that one user may have at a time. */
  perUser: number
}

/** API keys: made, listed, changed, revoked. */
export class Keys {
  readonly #writer: StoreWriter
  readonly #newKey: typeof newApiKey
  readonly #perUser: number

  constructor({ writer, newKey, perUser }: KeysOptions) {
    this.#writer = writer
    this.#newKey = newKey
    this.#perUser = perUser
  }

  get #accounts(): Accounts {
    return this.#writer.accounts
  }

  /**
   * Makes a key. One that is made with a key, for its own user, lies within that key and dies with it, unless an admin
   * wants it to stand alone.
   * @throws MeshError BAD_REQUEST, FORBIDDEN, NOT_FOUND, QUOTA_EXCEEDED
   */
  create(by: Actor, request: RequestOf<'keys.create'>, signal?: AbortSignal): Promise<NewKey> {
    const user = request.user ?? by.user
    return this.#writer.change((draft) => {
      mustBeSelfOrAdmin(by, user, 'make keys')
      const { users } = this.#accounts
      if (!users.has(user)) {
        throw MeshError.NOT_FOUND(`No user is named ${user}. ${nearby(user, users.keys())}`, { param: 'user' })
      }
      if (request.alone && !isAdmin(by)) {
        throw MeshError.FORBIDDEN('alone: only what has the scope admin, or a login, makes a key that stands alone', {
          param: 'alone',
        })
      }
      const maker = user === by.user && !request.alone ? by.keyId : undefined
      const line = maker === undefined ? [] : this.#lineOf(maker)
      this.#mustFitRole(user, request.scopes)
      mustHaveAll(by, request.scopes)
      mustLieWithin(request, line)
      const ends = line.flatMap(({ expiresAt }) => expiresAt ?? [])
      const expiresAt = request.expiresAt ?? (ends.length > 0 ? Math.min(...ends) : undefined)
      return this.draftNew(draft, by, { ...request, user, expiresAt, parent: line[0]?.id })
    }, signal)
  }

  /** Adds a new key to a change. @throws MeshError BAD_REQUEST, QUOTA_EXCEEDED */
  draftNew(draft: Draft, by: Actor, request: Wanted & { user: string; parent?: string | undefined }): NewKey {
    const { user, parent, label, scopes, limits, expiresAt } = request
    const now = this.#writer.now()
    mustBeAhead(expiresAt, now)
    if (this.live(user).length >= this.#perUser) {
      throw MeshError.QUOTA_EXCEEDED(
        `${user} has ${this.#perUser} API keys, as many as one user may have. Revoke one that is not used; the bound is the setting auth.keysPerUser`,
      )
    }
    for (const { id } of forgettable(this.#accounts, user, now)) draft.account(accountKeys.apiKey(id), undefined)
    const { id, secret, text } = this.#newKey()
    const secretHash = hashSecret(secret)
    const entry: ApiKey = { id, user, label, secretHash, scopes, parent, limits, createdAt: now, expiresAt }
    draft.account(accountKeys.apiKey(id), entry)
    draft.audit(by.user, 'key.create', id, { user, label, scopes, parent, expiresAt, limits })
    return { entry, text }
  }

  /** Own keys; for an admin everyone's. Newest first. */
  list(by: Actor, { user, id, ...page }: PageRequest & { user?: string; id?: string }): Page<ApiKey> {
    const found = this.#own(by).filter((key) => (user ?? key.user) === key.user && (id ?? key.id) === key.id)
    return pageOf(found, newestFirst, page)
  }

  /** Whether a key is one's own, or for an admin there at all. */
  has(by: Actor, id: string): boolean {
    const key = this.#accounts.keys.get(id)
    return key !== undefined && isOwn(this.#accounts, by, key)
  }

  /**
   * Revokes a key and all that were made with it; one that is revoked already stays as it is.
   * @param given the key's id, with or without `im_` and the secret
   * @throws MeshError NOT_FOUND also for another user's key, CONFLICT for the last key of the last admin
   */
  revoke(by: Actor, given: string, signal?: AbortSignal): Promise<ApiKey> {
    return this.#writer.change((draft) => {
      const key = this.#get(by, given)
      if (key.revokedAt !== undefined) return key
      const made = madeWith(this.#accounts, key.id).filter(({ revokedAt }) => revokedAt === undefined)
      this.#mustLeaveAdmin([key, ...made])
      for (const one of made) this.draftRevoke(draft, by, one)
      return this.draftRevoke(draft, by, key)
    }, signal)
  }

  /**
   * Changes a key. One who is no admin may only name and narrow it. What narrows a key holds at once for those made with it.
   * @throws MeshError NOT_FOUND also for another user's key, CONFLICT for a revoked one, FORBIDDEN, BAD_REQUEST
   */
  update(by: Actor, request: RequestOf<'keys.update'>, signal?: AbortSignal): Promise<ApiKey> {
    return this.#writer.change((draft) => {
      const key = this.#get(by, request.id)
      if (key.revokedAt !== undefined) throw MeshError.CONFLICT(`The key ${key.id} was revoked: make a new one`)
      const { label = key.label, limits = key.limits, scopes = key.scopes, expiresAt = key.expiresAt } = request
      const updated: ApiKey = { ...key, label, scopes, limits, expiresAt }
      if (request.expiresAt !== undefined) mustBeAhead(expiresAt, this.#writer.now())
      if (request.scopes !== undefined) {
        this.#mustFitRole(key.user, request.scopes)
        if (isAdmin(by)) mustHaveAll(by, request.scopes)
      }
      if (!isAdmin(by)) this.#mustNarrow(key, updated)
      const ends = this.#scopesOf(updated).includes('admin') ? request.expiresAt : this.#writer.now()
      if (ends !== undefined) this.#mustLeaveAdmin([key, ...madeWith(this.#accounts, key.id)], ends)
      draft.account(accountKeys.apiKey(key.id), updated)
      const { user } = key
      const before = { scopes: key.scopes, expiresAt: key.expiresAt, limits: key.limits }
      draft.audit(by.user, 'key.update', key.id, { user, label, before, after: { scopes, expiresAt, limits } })
      if (expiresAt !== undefined) this.#draftEnd(draft, key.id, expiresAt)
      return updated
    }, signal)
  }

  /** Adds a revocation to a change. */
  draftRevoke(draft: Draft, by: Actor, key: ApiKey): ApiKey {
    const revoked: ApiKey = { ...key, revokedAt: this.#writer.now() }
    draft.account(accountKeys.apiKey(key.id), revoked)
    draft.audit(by.user, 'key.revoke', key.id, { user: key.user, parent: key.parent })
    return revoked
  }

  /** Keys of one user that work now. */
  live(user: string): ApiKey[] {
    const now = this.#writer.now()
    return [...this.#accounts.keys.values()].filter((key) => key.user === user && isLive(this.#accounts, key, now))
  }

  /** Whether a user that is an admin has a key to act as one. */
  mayAdminister(user: string): boolean {
    return this.live(user).some((key) => this.#scopesOf(key).includes('admin'))
  }

  /** A key that is made with this one would be the next in its line. @throws MeshError INVALID_API_KEY, FORBIDDEN */
  #lineOf(id: string): ApiKey[] {
    const key = this.#accounts.keys.get(id)
    if (key === undefined) throw MeshError.INVALID_API_KEY(`The API key im_${id}_… is not known to this mesh`)
    // It may have been revoked since it was checked.
    const line = this.#accounts.lineOf(key, this.#writer.now())
    if (line.length <= MAX_PARENTS) return line
    throw MeshError.FORBIDDEN(
      `The key im_${id}_… has ${MAX_PARENTS} keys above it, each made with the next: it can make none. Log in, or use one of those`,
    )
  }

  #own(by: Actor): ApiKey[] {
    return [...this.#accounts.keys.values()].filter((key) => isOwn(this.#accounts, by, key))
  }

  /** @param given the key's id, with or without `im_` and the secret @throws MeshError NOT_FOUND also for another user's key */
  #get(by: Actor, given: string): ApiKey {
    const id = /^im_([^_]+)/.exec(given)?.[1] ?? given
    const key = this.#accounts.keys.get(id)
    if (key !== undefined && this.has(by, id)) return key
    const own = this.#own(by).filter(({ revokedAt }) => revokedAt === undefined)
    throw MeshError.NOT_FOUND(
      `No API key has the id ${id.slice(0, 64)}. ${nearby(
        id,
        own.map((known) => known.id),
      )}`,
      { param: 'id' },
    )
  }

  #scopesOf({ user, scopes }: ApiKey): readonly Scope[] {
    return scopesOf(this.#accounts.users.get(user)?.role ?? 'user', scopes)
  }

  /** A key is given no scope that its user's role does not allow, even where it would mean nothing. @throws MeshError FORBIDDEN */
  #mustFitRole(user: string, scopes: readonly Scope[]): void {
    const ofRole = scopesOf(this.#accounts.users.get(user)?.role ?? 'user')
    const wrong = scopes.findIndex((scope) => !ofRole.includes(scope))
    if (wrong < 0) return
    throw MeshError.FORBIDDEN(`The scope ${scopes[wrong]} is for admins; ${user} is none`, {
      param: `scopes[${wrong}]`,
    })
  }

  /** @throws MeshError FORBIDDEN */
  #mustNarrow(before: ApiKey, after: ApiKey): void {
    const refuse = (param: string, bound: string) =>
      MeshError.FORBIDDEN(
        `${param}: ${before.user} may narrow a key only, here to ${bound} or less; an admin may widen it`,
        {
          param,
        },
      )
    const wider = widerThan(after.limits, before.limits)
    if (wider !== undefined) throw refuse(wider.param, wider.bound)
    const { expiresAt } = before
    if (expiresAt !== undefined && (after.expiresAt ?? Number.POSITIVE_INFINITY) > expiresAt) {
      throw refuse('expiresAt', new Date(expiresAt).toISOString())
    }
    const scopes = this.#scopesOf(before)
    if (!this.#scopesOf(after).every((scope) => scopes.includes(scope))) throw refuse('scopes', scopes.join(', '))
  }

  /** @param at when these end, in milliseconds since the epoch @throws MeshError CONFLICT */
  #mustLeaveAdmin(ending: readonly ApiKey[], at = this.#writer.now()): void {
    const [key] = ending
    if (key === undefined || !hasAdminKey(this.#accounts, at, []) || hasAdminKey(this.#accounts, at, ending)) return
    throw MeshError.CONFLICT(
      `${key.id} is the last API key of any admin: without one nobody could administer the mesh. Make another one first: infermesh keys create --alone --scope admin. Or have the home's own replaced: infermesh keys rotate`,
    )
  }

  /** Adds to a change that what was made with a key ends no later than it. */
  #draftEnd(draft: Draft, id: string, expiresAt: number): void {
    for (const made of madeWith(this.#accounts, id)) {
      if ((made.expiresAt ?? Number.POSITIVE_INFINITY) > expiresAt) {
        draft.account(accountKeys.apiKey(made.id), { ...made, expiresAt })
      }
    }
  }
}

/** Scopes are given by those who have them. @throws MeshError FORBIDDEN */
function mustHaveAll(by: Actor, scopes: readonly Scope[]): void {
  const wrong = scopes.findIndex((scope) => !by.scopes.includes(scope))
  if (wrong < 0) return
  throw MeshError.FORBIDDEN(`The scope ${scopes[wrong]} is more than what you ask with has: ${by.scopes.join(', ')}`, {
    param: `scopes[${wrong}]`,
  })
}

/** @throws MeshError FORBIDDEN where a new key would have more than one of those above it */
function mustLieWithin({ limits, expiresAt }: Wanted, line: readonly ApiKey[]): void {
  for (const above of line) {
    const refuse = (param: string, bound: string) =>
      MeshError.FORBIDDEN(
        `${param}: a key that is made with im_${above.id}_… has at most what that has, which is ${bound}. Log in to make one with more`,
        { param },
      )
    const wider = widerThan(askedWithin(limits, above.limits), above.limits)
    if (wider !== undefined) throw refuse(wider.param, wider.bound)
    if (expiresAt !== undefined && above.expiresAt !== undefined && expiresAt > above.expiresAt) {
      throw refuse('expiresAt', new Date(above.expiresAt).toISOString())
    }
  }
}

/** @throws MeshError BAD_REQUEST */
function mustBeAhead(expiresAt: number | undefined, now: number): void {
  if (expiresAt === undefined || expiresAt > now) return
  throw MeshError.BAD_REQUEST(
    `expiresAt is in the past (${new Date(expiresAt).toISOString()}); it is milliseconds since 1970`,
    { param: 'expiresAt' },
  )
}

/** A key as its owner may see it. */
export function keyInfo(
  { secretHash: _, ...info }: ApiKey,
  { lastUsedAt, elsewhere }: { [K in 'lastUsedAt' | 'elsewhere']?: ApiKeyInfo[K] | undefined } = {},
): ApiKeyInfo {
  return { ...info, ...(lastUsedAt !== undefined && { lastUsedAt }), ...(elsewhere !== undefined && { elsewhere }) }
}
