import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import { isDiskFull, type StoredRecord } from '../../lib/protocol/index.js'
import { forgetBlocks, readChanges } from '../../lib/store/index.js'
import { readGroup, type UsageLedger } from './ledger.js'

/** Entries folded in one batch. */
const BATCH = 200
/** A fold that failed is tried again after this, and after twice as long each time that it fails again. */
const RETRY_MS = 1000
const MAX_RETRY_MS = 300_000

export interface JournalReaderOptions {
  core: Hypercore
  /** The journal's core key: names its cursor. */
  key: string
  ledger: UsageLedger
  /** Told how many records of a batch were added, and how many could not be read. */
  onFolded?: (counts: { folded: number; malformed: number }) => void
  /** Told why folding stopped for now. */
  onError?: (err: unknown) => void
}

/** How often a journal is looked at. What came meanwhile is read at once, which costs far less than entry by entry. */
const LOOK_MS = 500

/** Follows one gateway's journal and folds what it says into the usage. */
export class JournalReader {
  readonly key: string
  readonly #options: JournalReaderOptions
  readonly #bee: Hyperbee
  #next = 1
  /** Entries before this one take no room. */
  #released = 1
  #folding: Promise<void> | undefined
  #closing = false
  #timer: NodeJS.Timeout | undefined
  /** After a failure: not looked at again before. */
  #restUntil = 0
  #retryMs = RETRY_MS

  constructor(options: JournalReaderOptions) {
    this.key = options.key
    this.#options = options
    this.#bee = new Hyperbee(options.core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  }

  /** Entries that the gateway has written and that are not folded yet, as far as is known. */
  get lag(): number {
    const { length, peers } = this.#options.core
    const written = Math.max(length, ...peers.map(({ remoteLength }) => remoteLength))
    return Math.max(0, written - this.#next)
  }

  /** Entries that are folded. */
  get folded(): number {
    return this.#next - 1
  }

  /** Begins to follow; does not wait for the gateway. */
  async open(): Promise<void> {
    const { core, key, ledger } = this.#options
    await core.ready()
    this.#next = (await ledger.cursor(key)).next
    // Else each entry is asked for, checked and stored by itself in the moment it is written.
    core.replicator.eagerUpgrade = false
    this.#timer = setInterval(() => {
      if (this.lag > 0 && performance.now() >= this.#restUntil) void this.fold()
    }, LOOK_MS)
  }

  /** Whether the entries with `from <= seq < end` are all here. */
  async holds(from: number, end: number): Promise<boolean> {
    return end <= from || (await this.#options.core.has(from, end))
  }

  /** Gives back the room of entries that were folded before a time. @param now by this machine's clock */
  async release(now: number, before: number): Promise<void> {
    const { core, key, ledger } = this.#options
    const from = await ledger.release(key, now, before)
    if (from === this.#released) return
    await forgetBlocks(core, from)
    this.#released = from
  }

  /** What the entries with `from <= seq < end` say, which must be here. */
  async *groups(from: number, end: number): AsyncGenerator<ReturnType<typeof readGroup>> {
    for await (const { key, value } of readChanges(this.#bee, from, end)) {
      // A journal may hold entries of the gateway's own besides.
      if (value !== undefined && key.startsWith('record/')) yield readGroup(value)
    }
  }

  /** Folds what the gateway has written up to now, as far as it can be reached. Never throws. */
  fold(): Promise<void> {
    this.#folding ??= this.#foldAll()
      .catch((err: unknown) => this.#onError(err))
      .finally(() => {
        this.#folding = undefined
      })
    return this.#folding
  }

  async close(): Promise<void> {
    this.#closing = true
    clearInterval(this.#timer)
    // Ends a download that waits for a gateway which is not there.
    await this.#options.core.close()
    await this.#folding
  }

  #onError(err: unknown): void {
    if (this.#closing) return
    this.#options.onError?.(err)
    this.#restUntil = performance.now() + this.#retryMs
    // A disk that is full is nothing of the journal's: it is to be read soon after there is room.
    if (!isDiskFull(err)) this.#retryMs = Math.min(MAX_RETRY_MS, 2 * this.#retryMs)
  }

  async #foldAll(): Promise<void> {
    const { core } = this.#options
    await core.update({ wait: true })
    const length = core.length
    while (this.#next < length && !this.#closing) {
      const end = Math.min(length, this.#next + BATCH)
      await core.download({ start: this.#next, end }).done()
      await this.#foldUpTo(end)
    }
  }

  async #foldUpTo(end: number): Promise<void> {
    const { key, ledger, onFolded } = this.#options
    const records: StoredRecord[] = []
    let malformed = 0
    for await (const group of this.groups(this.#next, end)) {
      records.push(...group.records)
      malformed += group.malformed
    }
    if (await ledger.fold(key, this.#next, end, records)) onFolded?.({ folded: records.length, malformed })
    this.#next = end
    this.#retryMs = RETRY_MS
  }
}
