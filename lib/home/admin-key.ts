import { MeshError, type newApiKey, parseApiKey } from '../protocol/index.js'
import { readIfThere, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/** The API key of the admin whose home this is: admin.key. */

/**
 * The admin's API key, in its halves and as text; undefined where the home has none.
 * @throws MeshError CONFIG_INVALID when the file cannot be read or holds no API key
 */
export function readAdminKey(home: string): ReturnType<typeof newApiKey> | undefined {
  const path = homeFiles(home).adminKey
  const text = readIfThere(path)?.trim()
  if (text === undefined) return undefined
  const parts = parseApiKey(text)
  if (parts !== undefined) return { ...parts, text }
  throw MeshError.CONFIG_INVALID(
    `${path} holds no API key: expected im_<id>_<secret>. Delete it: the next start of the authority makes a new one`,
  )
}

/** Where the admin's API key lies, for messages. */
export function adminKeyPath(home: string): string {
  return homeFiles(home).adminKey
}

/** Keeps the admin's API key in the home, readable by its owner only. */
export function writeAdminKey(home: string, key: string): void {
  writeFileAtomic(homeFiles(home).adminKey, `${key}\n`, { mode: 0o600 })
}
