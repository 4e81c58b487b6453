import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import HypercoreStorage from 'hypercore-storage'
import { Readable } from 'streamx'

/** Keys as text of one character for each byte, which orders as the bytes do. */
interface Rows {
  /** In order. */
  keys: string[]
  values: Map<string, Buffer>
}

interface State {
  rows: Rows
  /** True where a snapshot holds the same rows: who writes next writes to a copy. */
  shared: boolean
  /** Read by hypercore-storage. */
  closing: boolean
}

interface Range {
  gt?: Buffer | null
  gte?: Buffer | null
  lt?: Buffer | null
  lte?: Buffer | null
  reverse?: boolean
  /** Negative: all. */
  limit?: number
}

type Change = (rows: Rows) => void

const textOf = (key: Uint8Array): string => Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')

/** Where a key stands, or would stand. */
function placeOf(keys: string[], key: string): number {
  let low = 0
  let high = keys.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((keys[middle] ?? '') < key) low = middle + 1
    else high = middle
  }
  return low
}

/** The first place behind a key. */
function placeAfter(keys: string[], key: string): number {
  const place = placeOf(keys, key)
  return keys[place] === key ? place + 1 : place
}

function put(rows: Rows, key: string, value: Buffer): void {
  if (!rows.values.has(key)) rows.keys.splice(placeOf(rows.keys, key), 0, key)
  rows.values.set(key, value)
}

function removeRange(rows: Rows, from: string, to: string): void {
  const start = placeOf(rows.keys, from)
  for (const key of rows.keys.splice(start, placeOf(rows.keys, to) - start)) rows.values.delete(key)
}

/** What hypercore-storage uses of a RocksDB, with everything in memory. Keys and values are copied on their way in and out. */
class MemoryRocks {
  /** Nothing is there: the library looks beside it for what an earlier version of it left. */
  readonly path: string
  /** Read by hypercore-storage, as is `_index`: -1 where this session is closed. */
  readonly _state: State
  readonly _snapshot: Rows | null
  _index = 0

  constructor(path: string, state: State, snapshot: Rows | null) {
    this.path = path
    this._state = state
    this._snapshot = snapshot
  }

  get opened(): boolean {
    return true
  }

  get closed(): boolean {
    return this._index === -1
  }

  get snapshotted(): boolean {
    return this._snapshot !== null
  }

  /** One column family is all that is asked for. */
  columnFamily(): MemoryRocks {
    return this.session()
  }

  session({ snapshot = this._snapshot !== null }: { snapshot?: boolean } = {}): MemoryRocks {
    this.#mustBeOpen()
    if (!snapshot) return new MemoryRocks(this.path, this._state, null)
    if (this._snapshot === null) this._state.shared = true
    return new MemoryRocks(this.path, this._state, this.#rows)
  }

  snapshot(): MemoryRocks {
    return this.session({ snapshot: true })
  }

  read() {
    this.#mustBeOpen()
    return {
      get: async (key: Buffer) => this.#valueOf(key),
      tryFlush: () => {},
      flush: async () => {},
      destroy: () => {},
    }
  }

  /** Changes are all made at once, when they are flushed. */
  write() {
    this.#mustBeOpen()
    const changes: Change[] = []
    return {
      tryPut: (key: Buffer, value: Buffer | null) => {
        const [name, bytes] = [textOf(key), Buffer.from(value ?? [])]
        changes.push((rows) => put(rows, name, bytes))
      },
      tryDelete: (key: Buffer) => {
        const name = textOf(key)
        changes.push((rows) => removeRange(rows, name, `${name}\0`))
      },
      tryDeleteRange: (start: Buffer, end: Buffer) => {
        const [from, to] = [textOf(start), textOf(end)]
        changes.push((rows) => removeRange(rows, from, to))
      },
      flush: async () => {
        const rows = this.#rowsToChange()
        for (const change of changes.splice(0)) change(rows)
      },
      destroy: () => {},
    }
  }

  async get(key: Buffer): Promise<Buffer | null> {
    this.#mustBeOpen()
    return this.#valueOf(key)
  }

  /** The rows of a range as they are now, whatever is written while they are read. */
  iterator(range: Range, options: Range = {}): Readable {
    this.#mustBeOpen()
    const { gt, gte, lt, lte, reverse = false, limit = -1 } = { ...range, ...options }
    const { keys, values } = this.#rows
    const start = gt ? placeAfter(keys, textOf(gt)) : gte ? placeOf(keys, textOf(gte)) : 0
    const end = lt ? placeOf(keys, textOf(lt)) : lte ? placeAfter(keys, textOf(lte)) : keys.length
    const found = keys.slice(start, end)
    if (reverse) found.reverse()
    const rows = (limit < 0 ? found : found.slice(0, limit)).map((key) => ({ key, value: values.get(key) }))
    let next = 0
    return new Readable({
      read(done) {
        const row = rows[next++]
        const { key, value } = row ?? {}
        this.push(key === undefined ? null : { key: Buffer.from(key, 'latin1'), value: Buffer.from(value ?? []) })
        done(null)
      },
    })
  }

  async ready(): Promise<void> {}
  async flush(): Promise<void> {}
  async compactRange(): Promise<void> {}
  async suspend(): Promise<void> {}
  async resume(): Promise<void> {}

  async close(): Promise<void> {
    this._index = -1
  }

  get #rows(): Rows {
    return this._snapshot ?? this._state.rows
  }

  #rowsToChange(): Rows {
    const { rows, shared } = this._state
    if (shared) this._state.rows = { keys: [...rows.keys], values: new Map(rows.values) }
    this._state.shared = false
    return this._state.rows
  }

  #valueOf(key: Buffer): Buffer | null {
    const value = this.#rows.values.get(textOf(key))
    return value === undefined ? null : Buffer.from(value)
  }

  #mustBeOpen(): void {
    if (this._index === -1) throw new Error('RocksDB session is closed')
  }
}

/** Storage of cores that is nowhere but in memory, and gone with the process: for copies that a peer brings again. */
export function memoryStorage(): HypercoreStorage {
  const path = join(tmpdir(), `infermesh-in-memory-${randomBytes(16).toString('hex')}`, 'db')
  const state = { rows: { keys: [], values: new Map() }, shared: false, closing: false }
  return new HypercoreStorage(new MemoryRocks(path, state, null))
}
