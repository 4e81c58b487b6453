/** Bounds of what one gateway keeps. */
export interface ShelfBounds {
  /** Things of one key. */
  perKey: number
  /** Things of all keys of a user. */
  perUser: number
  /** Things in all. */
  inAll: number
  bytesPerKey: number
  bytesPerUser: number
  bytesInAll: number
}

/** Whose something is. */
export interface Owner {
  keyId: string
  user: string
}

/** Something that is kept, as far as the bounds look at it. */
export interface Shelved {
  /** Its own among all that this gateway keeps. */
  readonly key: string
  readonly owner: Owner
  readonly sizeBytes: number
}

/** What one key or one user has, oldest first. */
class Shelf<E extends Shelved> {
  readonly entries = new Map<string, E>()
  sizeBytes = 0
}

/**
 * What is kept, and what has to go: past the bounds of a key or a user the oldest of it, past those in all the oldest of
 * the user who has the most, so that nobody drives out what somebody with less has stored.
 */
export class Shelves<E extends Shelved> {
  readonly #bounds: ShelfBounds
  readonly #entries = new Map<string, E>()
  readonly #keys = new Map<string, Shelf<E>>()
  readonly #users = new Map<string, Shelf<E>>()
  #bytes = 0

  constructor(bounds: ShelfBounds) {
    this.#bounds = bounds
  }

  get sizeBytes(): number {
    return this.#bytes
  }

  /** All that is kept. */
  values(): Iterable<E> {
    return this.#entries.values()
  }

  get count(): number {
    return this.#entries.size
  }

  get(key: string): E | undefined {
    return this.#entries.get(key)
  }

  /** What a key has, oldest first. */
  of(keyId: string): Iterable<E> {
    return this.#keys.get(keyId)?.entries.values() ?? []
  }

  /** Whose things there are, each with its oldest. */
  *owners(): Iterable<E> {
    for (const { entries } of this.#keys.values()) for (const entry of first(entries)) yield entry
  }

  /** Whether something of this size could be kept at all. */
  fits(sizeBytes: number): boolean {
    const { perKey, perUser, inAll, bytesPerKey, bytesPerUser, bytesInAll } = this.#bounds
    return Math.min(perKey, perUser, inAll) > 0 && sizeBytes <= Math.min(bytesPerKey, bytesPerUser, bytesInAll)
  }

  /** Lays something in, in place of what had its key. @returns what had to go for it */
  put(entry: E): E[] {
    const { perKey, perUser, inAll, bytesPerKey, bytesPerUser, bytesInAll } = this.#bounds
    const gone: E[] = []
    this.delete(entry.key)
    this.#entries.set(entry.key, entry)
    this.#bytes += entry.sizeBytes
    const key = lay(this.#keys, entry.owner.keyId, entry)
    const user = lay(this.#users, entry.owner.user, entry)
    while (key.entries.size > perKey || key.sizeBytes > bytesPerKey) gone.push(...this.#dropOldest(key))
    while (user.entries.size > perUser || user.sizeBytes > bytesPerUser) gone.push(...this.#dropOldest(user))
    while (this.#entries.size > inAll)
      gone.push(...this.#dropOldest(this.#largest(user, ({ entries }) => entries.size)))
    while (this.#bytes > bytesInAll) gone.push(...this.#dropOldest(this.#largest(user, (shelf) => shelf.sizeBytes)))
    return gone
  }

  /** What had this key. */
  delete(key: string): E | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    this.#bytes -= entry.sizeBytes
    take(this.#keys, entry.owner.keyId, entry)
    take(this.#users, entry.owner.user, entry)
    return entry
  }

  #dropOldest({ entries }: Shelf<E>): E[] {
    const oldest = first(entries)
    for (const { key } of oldest) this.delete(key)
    return oldest
  }

  #largest(user: Shelf<E>, by: (shelf: Shelf<E>) => number): Shelf<E> {
    let largest = user
    for (const shelf of this.#users.values()) if (by(shelf) > by(largest)) largest = shelf
    return largest
  }
}

function first<E>(entries: Map<string, E>): E[] {
  for (const entry of entries.values()) return [entry]
  return []
}

function lay<E extends Shelved>(shelves: Map<string, Shelf<E>>, name: string, entry: E): Shelf<E> {
  const shelf = shelves.get(name) ?? new Shelf<E>()
  shelves.set(name, shelf)
  shelf.entries.set(entry.key, entry)
  shelf.sizeBytes += entry.sizeBytes
  return shelf
}

function take<E extends Shelved>(shelves: Map<string, Shelf<E>>, name: string, entry: E): void {
  const shelf = shelves.get(name)
  if (!shelf?.entries.delete(entry.key)) return
  shelf.sizeBytes -= entry.sizeBytes
  if (shelf.entries.size === 0) shelves.delete(name)
}
