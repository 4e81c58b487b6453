import { readAdminKey, readHomeInvite, writeAdminKey, writeHomeInvite } from '../../lib/home/index.js'
import { hashSecret, type MeshProfile, newApiKey, SCOPES } from '../../lib/protocol/index.js'
import { accountKeys } from '../../lib/store/index.js'
import { SYSTEM } from './actor.js'
import type { Invites } from './invites.js'
import type { StoreWriter } from './store-writer.js'
import type { Users } from './users.js'

/**
 * What a mesh must have from its first start on. Each step looks at what is there, so that a start that was killed
 * half-way is completed by the next. A secret is in its file before its hash is in the accounts: otherwise a crash in
 * between would leave a key that nobody has.
 */

const ADMIN = 'admin'

/**
 * An admin, and an API key for one in the home's file. Deleting the file and starting again makes a new key: the way
 * back for whoever owns the home and has lost the key.
 * @throws MeshError CONFIG_INVALID when the file holds no API key
 */
export async function ensureAdmin(writer: StoreWriter, users: Users, home: string): Promise<void> {
  const { id, secret, text } = readAdminKey(home) ?? newApiKey()
  writeAdminKey(home, text)
  await writer.change((draft) => {
    const { users: known, keys } = writer.accounts
    const admins = users.admins()
    let owner = admins.find(({ name }) => name === ADMIN) ?? admins[0]
    if (owner === undefined) {
      let name = ADMIN
      while (known.has(name) || writer.accounts.left.has(name)) name += '-1'
      owner = users.draftNew(draft, SYSTEM, 'user.add', { name, role: 'admin', limits: {} })
    }
    // Also a key that was revoked is known: a restart does not undo that.
    if (keys.has(id)) return
    draft.account(accountKeys.apiKey(id), {
      id,
      user: owner.name,
      label: 'home',
      secretHash: hashSecret(secret),
      scopes: [...SCOPES],
      limits: {},
      createdAt: writer.now(),
    })
    draft.audit(SYSTEM.user, 'key.create', id, { user: owner.name, label: 'home' })
  })
}

/**
 * The reusable invite with which the workers of this same home join. Its text follows the mesh's profile. Deleting the
 * file and starting again makes a new invite and revokes the old one.
 * @throws MeshError CONFIG_INVALID when the file holds no invite
 */
export async function ensureHomeInvite(invites: Invites, profile: MeshProfile, home: string): Promise<void> {
  const { id, secret } = readHomeInvite(home) ?? newApiKey()
  writeHomeInvite(home, { id, secret, profile })
  await invites.keepHomeInvite(SYSTEM, id, secret)
}
