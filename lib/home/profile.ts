import { MeshError, type MeshProfile, meshProfileSchema } from '../protocol/index.js'
import { readRecord, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/** How the workers and the clients of a home reach their mesh: mesh.json. */

const ADVICE =
  'Restore it from a backup, or delete it and join again with `infermesh join <invite>`; where the mesh was made, `infermesh up` with the same --network writes it again'

/**
 * The mesh that a home belongs to; undefined while it belongs to none.
 * @throws MeshError CONFIG_INVALID when the file cannot be read or is no profile
 */
export function findProfile(home: string): MeshProfile | undefined {
  return readRecord(homeFiles(home).mesh, meshProfileSchema, ADVICE)
}

/** The mesh that a home belongs to. @throws MeshError CONFIG_INVALID, also when it belongs to none yet */
export function readProfile(home: string): MeshProfile {
  const profile = findProfile(home)
  if (profile !== undefined) return profile
  throw MeshError.CONFIG_INVALID(
    `${home} belongs to no mesh yet: run \`infermesh up\` to make one, or \`infermesh join <invite>\``,
  )
}

/** Keeps how to reach the mesh in the home, for its other workers and the CLI. */
export function writeProfile(home: string, profile: MeshProfile): void {
  writeFileAtomic(homeFiles(home).mesh, `${JSON.stringify(profile, null, 2)}\n`, { mode: 0o644 })
}
