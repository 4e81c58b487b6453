import { EventEmitter } from 'node:events'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import type { z } from 'zod'
import { MeshError, parseJson, validate } from '../protocol/index.js'

/**
 * A Hyperbee held whole in memory: its history is applied to maps once, in order, and decisions are made from the
 * maps, because a read from the bee costs milliseconds and a remote one far more.
 *
 * Emits `change` after the maps have changed, and `error` when an entry is not what its schema says.
 */
export abstract class BeeView extends EventEmitter<{ change: []; error: [MeshError] }> {
  readonly core: Hypercore
  readonly bee: Hyperbee
  #next = 1
  #applying: Promise<void> | undefined
  #again = false

  constructor(core: Hypercore) {
    super()
    this.core = core
    this.bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  }

  /**
   * Takes one change over into the maps.
   * @param kind the key up to its first slash; @param id the rest; @param value undefined: deleted
   */
  protected abstract apply(kind: string, id: string, value: Buffer | undefined): void

  /** Reads what is on disk and follows what comes. Does not wait for the network. */
  async open(): Promise<void> {
    await this.bee.ready()
    if (!this.core.writable) this.core.download({ start: 0, end: -1 })
    this.core.on('append', this.#onAppend)
    await this.refresh()
  }

  #onAppend = (): void => {
    this.refresh().catch((err: unknown) => this.emit('error', MeshError.from(err, 'STORE_INVALID')))
  }

  /** True where the maps hold everything that is known to have been written; false while nothing has been. */
  get caughtUp(): boolean {
    return this.core.length > 1 && this.#next >= this.core.length
  }

  /** Applies every change up to the length known now. */
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
      let changed = false
      try {
        for await (const { seq, type, key, value } of this.bee.createHistoryStream({ gte: this.#next })) {
          const slash = key.indexOf('/')
          this.apply(key.slice(0, slash), key.slice(slash + 1), type === 'del' ? undefined : value)
          this.#next = seq + 1
          changed = true
        }
      } catch (err) {
        // An entry we cannot read is a fault of the writer. Anything else is the core closing, or a block that did not
        // come: the next append tries again from the same place.
        if (err instanceof MeshError) throw err
      }
      if (changed) this.emit('change')
    }
  }

  async close(): Promise<void> {
    this.core.off('append', this.#onAppend)
    this.removeAllListeners()
    await this.bee.close()
  }
}

/**
 * Puts one entry into a map, or takes it out where the value is undefined.
 * @throws MeshError STORE_INVALID when it is not what the schema says
 */
export function applyTo<T extends z.ZodType>(
  map: Map<string, z.output<T>>,
  id: string,
  value: Buffer | undefined,
  schema: T,
  store: string,
): void {
  if (value === undefined) map.delete(id)
  else map.set(id, validate(schema, parseJson(value, `${store} entry ${id}`), `${store} entry ${id}`, 'STORE_INVALID'))
}
