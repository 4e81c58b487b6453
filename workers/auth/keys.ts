import {
  type ApiKey,
  type ApiKeyInfo,
  hashSecret,
  MeshError,
  type newApiKey,
  type RequestOf,
} from '../../lib/protocol/index.js'
import { accountKeys } from '../../lib/store/index.js'
import { type Actor, mustBeSelfOrAdmin } from './actor.js'
import { nearby } from './nearby.js'
import type { Draft, StoreWriter } from './store-writer.js'

/** A key's entry and, this once, its text. */
export interface NewKey {
  entry: ApiKey
  text: string
}

/** API keys: made, listed, revoked. */
export class Keys {
  readonly #writer: StoreWriter
  readonly #newKey: typeof newApiKey

  /** @param newKey where a key's randomness comes from */
  constructor(writer: StoreWriter, newKey: typeof newApiKey) {
    this.#writer = writer
    this.#newKey = newKey
  }

  /** @throws MeshError BAD_REQUEST, FORBIDDEN, NOT_FOUND */
  create(by: Actor, request: RequestOf<'keys.create'>, signal?: AbortSignal): Promise<NewKey> {
    const user = request.user ?? by.user
    return this.#writer.change((draft) => {
      mustBeSelfOrAdmin(by, user, 'make keys')
      const { users } = this.#writer.accounts
      if (!users.has(user)) {
        throw MeshError.NOT_FOUND(`No user is named ${user}. ${nearby(user, users.keys())}`, { param: 'user' })
      }
      return this.draftNew(draft, by, { ...request, user })
    }, signal)
  }

  /** Adds a new key to a change. @throws MeshError BAD_REQUEST */
  draftNew(draft: Draft, by: Actor, request: RequestOf<'keys.create'> & { user: string }): NewKey {
    const { user, label, limits, expiresAt } = request
    const now = this.#writer.now()
    if (expiresAt !== undefined && expiresAt <= now) {
      throw MeshError.BAD_REQUEST(
        `keys.create: expiresAt is in the past (${new Date(expiresAt).toISOString()}); it is milliseconds since 1970`,
        { param: 'expiresAt' },
      )
    }
    const { id, secret, text } = this.#newKey()
    const entry: ApiKey = { id, user, label, secretHash: hashSecret(secret), limits, createdAt: now, expiresAt }
    draft.account(accountKeys.apiKey(id), entry)
    draft.audit(by.user, 'key.create', id, { user, label, limits, expiresAt })
    return { entry, text }
  }

  /** Own keys; for an admin everyone's. Newest first. */
  list(by: Actor): ApiKey[] {
    return [...this.#writer.accounts.keys.values()]
      .filter(({ user }) => by.role === 'admin' || user === by.user)
      .sort((a, b) => b.createdAt - a.createdAt)
  }

  /**
   * Revokes a key; one that is revoked already stays as it is.
   * @param given the key's id, with or without `im_` and the secret
   * @throws MeshError NOT_FOUND also for another user's key, CONFLICT for the last key of the last admin
   */
  revoke(by: Actor, given: string, signal?: AbortSignal): Promise<ApiKey> {
    const id = /^im_([^_]+)/.exec(given)?.[1] ?? given
    return this.#writer.change((draft) => {
      const key = this.#own(by, id)
      if (key.revokedAt !== undefined) return key
      if (this.#isLastAdminKey(key)) {
        throw MeshError.CONFLICT(
          `${key.id} is the last API key of any admin: without one nobody could administer the mesh. Make another one first, then revoke this`,
        )
      }
      return this.draftRevoke(draft, by, key)
    }, signal)
  }

  /**
   * Changes a key's label or limits.
   * @throws MeshError NOT_FOUND also for another user's key, CONFLICT for a revoked one
   */
  update(by: Actor, request: RequestOf<'keys.update'>, signal?: AbortSignal): Promise<ApiKey> {
    return this.#writer.change((draft) => {
      const key = this.#own(by, request.id)
      if (key.revokedAt !== undefined) throw MeshError.CONFLICT(`The key ${key.id} was revoked: make a new one`)
      const { label = key.label, limits = key.limits } = request
      const updated: ApiKey = { ...key, label, limits }
      draft.account(accountKeys.apiKey(key.id), updated)
      draft.audit(by.user, 'key.update', key.id, { user: key.user, label, before: key.limits, after: limits })
      return updated
    }, signal)
  }

  /** @throws MeshError NOT_FOUND also for another user's key */
  #own(by: Actor, id: string): ApiKey {
    const key = this.#writer.accounts.keys.get(id)
    if (key !== undefined && (by.role === 'admin' || key.user === by.user)) return key
    const own = this.list(by).filter(({ revokedAt }) => revokedAt === undefined)
    throw MeshError.NOT_FOUND(
      `No API key has the id ${id.slice(0, 64)}. ${nearby(
        id,
        own.map((known) => known.id),
      )}`,
      { param: 'id' },
    )
  }

  /** Adds a revocation to a change. */
  draftRevoke(draft: Draft, by: Actor, key: ApiKey): ApiKey {
    const revoked: ApiKey = { ...key, revokedAt: this.#writer.now() }
    draft.account(accountKeys.apiKey(key.id), revoked)
    draft.audit(by.user, 'key.revoke', key.id, { user: key.user })
    return revoked
  }

  /** Keys of one user that work now. */
  live(user: string): ApiKey[] {
    const now = this.#writer.now()
    return [...this.#writer.accounts.keys.values()].filter(
      (key) => key.user === user && key.revokedAt === undefined && (key.expiresAt === undefined || key.expiresAt > now),
    )
  }

  #isLastAdminKey(key: ApiKey): boolean {
    const { users } = this.#writer.accounts
    if (users.get(key.user)?.role !== 'admin') return false
    const live = [...users.values()].filter(({ role }) => role === 'admin').flatMap(({ name }) => this.live(name))
    return live.length === 1 && live[0]?.id === key.id
  }
}

/** A key as its owner may see it. */
export function keyInfo(key: ApiKey, lastUsedAt?: number): ApiKeyInfo {
  const { secretHash: _, ...info } = key
  return lastUsedAt === undefined ? info : { ...info, lastUsedAt }
}
