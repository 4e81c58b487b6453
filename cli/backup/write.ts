import { randomBytes } from 'node:crypto'
import { linkSync, renameSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { MeshError, systemCode } from '../../lib/protocol/index.js'

/** File systems that know one name for a file only. */
const NO_LINKS: ReadonlySet<string> = new Set(['ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EPERM'])

/**
 * Writes a file that only its owner can read, whole or not at all, and never in the place of another one.
 * @returns its size in bytes
 * @throws MeshError CONFLICT where there is such a file, and the system's error
 */
export async function writeNew(path: string, chunks: AsyncIterable<Buffer>): Promise<number> {
  const partial = `${path}.${randomBytes(4).toString('hex')}.partial`
  const file = await open(partial, 'wx', 0o600)
  try {
    let bytes = 0
    try {
      for await (const chunk of chunks) {
        await file.writeFile(chunk)
        bytes += chunk.byteLength
      }
      await file.sync()
    } finally {
      await file.close()
    }
    give(partial, path)
    return bytes
  } finally {
    rmSync(partial, { force: true })
  }
}

function give(partial: string, path: string): void {
  try {
    linkSync(partial, path)
  } catch (err) {
    if (systemCode(err) === 'EEXIST') throw isThere(path)
    if (!NO_LINKS.has(systemCode(err) ?? '')) throw err
    renameSync(partial, path)
  }
}

/** What to say of a file that is there already. */
export function isThere(path: string): MeshError {
  return MeshError.CONFLICT(`${path} is there already: give another name`)
}
