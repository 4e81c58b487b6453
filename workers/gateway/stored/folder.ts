import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError, type StoredObject, type StoredView, systemCode } from '../../../lib/protocol/index.js'
import { fileBytes, isWhole, MAX_HEAD_BYTES, placeOf, readHead } from './record.js'

const TEMPORARY = '.tmp'
/** As many files are looked at side by side when a gateway starts. */
const SCANS = 8
/** What is read at once: the first line, and all of what is short. */
const FIRST_BYTES = 64 * 1024

/** A file whose first line was read. */
export interface Scanned {
  name: string
  head: StoredObject
  sizeBytes: number
}

/** The folder that a gateway keeps things in: one file for each, which only the machine's owner can read. */
export class Folder {
  readonly #dir: string
  #written = 0

  constructor(dir: string) {
    this.#dir = dir
  }

  /**
   * Looks at all files that are there. What a killed process was writing is taken away.
   * @param found told of each file that holds what its first line says
   * @param unreadable told of each that does not, with its time in milliseconds since the epoch
   */
  async scan(
    found: (file: Scanned) => void,
    unreadable: (name: string, changedAt: number, err: unknown) => void,
  ): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    const all = await readdir(this.#dir, { withFileTypes: true })
    // Nothing else is ours, and opening a pipe would wait for its writer.
    const names = all.filter((one) => one.isFile()).map(({ name }) => name)
    const look = async (): Promise<void> => {
      for (let name = names.pop(); name !== undefined; name = names.pop()) {
        if (name.endsWith(TEMPORARY)) await this.remove(name).catch((err: unknown) => unreadable(name, Date.now(), err))
        else await this.#look(name, found, unreadable)
      }
    }
    await Promise.all(Array.from({ length: SCANS }, look))
  }

  async #look(name: string, found: (file: Scanned) => void, unreadable: (...what: [string, number, unknown]) => void) {
    let changedAt = 0
    try {
      await this.#reading(name, async (file) => {
        const { size, mtimeMs } = await file.stat()
        changedAt = mtimeMs
        const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_HEAD_BYTES), 0, MAX_HEAD_BYTES, 0)
        const { head, headBytes } = readHead(buffer.subarray(0, bytesRead))
        if (fileBytes(head, headBytes) !== size)
          throw MeshError.STORE_INVALID('The file has another length than it says')
        found({ name, head, sizeBytes: size })
      })
    } catch (err) {
      unreadable(name, changedAt, err)
    }
  }

  /** Writes a file whole or not at all. @throws the system's error */
  async write(name: string, chunks: readonly Buffer[]): Promise<void> {
    const temporary = join(this.#dir, `${name}.${this.#written++}${TEMPORARY}`)
    try {
      const file = await open(temporary, 'w', 0o600)
      try {
        // Whatever the umask is.
        await file.chmod(0o600)
        for (const chunk of chunks) await writeAll(file, chunk)
      } finally {
        await file.close()
      }
      await rename(temporary, join(this.#dir, name))
    } catch (err) {
      await rm(temporary, { force: true })
      throw err
    }
  }

  /** Takes a file away; one that is not there is no failure. @throws the system's error */
  remove(name: string): Promise<void> {
    return rm(join(this.#dir, name), { force: true })
  }

  /**
   * What a file says of itself, and a view of it, from an offset on and at most so long. A whole view is checked.
   * @returns undefined where there is no such file
   * @throws MeshError STORE_INVALID where it is damaged, the system's error where it cannot be read
   */
  async read(
    name: string,
    view: StoredView,
    { offset = 0, most = Number.POSITIVE_INFINITY } = {},
  ): Promise<{ head: StoredObject; bytes: Buffer } | undefined> {
    return this.#reading(name, async (file) => {
      const { size } = await file.stat()
      const beginning = await readFrom(file, 0, Math.min(FIRST_BYTES, size))
      const { head, headBytes } = readHead(beginning)
      if (fileBytes(head, headBytes) !== size) throw MeshError.STORE_INVALID('The file has another length than it says')
      const place = placeOf(head, view)
      const start = headBytes + place.offset + Math.min(offset, place.sizeBytes)
      const end = Math.min(headBytes + place.offset + place.sizeBytes, start + most)
      const bytes =
        end <= beginning.byteLength ? beginning.subarray(start, end) : await readFrom(file, start, end - start)
      if (bytes.byteLength === place.sizeBytes && !(await isWhole(head, view, bytes))) {
        throw MeshError.STORE_INVALID('The file is damaged')
      }
      return { head, bytes }
    })
  }

  /** All that is behind the first line. @throws as `read` does */
  async readParts(name: string): Promise<{ head: StoredObject; bytes: Buffer } | undefined> {
    return this.#reading(name, async (file) => {
      const { size } = await file.stat()
      const { head, headBytes } = readHead(await readFrom(file, 0, Math.min(MAX_HEAD_BYTES, size)))
      if (fileBytes(head, headBytes) !== size) throw MeshError.STORE_INVALID('The file has another length than it says')
      return { head, bytes: await readFrom(file, headBytes, size - headBytes) }
    })
  }

  async #reading<T>(name: string, work: (file: FileHandle) => Promise<T>): Promise<T | undefined> {
    let file: FileHandle
    try {
      file = await open(join(this.#dir, name), 'r')
    } catch (err) {
      if (systemCode(err) === 'ENOENT') return undefined
      throw err
    }
    try {
      return await work(file)
    } finally {
      await file.close()
    }
  }
}

async function readFrom(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, length - at, position + at)
    if (bytesRead === 0) throw MeshError.STORE_INVALID('The file is shorter than it says')
    at += bytesRead
  }
  return bytes
}

async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.byteLength; ) at += (await file.write(bytes, at)).bytesWritten
}
