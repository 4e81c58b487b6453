import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { MeshError, messageOf, parseJson, validate } from '../protocol/index.js'
import { makePrivateDir, readIfThere, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/**
 * That a worker's stores were restored from a backup, or moved here, and were not opened since: restored.json. Others may
 * have more of what it writes than it has itself, so it writes nothing on where it ended. Its first start sees to that and
 * takes the file away.
 */

const FILE = 'restored.json'

const restoredSchema = z.object({
  /** When, in milliseconds since the epoch: later than whatever an earlier restore said. */
  at: z.int().min(0),
})
export type Restored = z.infer<typeof restoredSchema>

/**
 * What was restored here and not opened since; undefined where nothing was.
 * @throws MeshError STORE_INVALID when the file cannot be read or says something else
 */
export function readRestored(workerDir: string): Restored | undefined {
  const path = join(workerDir, FILE)
  const text = readIfThere(path)
  if (text === undefined) return undefined
  try {
    return validate(restoredSchema, parseJson(Buffer.from(text), path), path)
  } catch (err) {
    throw MeshError.STORE_INVALID(`${messageOf(err)}. Restore it anew`, {}, { cause: err })
  }
}

/** Whether anything of a home was restored, or moved here, and not opened since. */
export function isRestored(home: string): boolean {
  const { workersDir } = homeFiles(home)
  const folders = existsSync(workersDir) ? readdirSync(workersDir) : []
  return folders.some((folder) => existsSync(join(workersDir, folder, FILE)))
}

/** The text of the file that says so. */
export function restoredText({ at }: Restored): string {
  return `${JSON.stringify({ at })}\n`
}

/** Says that a worker's stores are to be taken for restored. */
export function writeRestored(workerDir: string, restored: Restored): void {
  makePrivateDir(workerDir)
  writeFileAtomic(join(workerDir, FILE), restoredText(restored), { mode: 0o600 })
}

/** Its first start has seen to it. */
export function removeRestored(workerDir: string): void {
  rmSync(join(workerDir, FILE), { force: true })
}
