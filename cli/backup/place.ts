import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { type FileHandle, open, readFile, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { isAlive, restoredText } from '../../lib/home/index.js'
import { MeshError, parseJson, printable, systemCode, validate } from '../../lib/protocol/index.js'
import { type Contents, unpack } from './archive.js'

/** Puts a backup in its place: first beside it, then under its name, all at once. */

const STAGING = '.restoring.'
const TAKEN: ReadonlySet<string> = new Set(['ENOTEMPTY', 'EEXIST', 'ENOTDIR'])
/** What the system says of a path that cannot be beside those which there are: no backup of ours has such. */
const NO_PLACE: ReadonlySet<string> = new Set(['EEXIST', 'EISDIR', 'ENAMETOOLONG', 'ENOENT', 'ENOTDIR'])

/** Reads all of a backup without writing anything. @throws MeshError BAD_REQUEST where it is not whole */
export function verify(bytes: AsyncIterable<Buffer>): Promise<Contents> {
  return unpack(bytes, async (_file, chunks) => {
    for await (const _ of chunks);
  })
}

/** @throws MeshError CONFLICT where a home is there that is not empty, CONFIG_INVALID where none can be put there */
export function mustBeEmpty(home: string): void {
  let names: string[]
  try {
    names = readdirSync(home)
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return
    throw systemCode(err) === 'ENOTDIR' ? taken(home) : err
  }
  if (names.length > 0) throw taken(home)
  if (isMountPoint(home)) {
    throw MeshError.CONFIG_INVALID(
      `${home} is a mount point, and no folder can be put in its place: give a --home inside it, such as ${join(home, 'home')}`,
    )
  }
}

/** Something else is mounted there than what its parent lies on: a volume of a container, a disk. */
function isMountPoint(path: string): boolean {
  return statSync(path).dev !== statSync(dirname(path)).dev
}

function taken(home: string): MeshError {
  return MeshError.CONFLICT(
    `${home} is not empty: nothing is restored over what is there. Give another --home, or move that one away first`,
  )
}

/**
 * Writes a home from a backup. Whatever ends this before its end leaves no home, and what it leaves beside the place the
 * next restore takes away.
 * @returns how many files there are, and their bytes
 * @throws MeshError CONFLICT where a home has come to be there meanwhile, and the system's error
 */
export async function place(home: string, bytes: AsyncIterable<Buffer>): Promise<{ files: number; bytes: number }> {
  mkdirSync(dirname(home), { recursive: true })
  removeLeft(home)
  const staging = `${home}${STAGING}${process.pid}`
  mkdirSync(staging, { mode: 0o700 })
  try {
    const sum = { files: 0, bytes: 0 }
    const contents = await unpack(bytes, async ({ path, mode, sizeBytes }, chunks) => {
      const file = await create(staging, path, mode)
      try {
        for await (const chunk of chunks) await file.writeFile(chunk)
        await file.sync()
      } finally {
        await file.close()
      }
      sum.files++
      sum.bytes += sizeBytes
    })
    await tellModels(staging, home, contents)
    await tellWorkers(staging, contents)
    takePlace(staging, home)
    return sum
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
}

async function create(staging: string, path: string, mode: number): Promise<FileHandle> {
  const to = join(staging, ...path.split('/'))
  try {
    mkdirSync(dirname(to), { recursive: true, mode: 0o700 })
    return await open(to, 'wx', mode)
  } catch (err) {
    if (!NO_PLACE.has(systemCode(err) ?? '')) throw err
    throw MeshError.BAD_REQUEST(`The backup has a file that has no place in it: ${printable(path)}`, {}, { cause: err })
  }
}

/** The first start of each worker writes nothing on where others may have more than was restored. */
async function tellWorkers(staging: string, { at, workers }: Contents): Promise<void> {
  const text = restoredText({ at: Math.max(Date.now(), at + 1) })
  for (const { role, name } of workers) {
    const dir = join(staging, 'workers', `${role}-${name}`)
    if (!existsSync(dir)) throw MeshError.BAD_REQUEST(`The backup names the ${role} ${name}, and has no file of it`)
    await writeFile(join(dir, 'restored.json'), text, { mode: 0o600 })
  }
}

/** Models that came along are read from where they lie now. */
async function tellModels(staging: string, home: string, { models }: Contents): Promise<void> {
  for (const worker of new Set(models.flatMap((model) => (model.file === undefined ? [] : [model.worker])))) {
    const path = join(staging, 'workers', worker, 'models.json')
    const where = `the models of ${worker} in the backup`
    if (!existsSync(path)) throw MeshError.BAD_REQUEST(`There are no ${where}`)
    const list = validate(modelListSchema, parseJson(await readFile(path), where), where)
    for (const model of list.models) {
      const packed = models.find((one) => one.worker === worker && one.path === model.path)
      if (packed?.file !== undefined) model.path = join(home, ...packed.file.split('/'))
    }
    await writeFile(path, `${JSON.stringify(list)}\n`)
  }
}

/** A processor's models.json, of which only the paths are changed. */
const modelListSchema = z.looseObject({ models: z.array(z.looseObject({ path: z.string() })) })

function takePlace(staging: string, home: string): void {
  try {
    renameSync(staging, home)
  } catch (err) {
    if (TAKEN.has(systemCode(err) ?? '')) throw taken(home)
    throw err
  }
}

/** Takes away what restores of this home left that were killed. */
function removeLeft(home: string): void {
  const prefix = `${basename(home)}${STAGING}`
  for (const name of existsSync(dirname(home)) ? readdirSync(dirname(home)) : []) {
    const pid = name.startsWith(prefix) ? Number(name.slice(prefix.length)) : Number.NaN
    if (Number.isInteger(pid) && pid > 0 && (pid === process.pid || !isAlive(pid))) {
      rmSync(join(dirname(home), name), { recursive: true, force: true })
    }
  }
}
