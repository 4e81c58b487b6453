import { z } from 'zod'
import { type Invite, inviteSchema } from '../../lib/protocol/index.js'
import { Accounts, applyTo } from '../../lib/store/index.js'

const time = z.number().int().min(0)

/** Accounts, `removed/<public key>`: a member that was removed, and may not come back by itself. */
export const removedSchema = z.object({ at: time })

/** Accounts, `announced/<model name>`: the processors that said they have it, by public key. */
export const announcedSchema = z.object({ processors: z.array(z.string()) })

/** Accounts, `journal/<core key>`: whose journal this is. */
export const journalSchema = z.object({ gateway: z.string(), at: time })

/** Keys of the entries that only the authority reads. */
export const authorityKeys = {
  removed: (publicKey: string) => `removed/${publicKey}`,
  announced: (model: string) => `announced/${model}`,
  journal: (coreKey: string) => `journal/${coreKey}`,
}

/** The accounts as the authority reads them: also invites and what it remembers of members. */
export class AuthorityAccounts extends Accounts {
  readonly invites = new Map<string, Invite>()
  readonly removed = new Map<string, z.output<typeof removedSchema>>()
  readonly announced = new Map<string, z.output<typeof announcedSchema>>()
  readonly journals = new Map<string, z.output<typeof journalSchema>>()
  /** Number of the next audit entry. */
  nextAudit = 0

  protected override apply(kind: string, id: string, value: Buffer | undefined): void {
    switch (kind) {
      case 'invite':
        return applyTo(this.invites, id, value, inviteSchema, 'accounts invite')
      case 'removed':
        return applyTo(this.removed, id, value, removedSchema, 'accounts removed')
      case 'announced':
        return applyTo(this.announced, id, value, announcedSchema, 'accounts announced')
      case 'journal':
        return applyTo(this.journals, id, value, journalSchema, 'accounts journal')
      case 'audit':
        this.nextAudit = Number(id) + 1
        return
      default:
        super.apply(kind, id, value)
    }
  }
}
