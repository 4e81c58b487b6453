import {
  decodeInvite,
  encodeInvite,
  hashSecret,
  type InviteText,
  MeshError,
  type MeshProfile,
  newApiKey,
  parseApiKey,
} from '../../lib/protocol/index.js'
import { accountKeys } from '../../lib/store/index.js'
import { SYSTEM } from './actor.js'
import type { Invites } from './invites.js'
import type { Register } from './register.js'
import { readSecretFile, writeSecretFile } from './secrets.js'
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
export async function ensureAdmin(register: Register, users: Users, keyFile: string): Promise<void> {
  const text = readSecretFile(keyFile) ?? newApiKey().text
  const parts = parseApiKey(text)
  if (parts === undefined) {
    throw MeshError.CONFIG_INVALID(`${keyFile} holds no API key. Delete it: the next start makes a new one`)
  }
  writeSecretFile(keyFile, text)
  await register.change((draft) => {
    const { users: known, keys } = register.accounts
    const admins = users.list().filter(({ role }) => role === 'admin')
    let owner = admins.find(({ name }) => name === ADMIN) ?? admins[0]
    if (owner === undefined) {
      let name = ADMIN
      while (known.has(name)) name += '-1'
      owner = users.draftNew(draft, SYSTEM, 'user.add', { name, role: 'admin', limits: {} })
    }
    // Also a key that was revoked is known: a restart does not undo that.
    if (keys.has(parts.id)) return
    const { id, secret } = parts
    draft.account(accountKeys.apiKey(id), {
      id,
      user: owner.name,
      label: 'home',
      secretHash: hashSecret(secret),
      limits: {},
      createdAt: register.now(),
    })
    draft.audit(SYSTEM.user, 'key.create', id, { user: owner.name, label: 'home' })
  })
}

/**
 * The reusable invite with which the workers of this same home join. Its text follows the mesh's profile. Deleting the
 * file and starting again makes a new invite and revokes the old one.
 * @throws MeshError CONFIG_INVALID when the file holds no invite
 */
export async function ensureHomeInvite(invites: Invites, profile: MeshProfile, inviteFile: string): Promise<void> {
  const text = readSecretFile(inviteFile)
  const { id, secret } = text === undefined ? newApiKey() : decodeHomeInvite(text, inviteFile)
  const current = encodeInvite({ id, secret, profile })
  if (text !== current) writeSecretFile(inviteFile, current)
  await invites.keepHomeInvite(SYSTEM, id, secret)
}

function decodeHomeInvite(text: string, inviteFile: string): InviteText {
  try {
    return decodeInvite(text)
  } catch (cause) {
    throw MeshError.CONFIG_INVALID(
      `${inviteFile} holds no invite. Delete it: the next start makes a new one`,
      {},
      { cause },
    )
  }
}
