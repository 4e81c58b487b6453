import { type MeshClient, MeshError } from '../../lib/client/index.js'

/**
 * Says that there is no such user, where whoever asks may know: an empty list of a name that is misspelt would not.
 * @throws MeshError NOT_FOUND
 */
export async function mustBeUser(mesh: MeshClient, name: string, signal: AbortSignal): Promise<void> {
  const users = await mesh.admin.users.list({ name }, { signal }).catch((err: unknown) => {
    if (err instanceof MeshError && err.code === 'FORBIDDEN') return undefined
    throw err
  })
  if (users?.length === 0) throw MeshError.NOT_FOUND(`No user is named ${name}: \`infermesh users ls\` lists them`)
}
