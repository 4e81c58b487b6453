import {
  DEFAULT_SCOPES,
  type Limits,
  MeshError,
  type Page,
  type PageRequest,
  pageOf,
  type RequestOf,
  scopesOf,
  type User,
  type UserInfo,
} from '../../lib/protocol/index.js'
import { accountKeys, NAME_RESTS_MS } from '../../lib/store/index.js'
import { authorityAccountKeys } from './accounts.js'
import { type Actor, mustBeSelfOrAdmin, SYSTEM } from './actor.js'
import type { Keys, NewKey } from './keys.js'
import { nearby } from './nearby.js'
import type { Draft, StoreWriter } from './store-writer.js'

/** Why somebody may set a password, and the one that it replaces. */
export interface PasswordProof {
  by: 'old password' | 'login' | 'admin'
  passwordHash: string | undefined
}

/** The people who use the mesh. */
export class Users {
  readonly #writer: StoreWriter
  readonly #keys: Keys

  constructor(writer: StoreWriter, keys: Keys) {
    this.#writer = writer
    this.#keys = keys
  }

  get #users(): Map<string, User> {
    return this.#writer.accounts.users
  }

  /** By name. */
  list(page: PageRequest & { name?: string | undefined }): Page<User> {
    const found = [...this.#users.values()].filter(({ name }) => (page.name ?? name) === name)
    return pageOf(found, ({ name }) => name, page)
  }

  get(name: string): User | undefined {
    return this.#users.get(name)
  }

  /** Admins, by name. */
  admins(): User[] {
    return [...this.#users.values()].filter(({ role }) => role === 'admin').sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /**
   * @throws MeshError CONFLICT when the name is taken, or was somebody's a short time ago; BAD_REQUEST when it is the
   * authority's own
   */
  mustBeFree(name: string): void {
    if (name === SYSTEM.user) {
      throw MeshError.BAD_REQUEST(`${name} stands for the authority itself in the audit trail; choose another name`, {
        param: 'name',
      })
    }
    if (this.#users.has(name)) throw MeshError.CONFLICT(`A user is named ${name} already`, { param: 'name' })
    const freeAt = this.#freeAt(name)
    if (freeAt > this.#writer.now()) {
      throw MeshError.CONFLICT(
        `A user named ${name} was removed a short time ago, and tokens of that one may still be good somewhere. The name is free again at ${new Date(freeAt).toISOString()}; until then choose another one`,
        { param: 'name' },
      )
    }
  }

  /** From when on a name may be used that somebody had, in milliseconds since the epoch; 0 where nobody had. */
  #freeAt(name: string): number {
    const left = this.#writer.accounts.left.get(name)
    return left === undefined ? 0 : left.at + NAME_RESTS_MS
  }

  /** Adds to a change that names which may be used again are forgotten. */
  #draftForget(draft: Draft): void {
    for (const name of this.#writer.accounts.left.keys()) {
      if (this.#freeAt(name) <= this.#writer.now()) draft.account(authorityAccountKeys.left(name), undefined)
    }
  }

  /** @throws MeshError CONFLICT, BAD_REQUEST */
  add(
    by: Actor,
    request: Omit<RequestOf<'users.add'>, 'password'> & { passwordHash?: string | undefined },
    signal?: AbortSignal,
  ): Promise<User> {
    return this.#writer.change((draft) => this.draftNew(draft, by, 'user.add', request), signal)
  }

  /** Makes a user and its first key for somebody who asked. @throws MeshError CONFLICT, BAD_REQUEST */
  selfRegister(
    name: string,
    passwordHash: string,
    limits: Limits,
    signal?: AbortSignal,
  ): Promise<{ user: User; key: NewKey }> {
    return this.#writer.change((draft) => {
      const by: Actor = { user: name, scopes: scopesOf('user') }
      const user = this.draftNew(draft, by, 'user.register', { name, role: 'user', passwordHash, limits })
      return {
        user,
        key: this.#keys.draftNew(draft, by, {
          user: name,
          label: 'registration',
          scopes: [...DEFAULT_SCOPES],
          limits: {},
        }),
      }
    }, signal)
  }

  /** Adds a new user to a change. @throws MeshError CONFLICT, BAD_REQUEST */
  draftNew(
    draft: Draft,
    by: Actor,
    action: 'user.add' | 'user.register',
    { name, role, passwordHash, limits }: Omit<User, 'createdAt'>,
  ): User {
    this.mustBeFree(name)
    const user: User = { name, role, passwordHash, limits, createdAt: this.#writer.now() }
    this.#draftForget(draft)
    draft.account(accountKeys.user(name), user)
    draft.audit(by.user, action, name, { role, limits })
    return user
  }

  /** @throws MeshError NOT_FOUND */
  setLimits(by: Actor, name: string, limits: Limits, signal?: AbortSignal): Promise<User> {
    return this.#writer.change((draft) => {
      const before = this.#get(name)
      const user: User = { ...before, limits }
      draft.account(accountKeys.user(name), user)
      draft.audit(by.user, 'user.limits', name, { before: before.limits, after: limits })
      return user
    }, signal)
  }

  /** @throws MeshError NOT_FOUND, FORBIDDEN, CONFLICT */
  setPassword(
    by: Actor,
    name: string,
    passwordHash: string,
    proof: PasswordProof,
    signal?: AbortSignal,
  ): Promise<void> {
    return this.#writer.change((draft) => {
      mustBeSelfOrAdmin(by, name, 'set the password')
      const user = this.#get(name)
      // What was proved before the new one was hashed may be true no more.
      if (proof.passwordHash !== user.passwordHash) {
        throw MeshError.CONFLICT(`The password of ${name} was changed just now. Try again`)
      }
      draft.account(accountKeys.user(name), { ...user, passwordHash })
      draft.audit(by.user, 'user.passwd', name, { proof: proof.by })
    }, signal)
  }

  /** Removes a user and revokes its keys; the name is nobody's for a while. @throws MeshError NOT_FOUND, CONFLICT for the last admin */
  remove(by: Actor, name: string, signal?: AbortSignal): Promise<void> {
    return this.#writer.change((draft) => {
      const user = this.#get(name)
      const others = this.admins().filter((other) => other.name !== name)
      if (user.role === 'admin' && !others.some((other) => this.#keys.mayAdminister(other.name))) {
        throw MeshError.CONFLICT(
          others.length === 0
            ? `${name} is the last admin: without one nobody could administer the mesh. Make another one first, then remove this`
            : `No other admin than ${name} has an API key with the scope admin. Make one for ${others[0]?.name} first, then remove ${name}`,
        )
      }
      this.#draftForget(draft)
      draft.account(accountKeys.user(name), undefined)
      draft.account(authorityAccountKeys.left(name), { at: this.#writer.now() })
      draft.audit(by.user, 'user.remove', name, { role: user.role })
      for (const key of this.#writer.accounts.keys.values()) {
        if (key.user === name && key.revokedAt === undefined) this.#keys.draftRevoke(draft, by, key)
      }
    }, signal)
  }

  #get(name: string): User {
    const user = this.#users.get(name)
    if (user === undefined) {
      throw MeshError.NOT_FOUND(`No user is named ${name}. ${nearby(name, this.#users.keys())}`, { param: 'name' })
    }
    return user
  }
}

/** A user as an admin may see it. */
export function userInfo(user: User): UserInfo {
  const { passwordHash, ...info } = user
  return { ...info, hasPassword: passwordHash !== undefined }
}
