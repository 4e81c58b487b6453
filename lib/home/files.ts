import {
  closeSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import type { z } from 'zod'
import { MeshError, messageOf, parseJson, systemCode, validate } from '../protocol/index.js'

/** How files of a home are written and read. */

/** Folders cannot be opened or synced on Windows, and some file systems refuse it. */
const NO_FOLDER_SYNC: ReadonlySet<string> = new Set(['EACCES', 'EINVAL', 'EISDIR', 'ENOTSUP', 'EPERM'])

/** Why a folder cannot be made where somebody wants it, by the system's code. */
const NOT_HERE: Readonly<Record<string, string>> = {
  EACCES: 'that is not allowed',
  EPERM: 'that is not allowed',
  EROFS: 'the file system is read-only',
  ENOTDIR: 'a part of the path is a file',
  EEXIST: 'a file is there',
}

interface WriteOptions {
  mode?: number
  lasting?: boolean
}

/**
 * Writes a file whole or not at all: a reader meets the old content or the new one, also where the machine loses power.
 * @param options.mode the file's mode whatever the umask is: 0o600 for anything secret. Absent: as the umask says
 * @param options.lasting false where the content can be made anew: then nothing waits for the disk. A power cut may leave
 * a file without content
 * @throws the system's error; the old content is as it was where the new one could not be written
 */
export function writeFileAtomic(path: string, text: string, { mode, lasting = true }: WriteOptions = {}): void {
  const temporary = `${path}.${process.pid}.tmp`
  // One that a killed process of the same number left may be open to others.
  rmSync(temporary, { force: true })
  try {
    const file = openSync(temporary, 'wx', mode ?? 0o666)
    try {
      if (mode !== undefined) fchmodSync(file, mode)
      writeFileSync(file, text)
      // Without it a file system may keep the new name and lose what was written under it.
      if (lasting) fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (err) {
    rmSync(temporary, { force: true })
    throw err
  }
  if (lasting) syncFolder(dirname(path))
}

/** Makes the names in a folder last. */
function syncFolder(path: string): void {
  try {
    const folder = openSync(path, 'r')
    try {
      fsyncSync(folder)
    } finally {
      closeSync(folder)
    }
  } catch (err) {
    if (!NO_FOLDER_SYNC.has(systemCode(err) ?? '')) throw err
  }
}

/** Makes a directory that only its owner can enter. @throws MeshError CONFIG_INVALID where it cannot be there */
export function makePrivateDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  } catch (err) {
    const reason = NOT_HERE[systemCode(err) ?? '']
    if (reason === undefined) throw err
    throw MeshError.CONFIG_INVALID(
      `${path} cannot be made: ${reason}. Choose another place with --home, or run this as whom it belongs to`,
      { path },
      { cause: err },
    )
  }
}

/**
 * The text of a file; undefined where there is none.
 * @throws MeshError CONFIG_INVALID when it is there and cannot be read
 */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return undefined
    throw unreadable(path, err)
  }
}

/** What every reader says of a file that is there and cannot be read. */
export function unreadable(path: string, err: unknown, code: 'CONFIG_INVALID' | 'STORE_INVALID' = 'CONFIG_INVALID') {
  return MeshError[code](
    `${path} cannot be read: ${messageOf(err)}. Run this as the user whom it belongs to, or restore it from a backup`,
    {},
    { cause: err },
  )
}

/**
 * What a JSON file of a home says; undefined where there is none.
 * @param advice what to do about a file that says something else
 * @throws MeshError CONFIG_INVALID with the file, what was expected and the advice
 */
export function readRecord<T extends z.ZodType>(path: string, schema: T, advice: string): z.output<T> | undefined {
  const text = readIfThere(path)
  if (text === undefined) return undefined
  try {
    return validate(schema, parseJson(Buffer.from(text), path), path)
  } catch (err) {
    throw MeshError.CONFIG_INVALID(`${messageOf(err)}. ${advice}`, {}, { cause: err })
  }
}
