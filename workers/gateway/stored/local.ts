import {
  MeshError,
  type Page,
  type PageRequest,
  pageOf,
  type StoredObject,
  type StoredView,
} from '../../../lib/protocol/index.js'
import { cursorOf, type Entry, entryOf, partsOf } from './entry.js'
import { Folder } from './folder.js'
import { LiveObjects } from './live.js'
import { OneAtATime } from './one-at-a-time.js'
import { type Draft, encodeRecord, fileName } from './record.js'
import { type Owner, Shelves } from './shelves.js'
import { Sweeper } from './sweeper.js'
import { Turns } from './turns.js'

const PER_KEY = 1000
const PER_USER = 4000
const IN_ALL = 100_000
/** Of `storedBytes`, what one key and what one user may have. */
const SHARE_OF_KEY = 8
const SHARE_OF_USER = 4
const WRITES = { most: 4, mostPerUser: 2, mostWaiting: 256 }
const READS = { most: 16, mostPerUser: 4, mostWaiting: 256 }

export interface LocalOptions {
  dir: string
  /** What is older is deleted. */
  days: number
  /** What all of it may take of the disk; 0: nothing is kept. */
  bytes: number
  /** Whether the disk has room for so much more. */
  hasRoom: (bytes: number) => boolean
  /** Things of this owner that were made before this time are nobody's any more. In milliseconds since the epoch. */
  keptFrom: (owner: Owner) => number
  /** What becomes of an object that was being made when the process ended. @param object JSON */
  interrupted: (object: string) => string
  log: { warn(facts: { code: string; [fact: string]: unknown }, message: string): void }
  /** Told of what could not be read or written. */
  failed: (op: 'read' | 'write') => void
  now: () => number
}

/** What is asked for of one key's things. */
export interface Wanted extends PageRequest {
  kind: StoredObject['kind']
  order: 'asc' | 'desc'
  model?: string | undefined
  tags?: readonly string[] | undefined
}

export interface Found {
  head: StoredObject
  bytes: Buffer
}

/** Responses and chats on this gateway's disk. Each belongs to the key that it was made with. */
export class LocalStored {
  readonly #options: LocalOptions
  readonly #folder: Folder
  readonly #shelves: Shelves<Entry>
  readonly #writes = new Turns(WRITES)
  readonly #reads = new Turns(READS)
  /** What of it is being made here. */
  readonly live = new LiveObjects()
  readonly #changes = new OneAtATime()
  readonly #sweeper: Sweeper
  #opened: Promise<void> | undefined
  /** What is there could not be looked at. */
  #isUnread = false

