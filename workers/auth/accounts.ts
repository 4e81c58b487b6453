import { z } from 'zod'
import { type Invite, inviteSchema, MeshError } from '../../lib/protocol/index.js'
import { Accounts, applyTo, type BeeView } from '../../lib/store/index.js'

const time = z.number().int().min(0)

/** The kind of the entries that stay behind when the accounts move. */
export const RENEWAL = 'renewal'

/** Strict, as the others: an authority that dropped the fields of a later version would write the entry without them. */
const inviteEntrySchema = inviteSchema.strict()

/** Accounts, `removed/<public key>`: a member that was removed, and may not come back by itself. */
export const removedSchema = z.strictObject({ at: time })

/** Accounts, `announced/<model name>`: the processors that said they have it, by public key. */
export const announcedSchema = z.strictObject({ processors: z.array(z.string()) })

/** Accounts, `journal/<core key>`: whose journal this is. */
export const journalSchema = z.strictObject({ gateway: z.string(), at: time })

/**
 * Accounts, `renewal/<public key>`: a gateway that was removed and can read what is written in this core. The accounts move
 * to another one before anything else is written, and these entries do not move with them.
 */
export const renewalSchema = z.strictObject({ at: time })

/** Accounts, `left/<user name>`: when the user of this name was removed. Deleted once the name may be used again. */
export const leftSchema = z.strictObject({ at: time })

/** Keys of the entries that only the authority reads. */
export const authorityAccountKeys = {
  renewal: (publicKey: string) => `${RENEWAL}/${publicKey}`,
  removed: (publicKey: string) => `removed/${publicKey}`,
  announced: (model: string) => `announced/${model}`,
  journal: (coreKey: string) => `journal/${coreKey}`,
  left: (userName: string) => `left/${userName}`,
}

/** The accounts as the authority reads them: also invites and what it remembers of members. */
export class AuthorityAccounts extends Accounts {
  readonly invites = new Map<string, Invite>()
  readonly removed = new Map<string, z.output<typeof removedSchema>>()
  readonly announced = new Map<string, z.output<typeof announcedSchema>>()
  readonly journals = new Map<string, z.output<typeof journalSchema>>()
  readonly left = new Map<string, z.output<typeof leftSchema>>()
  readonly renewals = new Map<string, z.output<typeof renewalSchema>>()
  /** Number of the next audit entry. */
  nextAudit = 0

  protected override clear(): void {
    super.clear()
    const { invites, removed, announced, journals, left, renewals } = this
    for (const map of [invites, removed, announced, journals, left, renewals]) map.clear()
    this.nextAudit = 0
  }

  protected override apply(kind: string, id: string, value: Buffer | undefined): void {
    switch (kind) {
      case 'invite':
        return applyTo(this.invites, id, value, inviteEntrySchema, (invite) => invite.id)
      case 'removed':
        return applyTo(this.removed, id, value, removedSchema)
      case 'announced':
        return applyTo(this.announced, id, value, announcedSchema)
      case 'journal':
        return applyTo(this.journals, id, value, journalSchema)
      case 'left':
        return applyTo(this.left, id, value, leftSchema)
      case RENEWAL:
        return applyTo(this.renewals, id, value, renewalSchema)
      case 'audit':
        if (!/^\d+$/.test(id)) throw MeshError.STORE_INVALID('its key has no number')
        this.nextAudit = Number(id) + 1
        return
      default:
        super.apply(kind, id, value)
    }
  }
}

/**
 * The authority decides from what is in its stores, and writes entries anew: what it cannot read it would take for
 * missing, and overwrite or give away. So it does not run on such a store; inference goes on without it.
 * @throws MeshError STORE_INVALID naming the first entry
 */
export function mustBeReadable(view: BeeView): void {
  const [first] = view.unreadable.values()
  if (first !== undefined) throw unreadableHere(first)
}

/** What to do where the authority itself cannot read an entry. */
export function unreadableHere({ message, details }: MeshError): MeshError {
  return MeshError.STORE_INVALID(
    `${message}. The authority does not run without it and has changed nothing: start the version that wrote it, or restore this home from a backup`,
    details,
  )
}
