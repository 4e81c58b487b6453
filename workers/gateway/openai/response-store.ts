import type { ChatMessage } from '../../../lib/protocol/index.js'
import type { Item } from './response-input.js'

/** Bounds of what one gateway keeps. The oldest go first. */
const MAX_PER_KEY = 200
const MAX_BYTES_PER_KEY = 16 * 1024 * 1024
const MAX_BYTES = 128 * 1024 * 1024

export interface StoredResponse {
  response: { id: string; [field: string]: unknown }
  /** What was sent with it, as items with ids. */
  input: Item[]
  /** All that a response which follows it begins with: inputs and answers, without instructions. */
  messages: ChatMessage[]
}

interface Entry {
  keyId: string
  stored: StoredResponse
  sizeBytes: number
}

/**
 * Responses that can be read again or continued, in this gateway's memory and bounded: by key, so that nobody drives out
 * what another stored, and in all. A response belongs to the key it was made with.
 */
export class ResponseStore {
  /** By id, oldest first. */
  readonly #entries = new Map<string, Entry>()
  readonly #keys = new Map<string, Map<string, Entry>>()
  #bytes = 0

  get sizeBytes(): number {
    return this.#bytes
  }

  get(keyId: string, id: string): StoredResponse | undefined {
    const entry = this.#entries.get(id)
    return entry?.keyId === keyId ? entry.stored : undefined
  }

  put(keyId: string, stored: StoredResponse): void {
    const { id } = stored.response
    // Another key's response of the same id stands: who chooses request ids does not choose whom to overwrite.
    if (this.#entries.has(id) && !this.delete(keyId, id)) return
    // Two bytes a character is what a string of any script takes at most.
    const entry = { keyId, stored, sizeBytes: JSON.stringify(stored).length * 2 }
    const own = this.#keys.get(keyId) ?? new Map<string, Entry>()
    this.#keys.set(keyId, own)
    own.set(id, entry)
    this.#entries.set(id, entry)
    this.#bytes += entry.sizeBytes
    let ownBytes = [...own.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
    for (const [oldest, { sizeBytes }] of own) {
      if (own.size <= MAX_PER_KEY && ownBytes <= MAX_BYTES_PER_KEY) break
      ownBytes -= sizeBytes
      this.delete(keyId, oldest)
    }
    for (const [oldest, { keyId: owner }] of this.#entries) {
      if (this.#bytes <= MAX_BYTES) break
      this.delete(owner, oldest)
    }
  }

  /** False where the key has no such response. */
  delete(keyId: string, id: string): boolean {
    const entry = this.#entries.get(id)
    if (entry?.keyId !== keyId) return false
    this.#entries.delete(id)
    this.#bytes -= entry.sizeBytes
    const own = this.#keys.get(keyId)
    own?.delete(id)
    if (own?.size === 0) this.#keys.delete(keyId)
    return true
  }
}
