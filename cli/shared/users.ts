import type { MeshClient } from '../../lib/client/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { command } from './hints.js'

/** What to say of a user that is not there. */
export function noSuchUser(name: string, home: string): MeshError {
  return MeshError.NOT_FOUND(`No user is named ${name}: ${command('users ls', home)} lists them`)
}

/**
 * Says that there is no such user, where whoever asks may know: an empty list of a name that is misspelt would not.
 * @throws MeshError NOT_FOUND
 */
export async function mustBeUser(mesh: MeshClient, name: string, home: string, signal: AbortSignal): Promise<void> {
  const users = await mesh.admin.users.list({ name }, { signal }).catch((err: unknown) => {
    if (err instanceof MeshError && err.code === 'FORBIDDEN') return undefined
    throw err
  })
  if (users?.length === 0) throw noSuchUser(name, home)
}
