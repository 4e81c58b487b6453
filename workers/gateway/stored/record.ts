import { createHash, type Hash } from 'node:crypto'
import {
  parseJson,
  type StoredObject,
  type StoredPart,
  type StoredView,
  storedObjectSchema,
  validate,
} from '../../../lib/protocol/index.js'
import type { Owner } from './shelves.js'

/** How something lies in its file: a line of JSON that says what it is, then its parts. */

/** Something to keep. */
export interface Draft extends Pick<StoredObject, 'id' | 'kind' | 'createdAt' | 'model' | 'tags'> {
  pending?: boolean
  background?: boolean
  /** Each in pieces: a long one is encoded bit by bit. */
  parts: Partial<Record<StoredPart, Iterable<string>>>
}

/** Longest first line. */
export const MAX_HEAD_BYTES = 8 * 1024
/** Longer than what a body of the usual bound, its answer and its history come to. */
export const MAX_STORED_BYTES = 8 * 1024 * 1024
/** As much is encoded before others have a turn. */
const CHUNK_CHARS = 128 * 1024
const NEWLINE = 0x0a

/** The parts that make a view, in their order in the file, where they are neighbours. */
const VIEWS: Record<StoredView, readonly StoredPart[]> = {
  object: ['metadata', 'object'],
  items: ['items'],
  history: ['history'],
}
const ORDER: readonly StoredPart[] = ['metadata', 'object', 'items', 'history']

/** A file's name: of the key and the id, neither of which a file system may like. */
export function fileName(keyId: string, id: string): string {
  return createHash('sha256').update(`${keyId}\n${id}`).digest('hex').slice(0, 40)
}

interface Encoded {
  head: StoredObject
  /** The whole file. */
  chunks: Buffer[]
  sizeBytes: number
}

/** A draft as its file; undefined where it is longer than anything may be. */
export async function encodeRecord(owner: Owner, draft: Draft): Promise<Encoded | undefined> {
  const chunks: Buffer[] = []
  const parts: StoredObject['parts'] = []
  let total = 0
  for (const name of ORDER) {
    const pieces = draft.parts[name]
    if (pieces === undefined) continue
    const hash = createHash('sha256')
    let sizeBytes = 0
    for await (const chunk of chunksOf(pieces)) {
      hash.update(chunk)
      chunks.push(chunk)
      sizeBytes += chunk.byteLength
      if (total + sizeBytes > MAX_STORED_BYTES) return undefined
    }
    total += sizeBytes
    parts.push({ name, sizeBytes, digest: hash.digest('base64url') })
  }
  const { id, kind, createdAt, model, tags, pending, background } = draft
  const head: StoredObject = {
    version: 1,
    id,
    kind,
    ...owner,
    createdAt,
    model,
    tags,
    ...(pending && { pending }),
    ...(background && { background }),
    parts,
  }
  const line = Buffer.from(`${JSON.stringify(head)}\n`)
  if (line.byteLength > MAX_HEAD_BYTES) return undefined
  return { head, chunks: [line, ...chunks], sizeBytes: line.byteLength + total }
}

async function* chunksOf(pieces: Iterable<string>): AsyncGenerator<Buffer> {
  let waiting: string[] = []
  let chars = 0
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      // Half of a pair of surrogates would be lost at the end of a chunk.
      let end = Math.min(piece.length, at + CHUNK_CHARS)
      if (end < piece.length && isHighSurrogate(piece.charCodeAt(end - 1))) end++
      waiting.push(piece.slice(at, end))
      chars += end - at
      at = end
      if (chars < CHUNK_CHARS) continue
      yield Buffer.from(waiting.join(''))
      waiting = []
      chars = 0
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  if (chars > 0) yield Buffer.from(waiting.join(''))
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff
}

/**
 * The first line of a file, and how long it is.
 * @param bytes its beginning
 * @throws MeshError STORE_INVALID
 */
export function readHead(bytes: Buffer): { head: StoredObject; headBytes: number } {
  const end = bytes.indexOf(NEWLINE)
  const line = bytes.subarray(0, Math.max(end, 0))
  return {
    head: validate(storedObjectSchema, parseJson(line, 'The file'), 'stored object', 'STORE_INVALID'),
    headBytes: line.byteLength + 1,
  }
}

/** How long a file is whose first line has this length. */
export function fileBytes({ parts }: StoredObject, headBytes: number): number {
  return parts.reduce((sum, part) => sum + part.sizeBytes, headBytes)
}

/** Where a view lies behind the first line; of length 0 where there is none. */
export function placeOf({ parts }: StoredObject, view: StoredView): { offset: number; sizeBytes: number } {
  let offset = 0
  let sizeBytes = 0
  for (const part of parts) {
    if (VIEWS[view].includes(part.name)) sizeBytes += part.sizeBytes
    else if (sizeBytes === 0) offset += part.sizeBytes
  }
  return { offset, sizeBytes }
}

/** Whether a view's bytes are those that were written. */
export async function isWhole({ parts }: StoredObject, view: StoredView, bytes: Buffer): Promise<boolean> {
  let at = 0
  for (const { name, sizeBytes, digest } of parts) {
    if (!VIEWS[view].includes(name)) continue
    const hash = createHash('sha256')
    const end = at + sizeBytes
    for (; at < end; at = Math.min(at + CHUNK_CHARS, end)) {
      await updateApart(hash, bytes.subarray(at, Math.min(at + CHUNK_CHARS, end)), at > 0)
    }
    if (hash.digest('base64url') !== digest) return false
  }
  return at === bytes.byteLength
}

async function updateApart(hash: Hash, bytes: Buffer, isLater: boolean): Promise<void> {
  if (isLater) await new Promise((resolve) => setImmediate(resolve))
  hash.update(bytes)
}