  constructor(options: LocalOptions) {
    this.#options = options
    this.#folder = new Folder(options.dir)
    this.#shelves = new Shelves({
      perKey: PER_KEY,
      perUser: PER_USER,
      inAll: IN_ALL,
      bytesPerKey: Math.floor(options.bytes / SHARE_OF_KEY),
      bytesPerUser: Math.floor(options.bytes / SHARE_OF_USER),
      bytesInAll: options.bytes,
    })
    this.#sweeper = new Sweeper({
      ...options,
      shelves: this.#shelves,
      ready: () => this.#opened,
      removeAll: (entries) => this.#removeAll(entries),
      remove: (name) => this.#remove(name),
    })
  }

  /** Begins to read what is there; everything waits for that. */
  open(): void {
    this.#opened ??= this.#open().catch((err: unknown) => {
      this.#isUnread = true
      this.#tell('read', err, 'stored objects cannot be read')
    })
  }

  async #open(): Promise<void> {
    const files: { entry: Entry; head: StoredObject }[] = []
    await this.#folder.scan(
      ({ name, head, sizeBytes }) => {
        if (fileName(head.keyId, head.id) === name) files.push({ entry: entryOf(name, head, sizeBytes), head })
        else this.#sweeper.noteUnreadable(name, 0)
      },
      (name, changedAt, err) => {
        this.#sweeper.noteUnreadable(name, changedAt)
        this.#tell('read', err, 'a file of the stored objects cannot be read', { file: name })
      },
    )
    files.sort((a, b) => a.entry.createdAt - b.entry.createdAt)
    for (const { entry } of files) await this.#removeAll(this.#shelves.put(entry))
    for (const { entry, head } of files) if (head.pending) await this.#interrupt(entry)
    void this.sweep()
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    await this.#opened
    await Promise.all([this.#changes.settled(), this.#sweeper.settled()])
  }

  /** What is kept, for the metrics. */
  get stats(): { bytes: number; responses: number; chats: number } {
    let chats = 0
    for (const { kind } of this.#shelves.values()) if (kind === 'chat') chats++
    return { bytes: this.#shelves.sizeBytes, responses: this.#shelves.count - chats, chats }
  }

  /**
   * Keeps something, in place of what the key had under its id.
   * @returns false where it is not kept: it is too long, there is no room, or it could not be written
   */
  async put(owner: Owner, draft: Draft): Promise<boolean> {
    await this.#opened
    if (this.#isUnread) return false
    const key = fileName(owner.keyId, draft.id)
    try {
      const evicted = await this.#changes.run(key, () =>
        this.#writes.run(owner.user, () => this.#put(key, owner, draft)),
      )
      if (evicted === undefined) return false
      // Behind the turn of this one: two that drive out each other's would wait for each other.
      await this.#removeAll(evicted)
      return !evicted.some((entry) => entry.key === key)
    } catch (err) {
      this.#tell('write', err, 'something could not be stored')
      return false
    }
  }

  /** @returns what has to go for it; undefined where it is not kept */
  async #put(key: string, owner: Owner, draft: Draft): Promise<Entry[] | undefined> {
    const encoded = await encodeRecord(owner, draft)
    if (encoded === undefined) return undefined
    const entry = entryOf(key, encoded.head, encoded.sizeBytes)
    const { hasRoom } = this.#options
    if (!this.#shelves.fits(entry.sizeBytes) || !hasRoom(entry.sizeBytes) || this.#sweeper.isOver(entry))
      return undefined
    await this.#folder.write(key, encoded.chunks)
    return this.#shelves.put(entry)
  }

  /** @throws MeshError PEER_NOT_FOUND where nobody knows what is here: that is no "not found" */
  async #known(): Promise<void> {
    await this.#opened
    if (this.#isUnread) throw MeshError.PEER_NOT_FOUND('What this gateway has stored cannot be read; its log says why')
  }

  /** What is known of it; undefined where this key has none such here. @throws MeshError PEER_NOT_FOUND */
  async find(owner: Owner, id: string): Promise<Entry | undefined> {
    await this.#known()
    const entry = this.#shelves.get(fileName(owner.keyId, id))
    return entry?.owner.user === owner.user && !this.#sweeper.isOver(entry) ? entry : undefined
  }

  /**
   * A view of it, from an offset on and at most so long.
   * @throws MeshError STORE_INVALID where its file is damaged, RATE_LIMITED
   */
  async read(
    owner: Owner,
    id: string,
    view: StoredView,
    piece: { offset?: number; most?: number } = {},
  ): Promise<Found | undefined> {
    const entry = await this.find(owner, id)
    if (entry === undefined) return undefined
    try {
      return await this.#reads.run(owner.user, () => this.#folder.read(entry.key, view, piece))
    } catch (err) {
      throw this.#damaged(err, id, entry.key)
    }
  }

  /** One page of what a key has, in the order of time. Cursors are the same at every gateway. */
  async list(owner: Owner, wanted: Wanted): Promise<Page<Entry>> {
    await this.#known()
    const { kind, order, model, tags = [] } = wanted
    const fitting = [...this.#shelves.of(owner.keyId)].filter(
      (entry) =>
        entry.kind === kind &&
        entry.owner.user === owner.user &&
        !this.#sweeper.isOver(entry) &&
        (model === undefined || entry.model === model) &&
        tags.every((tag) => entry.tags.includes(tag)),
    )
    return pageOf(fitting, (entry) => cursorOf(entry, order), wanted)
  }

  /** Takes off the disk what could not be stored to its end. */
  async forget(owner: Owner, id: string): Promise<void> {
    const key = fileName(owner.keyId, id)
    this.#shelves.delete(key)
    await this.#changes.run(key, () => this.#removeGone(key))
  }

  /** Takes it off the disk; what is being made is ended first. @returns false where there is none such. @throws the system's error */
  async delete(owner: Owner, id: string): Promise<boolean> {
    if ((await this.find(owner, id)) === undefined) return false
    await this.live.get(owner, id)?.cancel()
    const key = fileName(owner.keyId, id)
    return this.#changes.run(key, async () => {
      if (this.#shelves.get(key) === undefined) return false
      await this.#folder.remove(key)
      this.#shelves.delete(key)
      return true
    })
  }

  /**
   * Replaces the metadata of something that has it apart.
   * @param metadata an object in JSON
   * @returns false where there is none such
   * @throws MeshError DISK_FULL, STORE_INVALID
   */
  async update(owner: Owner, id: string, metadata: string, tags: string[]): Promise<boolean> {
    if ((await this.find(owner, id)) === undefined) return false
    const key = fileName(owner.keyId, id)
    const beginning = `{"metadata":${metadata},`
    const evicted = await this.#changes.run(key, () =>
      this.#writes.run(owner.user, async () => {
        const old = this.#shelves.get(key) && (await this.#partsOf(id, key))
        if (!old?.head.parts.some(({ name }) => name === 'metadata')) return undefined
        const parts = Object.fromEntries(partsOf(old.head, old.bytes).map(([name, text]) => [name, [text]]))
        const gone = await this.#put(key, owner, { ...old.head, tags, parts: { ...parts, metadata: [beginning] } })
        if (gone !== undefined) return gone
        throw MeshError.DISK_FULL('There is no room to store this change', { retryAfterMs: 10_000 })
      }),
    )
    if (evicted === undefined) return false
    await this.#removeAll(evicted)
    return true
  }

  /** Whether something that was made at this time can be its: before, it was another's who had the name. */
  mayOwn(owner: Owner, createdAt = Number.NEGATIVE_INFINITY): boolean {
    return createdAt >= this.#options.keptFrom(owner)
  }

  /** Deletes what is too old, and what belongs to keys and users that are gone. Looks again where it is asked meanwhile. */
  sweep(): Promise<void> {
    return this.#sweeper.sweep()
  }

  /** What was being made when the process ended has failed. */
  async #interrupt(entry: Entry): Promise<void> {
    const { key, owner } = entry
    try {
      const old = await this.#folder.readParts(key)
      if (old === undefined) return
      const parts = Object.fromEntries(
        partsOf(old.head, old.bytes).map(([name, text]) => [
          name,
          [name === 'object' ? this.#options.interrupted(text) : text],
        ]),
      )
      if ((await this.#put(key, owner, { ...old.head, pending: false, parts })) !== undefined) return
    } catch (err) {
      this.#tell('read', err, 'a file of the stored objects cannot be read', { file: key })
    }
    // Better gone than for ever under way.
    this.#shelves.delete(key)
    await this.#remove(key)
  }

  async #removeAll(entries: readonly Entry[]): Promise<void> {
    for (const { key } of entries) await this.#changes.run(key, () => this.#removeGone(key))
  }

  async #removeGone(key: string): Promise<void> {
    // It may have been stored anew meanwhile.
    if (this.#shelves.get(key) === undefined) await this.#remove(key)
  }

  async #remove(name: string): Promise<void> {
    try {
      await this.#folder.remove(name)
    } catch (err) {
      this.#tell('write', err, 'a file of the stored objects cannot be deleted', { file: name })
    }
  }

  /** @throws MeshError STORE_INVALID */
  async #partsOf(id: string, key: string): Promise<{ head: StoredObject; bytes: Buffer } | undefined> {
    try {
      return await this.#folder.readParts(key)
    } catch (err) {
      throw this.#damaged(err, id, key)
    }
  }

  #damaged(err: unknown, id: string, file: string): MeshError {
    if (err instanceof MeshError && err.code === 'RATE_LIMITED') return err
    this.#tell('read', err, 'a file of the stored objects cannot be read', { file })
    return MeshError.STORE_INVALID(`${id} is stored here, and its file cannot be read`, {}, { cause: err })
  }

  #tell(op: 'read' | 'write', err: unknown, message: string, facts: object = {}): void {
    const { code, message: reason } = MeshError.from(err)
    this.#options.failed(op)
    this.#options.log.warn({ ...facts, code, reason }, message)
  }
}
