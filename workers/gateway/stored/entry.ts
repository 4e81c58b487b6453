import type { StoredObject } from '../../../lib/protocol/index.js'
import type { Shelved } from './shelves.js'

/** What a small file takes of a disk. */
const BLOCK_BYTES = 4096

/** What this gateway knows of something without reading it. */
export interface Entry extends Shelved {
  readonly id: string
  readonly kind: StoredObject['kind']
  readonly createdAt: number
  readonly model: string
  readonly tags: readonly string[]
  readonly background: boolean
}

/** Where something stands in a list: what is made later stands behind, or before. */
export function cursorOf({ createdAt, id }: { createdAt: number; id: string }, order: 'asc' | 'desc'): string {
  const time = order === 'asc' ? createdAt : Number.MAX_SAFE_INTEGER - createdAt
  return `${String(time).padStart(16, '0')}.${id}`
}

/** @param key its file's name */
export function entryOf(key: string, head: StoredObject, sizeBytes: number): Entry {
  const { id, kind, keyId, user, createdAt, model, tags, background = false } = head
  const size = Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES
  return { key, owner: { keyId, user }, id, kind, createdAt, model, tags, background, sizeBytes: size }
}

/** The parts of what is behind a file's first line. */
export function partsOf({ parts }: StoredObject, bytes: Buffer): [StoredObject['parts'][number]['name'], string][] {
  let at = 0
  return parts.map(({ name, sizeBytes }) => {
    at += sizeBytes
    return [name, bytes.toString('utf8', at - sizeBytes, at)]
  })
}
