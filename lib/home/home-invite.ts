import { decodeInvite, encodeInvite, type InviteText, MeshError } from '../protocol/index.js'
import { readIfThere, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/** The reusable invite with which the workers of a home join its mesh: home.invite. */

/**
 * The home's own invite; undefined where it has none.
 * @throws MeshError CONFIG_INVALID when the file cannot be read or holds no invite
 */
export function readHomeInvite(home: string): InviteText | undefined {
  const path = homeFiles(home).homeInvite
  const text = readIfThere(path)
  if (text === undefined) return undefined
  try {
    return decodeInvite(text)
  } catch (cause) {
    throw MeshError.CONFIG_INVALID(
      `${path} holds no invite: expected a text that begins with imv_. Delete it: the next start of the authority makes a new one`,
      {},
      { cause },
    )
  }
}

/** Keeps the home's own invite, readable by its owner only. */
export function writeHomeInvite(home: string, invite: InviteText): void {
  writeFileAtomic(homeFiles(home).homeInvite, `${encodeInvite(invite)}\n`, { mode: 0o600 })
}
