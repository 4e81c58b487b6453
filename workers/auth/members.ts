import {
  type Admission,
  decodeKey,
  encodeKey,
  type Member,
  MeshError,
  type Page,
  type PageRequest,
  pageOf,
  type RequestOf,
  type ResponseOf,
} from '../../lib/protocol/index.js'
import { accountKeys, directoryKeys } from '../../lib/store/index.js'
import { authorityAccountKeys } from './accounts.js'
import { type Actor, SYSTEM } from './actor.js'
import type { Invites } from './invites.js'
import type { Models } from './models.js'
import { nearby } from './nearby.js'
import type { StoreWriter } from './store-writer.js'
import type { Throttle } from './throttle.js'

export interface MembersOptions {
  writer: StoreWriter
  invites: Invites
  models: Models
  /** Public key of the authority itself. */
  authority: string
  /** Bounds the wrong invites of one peer. */
  throttle: Throttle
}

/** Who belongs to the mesh. */
export class Members {
  readonly #writer: StoreWriter
  readonly #invites: Invites
  readonly #models: Models
  readonly #authority: string
  readonly #throttle: Throttle

  constructor({ writer, invites, models, authority, throttle }: MembersOptions) {
    this.#writer = writer
    this.#invites = invites
    this.#models = models
    this.#authority = authority
    this.#throttle = throttle
  }

