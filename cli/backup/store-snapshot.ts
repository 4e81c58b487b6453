import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshError, systemCode } from '../../lib/protocol/index.js'

/**
 * A store as it is at one moment, while its worker goes on writing. RocksDB keeps a store in tables, which are never changed
 * once they are in its manifest, and appends to two kinds of files only: the manifest and the log of what is not in a table
 * yet. So all its files are opened, and where no file came or went and the manifest is as long as before meanwhile, those
 * tables, that manifest and the log up to its length at that moment are the store at that moment, as a process that is
 * killed there leaves it. A file that is deleted later can still be read by who has it open.
 */

export interface OpenFile {
  name: string
  file: FileHandle
  sizeBytes: number
}

/** Of a store, what RocksDB writes only for people or for itself while it runs. */
const LEFT_OUT = /^(LOCK|LOG(\.old.*)?|.*\.dbtmp)$/
const MANIFEST = /^MANIFEST-/
/** Tables are written now and then, and opening takes a few milliseconds. */
const ATTEMPTS = 200
const PAUSE_MS = 10

/**
 * Opens the files of a store as it is at one moment. Close them.
 * @throws MeshError BUSY where the store was not still for those milliseconds
 */
export async function openStore(dir: string): Promise<OpenFile[]> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const files = await openAtOnce(dir)
    if (files !== undefined) return files
    await sleep(PAUSE_MS)
  }
  throw MeshError.BUSY(`${dir} changes too fast to be copied. Try again when there is less to do`)
}

async function openAtOnce(dir: string): Promise<OpenFile[] | undefined> {
  const opened: OpenFile[] = []
  try {
    const before = await look(dir)
    for (const name of before.names) {
      const file = await open(join(dir, name), 'r')
      opened.push({ name, file, sizeBytes: 0 })
    }
    for (const one of opened) one.sizeBytes = (await one.file.stat()).size
    const after = await look(dir)
    if (JSON.stringify(before) === JSON.stringify(after)) return opened
  } catch (err) {
    // Deleted between the look and its opening.
    if (systemCode(err) !== 'ENOENT') {
      await closeAll(opened)
      throw err
    }
  }
  await closeAll(opened)
  return undefined
}

async function look(dir: string) {
  const names = (await readdir(dir)).filter((name) => !LEFT_OUT.test(name)).sort()
  const manifests = names.filter((name) => MANIFEST.test(name))
  const sizes = await Promise.all(manifests.map(async (name) => (await stat(join(dir, name))).size))
  const current = names.includes('CURRENT') ? await readFile(join(dir, 'CURRENT'), 'utf8') : ''
  return { names, sizes, current }
}

export async function closeAll(files: readonly OpenFile[]): Promise<void> {
  for (const { file } of files) await file.close()
}

const CHUNK_BYTES = 256 * 1024

/** The first `sizeBytes` of an open file. @throws MeshError INTERNAL where it is shorter by now */
export async function* contentOf({ name, file, sizeBytes }: OpenFile): AsyncGenerator<Buffer> {
  for (let at = 0; at < sizeBytes; ) {
    const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, sizeBytes - at))
    const { bytesRead } = await file.read(chunk, 0, chunk.byteLength, at)
    if (bytesRead === 0) throw MeshError.INTERNAL(`${name} became shorter while it was read. Try again`)
    at += bytesRead
    yield chunk.subarray(0, bytesRead)
  }
}
