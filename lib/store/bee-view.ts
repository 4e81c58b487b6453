import { EventEmitter } from 'node:events'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import type { z } from 'zod'
import { MeshError, messageOf, parseJson, validate } from '../protocol/index.js'
import { type Change, readChanges } from './changes.js'

/** The longest entry that is looked at. What the authority is asked to write comes in messages of 1 MiB at most. */
const MAX_ENTRY_BYTES = 2 * 1024 * 1024
const EVENTS = ['append', 'download'] as const
/** As much of an entry's key, and of the reason, as messages show. */
const SHOWN_CHARS = 200

/**
 * A Hyperbee held whole in memory: its history is applied to maps once, in order, and decisions are made from the
 * maps, because a read from the bee costs milliseconds and a remote one far more.
 *
 * An entry that cannot be read, because a later version wrote it or it is damaged, is in none of the maps, nor is what it
 * replaced: nobody has rights by it. All others are applied as ever.
 *
 * Where its writer was restored from a backup, the core is as it was then, under a higher fork: the maps are made anew from it,
 * all at once, and say what they said before until all of it is here.
 *
 * Emits `change` after the maps have changed, then `unreadable` for each entry among the changes that cannot be read, and
 * `close` when nothing follows any more.
 */
export abstract class BeeView extends EventEmitter<{ change: []; unreadable: [MeshError]; close: [] }> {
  /** What the bee is called in messages and metrics. */
  abstract readonly store: string
  /** Entries that cannot be read, by key, and why. No error holds anything of an entry's value. */
  readonly unreadable = new Map<string, MeshError>()
  readonly core: Hypercore
  readonly bee: Hyperbee
  #next = 1
  #applying: Promise<void> | undefined
  #again = false
  /** The maps hold what is in the core no longer. */
  #rewound = false
  #download: { destroy(): void } | undefined

  constructor(core: Hypercore) {
    super()
    this.core = core
    this.bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  }

  /**
   * Takes one change over into the maps.
   * @param kind the key up to its first slash; @param id the rest; @param value undefined: deleted
   * @throws Error when the value cannot be read; what was in the maps under this key is gone from them then
   */
  protected abstract apply(kind: string, id: string, value: Buffer | undefined): void

  /** Empties the maps, which are filled anew in the same tick. */
  protected abstract clear(): void

