import { z } from 'zod'
import {
  encodedKeySchema,
  encodeJson,
  MeshError,
  meshProfileSchema,
  nameSchema,
  parseJson,
  roleSchema,
  validate,
} from '../../lib/protocol/index.js'
import { Pieces } from './seal.js'

/** What a backup says once it is decrypted: what it is of, and then its files, each with its path, length and mode. */

/** The longest description of a file, or of the backup. */
const MAX_HEAD_BYTES = 4 * 1024 * 1024
const CHUNK_BYTES = 256 * 1024
const MAX_PATH_CHARS = 1024
const MAX_LISTED = 10_000

const text = z.string().max(MAX_PATH_CHARS * 4)
/** Inside the home, whatever the file says. */
const inside = z
  .string()
  .min(1)
  .max(MAX_PATH_CHARS)
  .refine((path) =>
    path.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && !/[\\\0]/.test(part)),
  )
/** The folder of a worker, such as `processor-p1`. */
const folder = inside.max(200).refine((name) => !name.includes('/'))
const modelSchema = z.object({ worker: folder, name: text, path: text, file: inside.optional() })

/** What a backup is of. */
export const contentsSchema = z.object({
  /** The version of infermesh that wrote it. */
  version: z.string().max(100),
  /** Milliseconds since the epoch. */
  at: z.int().min(0),
  /** The home's path on its machine, and that machine's name. */
  home: text,
  host: text,
  /** How its mesh is reached; absent where the home belongs to none. */
  profile: meshProfileSchema.optional(),
  workers: z.array(z.object({ role: roleSchema, name: nameSchema, publicKey: encodedKeySchema })).max(MAX_LISTED),
  /** Models' files: `file` is where one lies in the backup; absent: left out. */
  models: z.array(modelSchema).max(MAX_LISTED),
})
export type Contents = z.infer<typeof contentsSchema>

const fileSchema = z.object({
  path: inside,
  sizeBytes: z.int().min(0),
  mode: z.int().min(0).max(0o777),
})
export type FileHead = z.infer<typeof fileSchema>

/** A file to be packed: exactly `sizeBytes` come. */
export interface PackedFile extends FileHead {
  chunks: AsyncIterable<Buffer>
}

/** The bytes of a backup. */
export async function* pack(contents: Contents, files: AsyncIterable<PackedFile>): AsyncGenerator<Buffer> {
  yield framed(contents)
  for await (const { path, sizeBytes, mode, chunks } of files) {
    yield framed({ path, sizeBytes, mode })
    yield* chunks
  }
  yield Buffer.alloc(4)
}

/**
 * Reads the bytes of a backup.
 * @param onFile what to do with each file; it reads its chunks to their end
 * @throws MeshError BAD_REQUEST for what is no such thing, and what `onFile` throws
 */
export async function unpack(
  bytes: AsyncIterable<Buffer>,
  onFile: (file: FileHead, chunks: AsyncGenerator<Buffer>, contents: Contents) => Promise<void>,
): Promise<Contents> {
  const source = new Pieces(bytes)
  const contents = validate(contentsSchema, await nextHead(source), 'what the backup says of itself')
  for (let head = await nextHead(source); head !== undefined; head = await nextHead(source)) {
    const file = validate(fileSchema, head, 'a file of the backup')
    await onFile(file, chunksOf(source, file), contents)
  }
  // The stream says only at its very end that it is whole.
  if ((await source.take(1)).byteLength > 0) throw MeshError.BAD_REQUEST('The backup goes on behind its last file')
  return contents
}

function framed(head: object): Buffer {
  const json = Buffer.from(encodeJson(head))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(json.byteLength)
  return Buffer.concat([length, json])
}

/** @returns undefined behind the last file */
async function nextHead(source: Pieces): Promise<unknown> {
  const length = await source.take(4)
  const bytes = length.byteLength === 4 ? length.readUInt32LE() : MAX_HEAD_BYTES + 1
  if (bytes === 0) return undefined
  if (bytes > MAX_HEAD_BYTES) throw MeshError.BAD_REQUEST('The backup does not say where its next file begins')
  return parseJson(await source.take(bytes), 'the backup')
}

async function* chunksOf(source: Pieces, { path, sizeBytes }: FileHead): AsyncGenerator<Buffer> {
  for (let left = sizeBytes; left > 0; ) {
    const chunk = await source.take(Math.min(CHUNK_BYTES, left))
    if (chunk.byteLength === 0) throw MeshError.BAD_REQUEST(`The backup ends in the midst of ${path}`)
    left -= chunk.byteLength
    yield chunk
  }
}
