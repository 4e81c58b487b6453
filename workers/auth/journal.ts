import { setTimeout as sleep } from 'node:timers/promises'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import type { JournalRecord } from '../../lib/protocol/index.js'
import { parseRecord, type UsageLedger } from './ledger.js'

/** Entries folded in one batch. */
const BATCH = 500
/** A fold that failed is tried again after this, and after twice as long each time that it fails again. */
const RETRY_MS = 1000
const MAX_RETRY_MS = 300_000

export interface JournalOptions {
  core: Hypercore
  /** The journal's core key: names its cursor. */
  key: string
  ledger: UsageLedger
  /** Told how many records of a batch were added, and how many could not be read. */
  onFolded?: (counts: { folded: number; malformed: number }) => void
  /** Told why folding stopped for now. */
  onError?: (err: unknown) => void
}

/** A busy journal is folded this often: what came meanwhile is one batch. */
const SPACING_MS = 50

/** Follows one gateway's journal and folds what it says into the usage. */
export class Journal {
  readonly #options: JournalOptions
  readonly #bee: Hyperbee
  #next = 1
  #folding: Promise<void> | undefined
  #again = false
  #closing = false
  #retry: NodeJS.Timeout | undefined
  #retryMs = RETRY_MS

  constructor(options: JournalOptions) {
    this.#options = options
    this.#bee = new Hyperbee(options.core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  }

  /** Entries that the gateway has written and that are not folded yet, as far as is known. */
  get lag(): number {
    return Math.max(0, this.#options.core.length - this.#next)
  }

  /** Begins to follow; does not wait for the gateway. */
  async open(): Promise<void> {
    const { core, key, ledger } = this.#options
    await core.ready()
    this.#next = await ledger.cursor(key)
    core.download({ start: 0, end: -1 })
    core.on('append', this.#trigger)
    this.#trigger()
  }

  async close(): Promise<void> {
    this.#closing = true
    clearTimeout(this.#retry)
    this.#options.core.off('append', this.#trigger)
    // Ends a download that waits for a gateway which is not there.
    await this.#options.core.close()
    await this.#folding
  }

  #trigger = (): void => {
    this.#again = true
    this.#folding ??= this.#foldAll()
      .catch((err: unknown) => this.#onError(err))
      .then(() => (this.#closing ? undefined : sleep(SPACING_MS)))
      .finally(() => {
        this.#folding = undefined
        if (this.#again && !this.#closing) this.#trigger()
      })
  }

  #onError(err: unknown): void {
    if (this.#closing) return
    this.#options.onError?.(err)
    this.#again = false
    clearTimeout(this.#retry)
    this.#retry = setTimeout(this.#trigger, this.#retryMs)
    this.#retryMs = Math.min(MAX_RETRY_MS, 2 * this.#retryMs)
  }

  async #foldAll(): Promise<void> {
    const { core } = this.#options
    this.#again = false
    while (this.#next < core.length && !this.#closing) {
      const end = Math.min(core.length, this.#next + BATCH)
      await core.download({ start: this.#next, end }).done()
      await this.#foldUpTo(end)
    }
  }

  async #foldUpTo(end: number): Promise<void> {
    const { key, ledger, onFolded } = this.#options
    const records: JournalRecord[] = []
    let malformed = 0
    for await (const entry of this.#bee.createHistoryStream({ gte: this.#next, lt: end })) {
      // A journal may hold entries of the gateway's own besides.
      if (entry.type !== 'put' || !entry.key.startsWith('record/')) continue
      try {
        records.push(parseRecord(entry.value))
      } catch {
        malformed++
      }
    }
    if (await ledger.fold(key, this.#next, end, records)) onFolded?.({ folded: records.length, malformed })
    this.#next = end
    this.#retryMs = RETRY_MS
  }
}
