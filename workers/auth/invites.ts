import {
  hashSecret,
  type Invite,
  type InviteInfo,
  MeshError,
  type newApiKey,
  newestFirst,
  type Page,
  type PageRequest,
  pageOf,
  type RequestOf,
  secretMatches,
} from '../../lib/protocol/index.js'
import { accountKeys } from '../../lib/store/index.js'
import type { Actor } from './actor.js'
import { nearby } from './nearby.js'
import type { Draft, StoreWriter } from './store-writer.js'

/** An invite and, this once, its secret. */
export interface NewInvite {
  entry: Invite
  secret: string
}

/** Invites: made, listed, revoked, checked. */
export class Invites {
  readonly #writer: StoreWriter
  readonly #newKey: typeof newApiKey

  /** @param newKey where an invite's randomness comes from */
  constructor(writer: StoreWriter, newKey: typeof newApiKey) {
    this.#writer = writer
    this.#newKey = newKey
  }

  get #invites(): Map<string, Invite> {
    return this.#writer.accounts.invites
  }

  /** @throws MeshError BAD_REQUEST for a second authority, or a guest that is no processor */
  create(
    by: Actor,
    { role, name, trust, expiresInMs }: RequestOf<'invites.create'>,
    signal?: AbortSignal,
  ): Promise<NewInvite> {
    return this.#writer.change((draft) => {
      if (role === 'auth') {
        throw MeshError.BAD_REQUEST(
          'invites.create: a mesh has one authority; invite a gateway, processor or metrics',
          {
            param: 'role',
          },
        )
      }
      if (trust === 'guest' && role !== 'processor') {
        throw MeshError.BAD_REQUEST(`invites.create: a ${role} sees the whole mesh: only a processor can be a guest`, {
          param: 'trust',
        })
      }
      const { id, secret } = this.#newKey()
      const now = this.#writer.now()
      const entry: Invite = {
        id,
        secretHash: hashSecret(secret),
        role,
        name,
        ...(trust === 'guest' && { trust }),
        reusable: false,
        createdAt: now,
        expiresAt: now + expiresInMs,
      }
      draft.account(accountKeys.invite(id), entry)
      draft.audit(by.user, 'invite.create', id, { role, name, trust, expiresAt: entry.expiresAt })
      return { entry, secret }
    }, signal)
  }

  /** Newest first. */
  list(page: PageRequest): Page<Invite> {
    return pageOf(this.#invites.values(), newestFirst, page)
  }

  /** Revokes an invite; one that is revoked already stays as it is. @throws MeshError NOT_FOUND */
  revoke(by: Actor, id: string, signal?: AbortSignal): Promise<void> {
    return this.#writer.change((draft) => {
      const invite = this.#invites.get(id)
      if (invite === undefined) {
        throw MeshError.NOT_FOUND(`No invite has the id ${id.slice(0, 64)}. ${nearby(id, this.#invites.keys())}`, {
          param: 'id',
        })
      }
      if (invite.revokedAt === undefined) this.#draftRevoke(draft, by, invite)
    }, signal)
  }

  /**
   * Makes sure that the home's invite is the one in its file, and no other. Does nothing for one that was revoked: a
   * restart must not undo that.
   */
  keepHomeInvite(by: Actor, id: string, secret: string): Promise<void> {
    return this.#writer.change((draft) => {
      if (this.#invites.has(id)) return
      for (const older of this.#invites.values()) {
        if (older.reusable && older.revokedAt === undefined) this.#draftRevoke(draft, by, older)
      }
      const entry: Invite = { id, secretHash: hashSecret(secret), reusable: true, createdAt: this.#writer.now() }
      draft.account(accountKeys.invite(id), entry)
      draft.audit(by.user, 'invite.create', id, { reusable: true })
    })
  }

  /**
   * The invite, if its secret is right, whatever else is wrong with it.
   * @throws MeshError INVITE_INVALID: an unknown id and a wrong secret read the same
   */
  prove(id: string, secret: string): Invite {
    const invite = this.#invites.get(id)
    if (invite === undefined || !secretMatches(secret, invite.secretHash)) {
      throw MeshError.INVITE_INVALID('This invite is not known to this mesh', { reason: 'unknown' })
    }
    return invite
  }

  /**
   * Checks what else must be true of an invite whose secret was right.
   * @throws MeshError INVITE_INVALID: revoked, expired, spent by another, for another role or name
   */
  mustAdmit(invite: Invite, { peer, role, name }: { peer: string; role: string; name: string }): void {
    const refuse = (reason: string, message: string) => MeshError.INVITE_INVALID(message, { reason })
    if (invite.revokedAt !== undefined) throw refuse('revoked', `This invite was revoked at ${iso(invite.revokedAt)}`)
    // Who spent it may come again: its first answer may have been lost.
    if (invite.spentAt !== undefined && invite.spentBy !== peer) {
      throw refuse('spent', `This invite was spent at ${iso(invite.spentAt)}; each admits one worker`)
    }
    const now = this.#writer.now()
    if (invite.spentAt === undefined && invite.expiresAt !== undefined && invite.expiresAt <= now) {
      // Whose clock is wrong sees it by that.
      const text = `This invite expired at ${iso(invite.expiresAt)}; by the authority’s clock it is ${iso(now)}`
      throw refuse('expired', `${text}. \`infermesh invite\` there makes another`)
    }
    if (role === 'auth') throw refuse('role', 'No invite admits a second authority')
    if (invite.role !== undefined && invite.role !== role) {
      throw refuse('role', `This invite admits a ${invite.role}, not a ${role}`)
    }
    if (invite.name !== undefined && invite.name !== name) {
      throw refuse('name', `This invite is for the name ${invite.name}, not ${name}: start the worker with that name`)
    }
  }

  #draftRevoke(draft: Draft, by: Actor, invite: Invite): void {
    draft.account(accountKeys.invite(invite.id), { ...invite, revokedAt: this.#writer.now() })
    draft.audit(by.user, 'invite.revoke', invite.id)
  }
}

/** An invite as an admin may see it. */
export function inviteInfo(invite: Invite): InviteInfo {
  const { secretHash: _, ...info } = invite
  return info
}

function iso(time: number): string {
  return new Date(time).toISOString()
}