  get #members(): Map<string, Member> {
    return this.#writer.directory.members
  }

  /** A member's name; undefined where the peer is none. */
  nameOf(publicKey: string): string | undefined {
    return this.#members.get(publicKey)?.name
  }

  /** By role, then name. */
  list(page: PageRequest): Page<Member> {
    return pageOf(this.#members.values(), (member) => `${label(member)} ${member.publicKey}`, page)
  }

  /** Lists the authority itself. */
  async enrolSelf(name: string): Promise<void> {
    await this.#writer.change((draft) => {
      const known = this.#members.get(this.#authority)
      if (known?.name === name) return
      const member: Member = { publicKey: this.#authority, role: 'auth', name, addedAt: this.#writer.now() }
      draft.audit(SYSTEM.user, 'member.join', label(member), { publicKey: this.#authority })
      draft.directory(directoryKeys.member(this.#authority), member)
    })
  }

  /**
   * Spends an invite: the peer becomes a member. A peer that is one already, with the same role, is told so.
   * @param peer public key of the caller, as its connection proved it
   * @throws MeshError INVITE_INVALID, CONFLICT when the name is taken, RATE_LIMITED after too many wrong invites
   */
  join(peer: string, request: RequestOf<'join'>, signal?: AbortSignal): Promise<Member> {
    return this.#writer.change((draft) => {
      const { id, secret, role, name } = request
      const known = this.#members.get(peer)
      if (known?.role === role) return known
      this.#throttle.check(peer, 'wrong invites of one peer')
      const invite = this.#prove(peer, id, secret)
      this.#invites.mustAdmit(invite, { peer, role, name })
      if (known !== undefined) {
        throw MeshError.CONFLICT(
          `This worker's key belongs to ${label(known)} already. Start a ${role} with a name (--rack) of its own`,
        )
      }
      const removed = this.#writer.accounts.removed.get(peer)
      if (removed !== undefined && (invite.reusable || invite.spentAt !== undefined)) {
        throw MeshError.INVITE_INVALID(
          `This worker was removed from the mesh at ${new Date(removed.at).toISOString()}; only a fresh invite lets it back in: infermesh invite --role ${role}`,
          { reason: 'removed' },
        )
      }
      this.mustBeFree(role, name)

      const now = this.#writer.now()
      const { trust } = invite
      const member: Member = { publicKey: peer, role, name, addedAt: now, ...(trust && { trust }) }
      if (!invite.reusable && invite.spentAt === undefined) {
        draft.account(accountKeys.invite(id), { ...invite, spentAt: now, spentBy: peer })
      }
      if (removed !== undefined) draft.account(authorityAccountKeys.removed(peer), undefined)
      draft.audit(SYSTEM.user, 'member.join', label(member), { publicKey: peer, invite: id })
      draft.directory(directoryKeys.member(peer), member)
      return member
    }, signal)
  }

  get(publicKey: string): Member | undefined {
    return this.#members.get(publicKey)
  }

  /**
   * Makes a member of a machine that asked for it, because a person said yes.
   * @param about where the request came from, for the audit trail
   * @throws MeshError CONFLICT when the name is taken, or the key is a member of another role
   */
  admit(
    by: Actor,
    { publicKey, role, name, trust }: Omit<Member, 'addedAt' | 'notAfter' | 'models'>,
    about: { address: string; code: string },
    signal?: AbortSignal,
  ): Promise<Member> {
    return this.#writer.change((draft) => {
      const known = this.#members.get(publicKey)
      if (known !== undefined) {
        if (known.role === role) return known
        throw MeshError.CONFLICT(`This machine's key belongs to ${label(known)} already`)
      }
      this.mustBeFree(role, name)
      const addedAt = this.#writer.now()
      const member: Member = { publicKey, role, name, addedAt, ...(trust === 'guest' && { trust }) }
      if (this.#writer.accounts.removed.has(publicKey))
        draft.account(authorityAccountKeys.removed(publicKey), undefined)
      draft.audit(by.user, 'member.accept', label(member), { publicKey, trust, ...about })
      draft.directory(directoryKeys.member(publicKey), member)
      return member
    }, signal)
  }

  /** Keeps in the audit trail that a machine was refused. */
  noteRefusal(by: Actor, { publicKey, role, name, address }: Admission, signal?: AbortSignal): Promise<void> {
    return this.#writer.change((draft) => {
      draft.audit(by.user, 'member.refuse', label({ role, name }), { publicKey, address })
    }, signal)
  }

  /**
   * Removes a member: its links are cut, and it comes back only with a fresh invite. Where it is a gateway, the accounts
   * move to a core that it does not know.
   * @param given a public key, a name, or `role/name`
   * @throws MeshError NOT_FOUND, CONFLICT for a name that several have and for the authority itself
   */
  async remove(by: Actor, given: string, signal?: AbortSignal): Promise<ResponseOf<'members.remove'>> {
    const removed = await this.#writer.change((draft) => {
      const member = this.#find(given)
      if (member.publicKey === this.#authority) {
        throw MeshError.CONFLICT(`${label(member)} is the authority of this mesh and cannot be removed`)
      }
      const at = this.#writer.now()
      draft.account(authorityAccountKeys.removed(member.publicKey), { at })
      if (member.role === 'gateway') draft.account(authorityAccountKeys.renewal(member.publicKey), { at })
      draft.audit(by.user, 'member.remove', label(member), { publicKey: member.publicKey })
      draft.directory(directoryKeys.member(member.publicKey), undefined)
      this.#models.draftForget(draft, member.publicKey)
      return member
    }, signal)
    if (removed.role !== 'gateway') return removed
    const wasLastGateway = this.#writer.directory.membersWithRole('gateway').length === 0
    return { ...removed, accountsMoved: this.#writer.accounts.renewals.size === 0, wasLastGateway }
  }

  /** Completes removals that a crash cut in two. */
  async repair(): Promise<void> {
    await this.#writer.change((draft) => {
      for (const publicKey of this.#members.keys()) {
        if (this.#writer.accounts.removed.has(publicKey)) {
          draft.directory(directoryKeys.member(publicKey), undefined)
        }
      }
    })
  }

  #prove(peer: string, id: string, secret: string) {
    try {
      return this.#invites.prove(id, secret)
    } catch (err) {
      this.#throttle.count(peer)
      throw err
    }
  }

  /** @throws MeshError CONFLICT when another member of the role has the name */
  mustBeFree(role: string, name: string): void {
    const names = new Set([...this.#members.values()].flatMap((member) => (member.role === role ? [member.name] : [])))
    if (!names.has(name)) return
    let number = 2
    while (names.has(`${name}-${number}`)) number++
    throw MeshError.CONFLICT(
      `Another ${role} is named ${name}. Choose another name for this one, such as ${name}-${number} (\`infermesh join --name\`), or remove the other: \`infermesh members remove ${role}/${name}\``,
      { suggestion: `${name}-${number}` },
    )
  }

  #find(given: string): Member {
    const members = [...this.#members.values()].sort((a, b) => (label(a) < label(b) ? -1 : 1))
    const named = members.filter((member) => label(member) === given || member.name === given)
    if (named.length > 1) {
      throw MeshError.CONFLICT(
        `${given} is the name of ${named.length} members: say which of ${named.map(label).join(', ')}`,
        { candidates: named.map(label) },
      )
    }
    const member = named[0] ?? this.#members.get(asPublicKey(given) ?? '')
    if (member !== undefined) return member
    throw MeshError.NOT_FOUND(`No member is ${given.slice(0, 64)}. ${nearby(given, members.map(label))}`, {
      param: 'member',
    })
  }
}

/** `processor/p1`: how people tell members apart. */
function label({ role, name }: Pick<Member, 'role' | 'name'>): string {
  return `${role}/${name}`
}

function asPublicKey(text: string): string | undefined {
  try {
    return encodeKey(decodeKey(text))
  } catch {
    return undefined
  }
}
