import { createReadStream, existsSync } from 'node:fs'
import { lstat, open, readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { homeFiles } from '../../lib/home/index.js'
import { MeshError, messageOf, parseJson, systemCode, validate } from '../../lib/protocol/index.js'
import type { Contents, PackedFile } from './archive.js'
import { hasMagic, headBytes } from './seal.js'
import { closeAll, contentOf, type OpenFile, openStore } from './store-snapshot.js'

/**
 * A home as a backup holds it. Each worker's files are of one moment, also while the worker runs. Workers are not of the
 * same moment among each other: what is restored writes on where nobody else can have anything else, see `restoredAt`.
 */

/** What other processes write for themselves, or is made anew by the next start. */
const LEFT_OUT = /(^|\/)(store\.pid|engines\.json|restored\.json|supervisor\.json|CORESTORE[^/]*|.*\.tmp|.*\.partial)$/
const TOP_LEFT_OUT: ReadonlySet<string> = new Set(['logs', 'status', 'workers', 'models'])
/** Files that say how the store is to be read: where one changed while that was opened, both are read again. */
const SAME = ['accounts.key', 'journals.json', 'totals.kept.json']
const ATTEMPTS = 20
/** Files of a folder that is no store: written whole, under a name of their own. */
const STORE = 'store'

/** A file that was read already: the moment counts. */
interface ReadFile {
  path: string
  mode: number
  bytes: Buffer
}

export interface Snapshot {
  /** Where a home's models lie that are not in it. */
  models: Contents['models']
  files: AsyncIterable<PackedFile>
  close(): Promise<void>
}

/** @param withModels whether the files of models that were added go in, too. @throws MeshError BUSY, or the system's error */
export async function snapshot(home: string, { withModels }: { withModels: boolean }): Promise<Snapshot> {
  const { workersDir } = homeFiles(home)
  const read: ReadFile[] = []
  const later: string[] = []
  const stores: { path: string; file: OpenFile }[] = []
  const close = () => closeAll(stores.map(({ file }) => file))
  try {
    for (const name of await foldersOf(workersDir)) {
      const taken = await takeWorker(join(workersDir, name))
      const at = (path: string) => `workers/${name}/${path}`
      for (const file of taken.read) read.push({ ...file, path: at(file.path) })
      for (const path of taken.later) later.push(at(path))
      for (const file of taken.store) stores.push({ path: at(`${STORE}/db/${file.name}`), file })
    }
    for (const name of await namesOf(home)) {
      if (TOP_LEFT_OUT.has(name) || LEFT_OUT.test(name)) continue
      for (const path of await filesUnder(home, name)) {
        // Each would hold all those before it, and be twice as large as the last.
        if (!(await isBackup(join(home, path)))) read.push(await readWhole(home, path))
      }
    }
  } catch (err) {
    await close()
    throw err
  }
  const models = modelsOf(read, withModels)
  const files = async function* (): AsyncGenerator<PackedFile> {
    for (const { path, mode, bytes } of read) yield { path, mode, sizeBytes: bytes.byteLength, chunks: once(bytes) }
    for (const { path, file } of stores) yield { path, mode: 0o600, sizeBytes: file.sizeBytes, chunks: contentOf(file) }
    for (const path of later) yield* readLater(join(home, path), path)
    for (const { path, file } of models) if (file !== undefined) yield* modelFiles(path, file)
  }
  return { models, files: files(), close }
}

interface Taken {
  read: ReadFile[]
  /** Written whole, once: read when their turn comes. */
  later: string[]
  store: OpenFile[]
}

/** A worker's files, all of one moment. */
async function takeWorker(dir: string): Promise<Taken> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    // The store last: records that leave the write-ahead log are in it by then, and none is in neither.
    const read = await readOwn(dir)
    const db = join(dir, STORE, 'db')
    const store = existsSync(db) ? await openStore(db) : []
    const after = await readOwn(dir)
    const said = (files: ReadFile[]) =>
      files.filter(({ path }) => SAME.includes(path)).map(({ path, bytes }) => `${path} ${bytes.toString('base64')}`)
    if (said(read).join() === said(after).join()) {
      const folders = (await foldersOf(dir)).filter((name) => name !== STORE)
      const later = (await Promise.all(folders.map((name) => filesUnder(dir, name)))).flat()
      return { read, later, store }
    }
    await closeAll(store)
  }
  throw MeshError.BUSY(`${dir} changes too fast to be copied. Try again when there is less to do`)
}

