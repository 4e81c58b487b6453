import type { ChatMessage } from '../../../lib/protocol/index.js'
import type { Item } from './response-input.js'

const MIB = 1024 * 1024
/** Bounds of what one gateway keeps. */
const MAX_PER_KEY = 200
const MAX_BYTES_PER_KEY = 16 * MIB
const MAX_BYTES_PER_USER = 32 * MIB
const MAX_BYTES = 128 * MIB
/** What a value takes besides the characters of its texts. */
const VALUE_BYTES = 16
/** What a character of a string takes at most, whatever its script. */
const CHAR_BYTES = 2

export interface StoredResponse {
  response: { id: string; [field: string]: unknown }
  /** What was sent with it, as items with ids. */
  input: Item[]
  /** All that a response which follows it begins with: inputs and answers, without instructions. */
  messages: ChatMessage[]
}

/** Whose a response is. */
export interface Owner {
  keyId: string
  user: string
}

interface Entry {
  owner: Owner
  stored: StoredResponse
  sizeBytes: number
}

/** What one key or one user has, oldest first. */
class Shelf {
  readonly entries = new Map<string, Entry>()
  sizeBytes = 0
}

/**
 * Responses that can be read again or continued, in this gateway's memory and bounded: by key, by user with all keys, and
 * in all. Past the first two bounds the oldest of the key or user goes; past the last one that of the user who has the
 * most, so that nobody drives out what somebody with less has stored. A response belongs to the key it was made with.
 */
export class ResponseStore {
  readonly #entries = new Map<string, Entry>()
  readonly #keys = new Map<string, Shelf>()
  readonly #users = new Map<string, Shelf>()
  #bytes = 0

  get sizeBytes(): number {
    return this.#bytes
  }

  get(keyId: string, id: string): StoredResponse | undefined {
    const entry = this.#entries.get(id)
    return entry?.owner.keyId === keyId ? entry.stored : undefined
  }

  /** Keeps a response, but for one that is by itself more than a key may have. */
  put(owner: Owner, stored: StoredResponse): void {
    const { id } = stored.response
    // Another key's response of the same id stands: who chooses request ids does not choose whom to overwrite.
    if (this.#entries.has(id) && !this.delete(owner.keyId, id)) return
    const entry = { owner, stored, sizeBytes: bytesOf(stored) }
    if (entry.sizeBytes > MAX_BYTES_PER_KEY) return
    this.#entries.set(id, entry)
    this.#bytes += entry.sizeBytes
    const key = lay(this.#keys, owner.keyId, entry)
    const user = lay(this.#users, owner.user, entry)
    while (key.entries.size > MAX_PER_KEY || key.sizeBytes > MAX_BYTES_PER_KEY) this.#dropOldest(key)
    while (user.sizeBytes > MAX_BYTES_PER_USER) this.#dropOldest(user)
    while (this.#bytes > MAX_BYTES) this.#dropOldest(this.#largest(user))
  }

  /** False where the key has no such response. */
  delete(keyId: string, id: string): boolean {
    const entry = this.#entries.get(id)
    if (entry?.owner.keyId !== keyId) return false
    this.#entries.delete(id)
    this.#bytes -= entry.sizeBytes
    take(this.#keys, keyId, entry)
    take(this.#users, entry.owner.user, entry)
    return true
  }

  #dropOldest({ entries }: Shelf): void {
    for (const [id, { owner }] of entries) {
      this.delete(owner.keyId, id)
      return
    }
  }

  #largest(user: Shelf): Shelf {
    let largest = user
    for (const shelf of this.#users.values()) if (shelf.sizeBytes > largest.sizeBytes) largest = shelf
    return largest
  }
}

function lay(shelves: Map<string, Shelf>, name: string, entry: Entry): Shelf {
  const shelf = shelves.get(name) ?? new Shelf()
  shelves.set(name, shelf)
  shelf.entries.set(entry.stored.response.id, entry)
  shelf.sizeBytes += entry.sizeBytes
  return shelf
}

function take(shelves: Map<string, Shelf>, name: string, entry: Entry): void {
  const shelf = shelves.get(name)
  if (!shelf?.entries.delete(entry.stored.response.id)) return
  shelf.sizeBytes -= entry.sizeBytes
  if (shelf.entries.size === 0) shelves.delete(name)
}

/** About what a value takes in memory, without making a text of it. The depth of what is stored is bounded. */
function bytesOf(value: unknown): number {
  if (typeof value === 'string') return VALUE_BYTES + value.length * CHAR_BYTES
  if (value === null || typeof value !== 'object') return VALUE_BYTES
  let bytes = VALUE_BYTES
  for (const [name, member] of Object.entries(value)) bytes += name.length * CHAR_BYTES + bytesOf(member)
  return bytes
}
