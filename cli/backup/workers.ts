import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import DHT from 'hyperdht'
import { homeFiles, identityPath, loadSeed } from '../../lib/home/index.js'
import { encodeKey, nameSchema, roleSchema } from '../../lib/protocol/index.js'
import type { Contents } from './archive.js'

/** The workers that a home has an identity of, whether they run or not. @throws MeshError STORE_INVALID */
export function workersOf(home: string): Contents['workers'] {
  const { workersDir } = homeFiles(home)
  if (!existsSync(workersDir)) return []
  return readdirSync(workersDir).flatMap((folder) => {
    const dir = join(workersDir, folder)
    const at = folder.indexOf('-')
    const role = roleSchema.safeParse(folder.slice(0, at)).data
    const name = nameSchema.safeParse(folder.slice(at + 1)).data
    if (role === undefined || name === undefined || !existsSync(identityPath(dir))) return []
    return [{ role, name, publicKey: encodeKey(DHT.keyPair(loadSeed(dir)).publicKey) }]
  })
}