/** A worker's own files, without its folders. Totals come first: they may be older than the records, and never newer. */
async function readOwn(dir: string): Promise<ReadFile[]> {
  const all = (await readdir(dir, { withFileTypes: true })).filter((one) => one.isFile() && !LEFT_OUT.test(one.name))
  const names = all
    .map(({ name }) => name)
    .sort((a, b) => Number(isTotals(b)) - Number(isTotals(a)) || a.localeCompare(b))
  const files: ReadFile[] = []
  for (const name of names) {
    try {
      files.push(await readWhole(dir, name))
    } catch (err) {
      if (systemCode(err) !== 'ENOENT') throw err
    }
  }
  return files
}

const isTotals = (name: string): boolean => name.startsWith('totals.')

async function readWhole(dir: string, path: string): Promise<ReadFile> {
  const file = await open(join(dir, path), 'r')
  try {
    return { path, mode: (await file.stat()).mode & 0o777, bytes: await file.readFile() }
  } finally {
    await file.close()
  }
}

async function isBackup(path: string): Promise<boolean> {
  const file = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, 0)
    return hasMagic(buffer.subarray(0, bytesRead))
  } finally {
    await file.close()
  }
}

/** A file that may be gone by now. */
async function* readLater(from: string, path: string): AsyncGenerator<PackedFile> {
  let file: OpenFile
  try {
    file = { name: path, file: await open(from, 'r'), sizeBytes: 0 }
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return
    throw err
  }
  try {
    const { size, mode } = await file.file.stat()
    file.sizeBytes = size
    yield { path, mode: mode & 0o777, sizeBytes: size, chunks: contentOf(file) }
  } finally {
    await file.file.close()
  }
}

// --- models ---

const listSchema = z.object({ models: z.array(z.object({ name: z.string(), path: z.string() })) })
const PART = /-\d{5}-of-\d{5}\.gguf$/i

/** Models that were added to the processors of the home, and where each lies in the backup. */
function modelsOf(read: readonly ReadFile[], withModels: boolean): Contents['models'] {
  return read.flatMap(({ path, bytes }) => {
    const worker = /^workers\/([^/]+)\/models\.json$/.exec(path)?.[1]
    if (worker === undefined) return []
    const { models } = readList(bytes, path)
    return models.map((model) => ({
      worker,
      name: model.name,
      path: model.path,
      ...(withModels && { file: `models/${worker}/${basename(model.path)}` }),
    }))
  })
}

/** @throws MeshError STORE_INVALID: which of them belong into the backup nobody can say */
function readList(bytes: Buffer, path: string): z.infer<typeof listSchema> {
  try {
    return validate(listSchema, parseJson(bytes, path), path)
  } catch (err) {
    throw MeshError.STORE_INVALID(
      `${messageOf(err)}. Delete it, and add the models anew with \`infermesh models add\``,
      {},
      { cause: err },
    )
  }
}

/** A model's file, and the others where it comes in several. */
async function* modelFiles(path: string, file: string): AsyncGenerator<PackedFile> {
  const stem = basename(path).replace(PART, '')
  const all = PART.test(path)
    ? (await readdir(dirname(path))).filter((name) => PART.test(name) && name.replace(PART, '') === stem)
    : [basename(path)]
  for (const name of all) {
    const from = join(dirname(path), name)
    const { size } = await stat(from).catch(() => {
      throw MeshError.NOT_FOUND(
        `The model file ${from} is not there: leave --with-models out, or remove the model first`,
      )
    })
    yield {
      path: `${dirname(file)}/${name}`,
      mode: 0o644,
      sizeBytes: size,
      chunks: createReadStream(from, { end: size - 1 }),
    }
  }
}

// --- folders ---

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}

async function namesOf(dir: string): Promise<string[]> {
  try {
    return await readdir(dir)
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return []
    throw err
  }
}

async function foldersOf(dir: string): Promise<string[]> {
  if (!existsSync(dir)) return []
  return (await readdir(dir, { withFileTypes: true })).filter((one) => one.isDirectory()).map(({ name }) => name)
}

/** Plain files of a folder and all below it, or the file itself, as paths from `root` with slashes. */
async function filesUnder(root: string, name: string): Promise<string[]> {
  const found = await lstat(join(root, name))
  if (!found.isDirectory()) return found.isFile() ? [name] : []
  const inside = await Promise.all((await readdir(join(root, name))).map((one) => filesUnder(root, `${name}/${one}`)))
  return inside.flat().filter((file) => !LEFT_OUT.test(file))
}