  /** Reads what is on disk, in order up to the first block that is missing, and follows what comes. Needs no network. */
  async open(): Promise<void> {
    await this.bee.ready()
    if (!this.core.writable) this.#download = this.core.download({ start: 0, end: -1 })
    // A length that is known tells nothing of the blocks: those come after it, in any order.
    for (const event of EVENTS) this.core.on(event, this.#onCore)
    this.core.on('truncate', this.#onTruncate)
    await this.refresh()
  }

  #onTruncate = (length: number): void => {
    if (length < this.#next || this.#applying !== undefined) this.#rewound = true
    void this.refresh()
  }

  #onCore = (): void => {
    void this.refresh()
  }

  /** True where the maps hold everything that is known to have been written; false while nothing has been. */
  get caughtUp(): boolean {
    return !this.#rewound && this.core.length > 1 && this.#next >= this.core.length
  }

  /** How many blocks are in the maps, counted from the first. */
  get applied(): number {
    return this.#next
  }

  /** Applies every change that is here, in order up to the first block that is missing. */
  async refresh(): Promise<void> {
    this.#again = true
    // Again where a run that had read its last entry was under way still: it would not see what has just come.
    while (this.#again && !this.core.closed) {
      this.#applying ??= this.#applyAll().finally(() => {
        this.#applying = undefined
      })
      await this.#applying
    }
  }

  async #applyAll(): Promise<void> {
    while (this.#again && !this.core.closed) {
      this.#again = false
      const changed = new Set<string>()
      try {
        if (this.#rewound) await this.#startAnew(changed)
        if (this.#rewound) continue
        for await (const { seq, key, value } of readChanges(this.bee, this.#next, this.core.contiguousLength)) {
          this.#take(key, value)
          this.unreadable.delete(`block ${seq}`)
          this.#next = seq + 1
          changed.add(key)
        }
      } catch (err) {
        // The core closes, or its disk fails: the next append tries again from the same place.
        if (!this.#rewound && (await this.#hasBlock(this.#next))) this.#damaged(changed, err)
      }
      if (changed.size > 0) this.emit('change')
      for (const key of changed) {
        const reason = this.unreadable.get(key)
        if (reason !== undefined) this.emit('unreadable', reason)
      }
    }
  }

  /** Fills the maps from the first block on, once all blocks are here: none of the entries is missing in between. */
  async #startAnew(changed: Set<string>): Promise<void> {
    const { length, contiguousLength, fork } = this.core
    if (contiguousLength < length) return
    const changes: Change[] = []
    for await (const change of readChanges(this.bee, 1, length)) changes.push(change)
    // It was rewound once more meanwhile: the event has asked for another run.
    if (this.core.fork !== fork) return
    this.clear()
    this.unreadable.clear()
    for (const { key, value } of changes) {
      this.#take(key, value)
      changed.add(key)
    }
    this.#next = Math.max(1, length)
    this.#rewound = false
  }

  /** Whether a block itself can be read: then it is what the block says that could not be. Never throws. */
  async #hasBlock(index: number): Promise<boolean> {
    try {
      return (await this.core.get(index, { wait: false })) !== null
    } catch {
      return false
    }
  }

  /** A block that is here and cannot be read: nobody knows whose rights it tells of, so nothing behind it is applied. */
  #damaged(changed: Set<string>, err: unknown): void {
    const entry = `block ${this.#next}`
    if (!this.unreadable.has(entry)) changed.add(entry)
    this.unreadable.set(
      entry,
      MeshError.STORE_INVALID(
        `The ${entry} of the ${this.store} cannot be read (${messageOf(err).slice(0, SHOWN_CHARS)}): it is damaged, or of a later version of infermesh. What comes after it is not known here`,
        { store: this.store, entry },
      ),
    )
  }

  #take(key: string, value: Buffer | undefined): void {
    const slash = key.indexOf('/')
    const [kind, id] = slash === -1 ? [key, ''] : [key.slice(0, slash), key.slice(slash + 1)]
    try {
      this.apply(kind, id, value)
      this.unreadable.delete(key)
    } catch (err) {
      // Only the message: what caused it may quote the value, and the value may hold a hash.
      const reason = MeshError.from(err).message.slice(0, SHOWN_CHARS)
      const entry = key.slice(0, SHOWN_CHARS)
      this.unreadable.set(
        key,
        MeshError.STORE_INVALID(
          `The entry ${entry} of the ${this.store} cannot be read (${reason}): a later version of infermesh wrote it, or it is damaged`,
          { store: this.store, entry },
        ),
      )
    }
  }

  async close(): Promise<void> {
    for (const event of EVENTS) this.core.off(event, this.#onCore)
    this.core.off('truncate', this.#onTruncate)
    this.#download?.destroy()
    this.emit('close')
    this.removeAllListeners()
    await this.bee.close()
  }
}

/**
 * Puts one entry into a map, or takes it out where the value is undefined or cannot be read.
 * @param idOf the id that an entry names itself, where it does: an entry under another's key is not read
 * @throws MeshError STORE_INVALID, BAD_REQUEST: it is not what the schema says
 */
export function applyTo<T extends z.ZodType>(
  map: Map<string, z.output<T>>,
  id: string,
  value: Buffer | undefined,
  schema: T,
  idOf?: (entry: z.output<T>) => string,
): void {
  if (value === undefined) {
    map.delete(id)
    return
  }
  try {
    if (value.byteLength > MAX_ENTRY_BYTES) throw MeshError.STORE_INVALID(`its value has ${value.byteLength} bytes`)
    const entry = validate(schema, parseJson(value, 'its value'), 'its value', 'STORE_INVALID')
    if (idOf !== undefined && idOf(entry) !== id) throw MeshError.STORE_INVALID('its value belongs to another entry')
    map.set(id, entry)
  } catch (err) {
    map.delete(id)
    throw err
  }
}
