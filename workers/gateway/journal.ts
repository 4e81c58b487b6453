import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import { writeFileAtomic } from '../../lib/home/index.js'
import {
  type BudgetPeriod,
  isDiskFull,
  type JournalRecord,
  journalGroupSchema,
  MeshError,
  messageOf,
  parseJson,
  type StoredRecord,
  storedRecordSchema,
  type UsageTotals,
  validate,
} from '../../lib/protocol/index.js'
import { changeBee } from '../../lib/store/index.js'
import { forgetRecords } from './journal-retention.js'
import { periodEnd, type Saved, savedSchema, Totals } from './journal-totals.js'
import type { BudgetLedger } from './requests/index.js'
import { type Lost, WriteAheadLog } from './write-ahead-log.js'

/** The key of a group of records, by the number of its first. Padded, so that the bee's order is the order of writing. */
const groupKey = (number: number) => `record/${String(number).padStart(16, '0')}`

/** Wait before records that could not be stored are tried again. */
const RETRY_MS = 1000
/** Records go to the Hyperbee this often, all that came meanwhile at once. One by one they would cost more than all else. */
const STORE_MS = 100
/** The totals are saved this often, and at the end; a start reads the records since. */
const SAVE_MS = 60_000
/** Records that one entry holds at most, to stay well under the longest block. */
const GROUP = 256

/** A journal from before a restore. Of its core more may be known by now than is here: the first `length` blocks are. */
export interface EarlierJournal {
  core: Hypercore
  length: number
}

export interface JournalWriterOptions {
  /** Folder of the write-ahead log and the saved totals. */
  dir: string
  /** This gateway's earlier journals, oldest first: they are read, and not written any more. */
  earlier?: readonly EarlierJournal[]
  /** Why records should not be made now, though they could be written still: there is little room. Absent: there always is. */
  shortage?: () => MeshError | undefined
  /** Told how many records were stored at once, and how long that took. */
  onStored?: (records: number, seconds: number) => void
  /** Told of what the write-ahead log could not read at the start. */
  onLost?: (lost: Lost) => void
  /** Told why records cannot be written, once until they can be again. */
  onError?: (err: unknown) => void
  /** When a user was added, in milliseconds since the epoch; undefined where that is not known. */
  userAddedAt?: (name: string) => number | undefined
  clock?: () => number
}

/**
 * What this gateway served: one record for each request. A record is in the write-ahead log when `append` returns, and in
 * the Hyperbee, for the authority, soon after. The running totals, by which budgets hold, follow from the records; they
 * are saved now and then in a file of this gateway's own, so that a start reads few records again.
 */
export class JournalWriter implements BudgetLedger {
  readonly core: Hypercore
  readonly #bee: Hyperbee
  readonly #earlier: readonly { bee: Hyperbee; length: number }[]
  readonly #log: WriteAheadLog
  readonly #options: JournalWriterOptions
  readonly #clock: () => number
  readonly #totalsFile: string
  /** Totals with all records that were forgotten: they cannot be counted again. */
  readonly #keptFile: string
  readonly #totals = new Totals()
  /** How many records the saved totals count. */
  #savedCount = 0
  #saveTimer: NodeJS.Timeout | undefined
  /** Records that are not in the Hyperbee yet, as JSON. The first of them has the number `#next`. */
  #pending: string[] = []
  #next = 0
  #storing: Promise<void> | undefined
  #storeTimer: NodeJS.Timeout | undefined
  #storedAt = Number.NEGATIVE_INFINITY
  /** Why records cannot be written now. */
  #failure: MeshError | undefined
  #closed = false

  constructor(core: Hypercore, options: JournalWriterOptions) {
    this.core = core
    this.#bee = beeOf(core)
    this.#earlier = (options.earlier ?? []).map(({ core, length }) => ({ bee: beeOf(core), length }))
    this.#options = options
    this.#log = new WriteAheadLog(options.dir, options.onLost)
    this.#totalsFile = join(options.dir, 'totals.json')
    this.#keptFile = join(options.dir, 'totals.kept.json')
    this.#clock = options.clock ?? Date.now
  }

  /**
   * Loads the totals, and stores what an earlier run did not come to.
   * @throws MeshError STORE_INVALID
   */
  async open(): Promise<void> {
    const newest = { gt: 'record/', lt: 'record0', reverse: true, limit: 1 }
    for (const bee of await this.#all()) {
      for await (const { key, value } of bee.createReadStream(newest)) {
        this.#next = numberOf(key) + readGroup(value, key).length
      }
    }
    const saved = await this.#readSaved()
    const { counted } = saved
    this.#totals.restore(saved)
    this.#savedCount = counted
    await this.#countSince(counted)
    await this.#replay(counted)
    this.#saveTimer = setInterval(() => this.#save(), SAVE_MS).unref()
    this.#storeSoon()
  }

  /** The journals of this gateway, oldest first; records are numbered through all of them. */
  async #all(): Promise<Hyperbee[]> {
    const written = this.#earlier.filter(({ length }) => length > 1)
    for (const { bee } of written) await bee.ready()
    await this.#bee.ready()
    return [...written.map(({ bee, length }) => bee.checkout(length, { reuseSession: true })), this.#bee]
  }

  /** The saved totals, or those before the last records were forgotten; else none: then all records are counted again. */
  async #readSaved(): Promise<Saved> {
    for (const file of [this.#totalsFile, this.#keptFile]) {
      try {
        if (existsSync(file)) return validate(savedSchema, parseJson(await readFile(file), file), file)
      } catch (err) {
        this.#options.onError?.(err)
      }
    }
    return { counted: 0, totals: {} }
  }

  /** Counts the records of the Hyperbees from this number on. */
  async #countSince(counted: number): Promise<void> {
    // The group that holds it may begin before it.
    const range = { gte: groupKey(Math.max(0, counted - GROUP)), lt: 'record0' }
    for (const bee of await this.#all()) {
      for await (const { key, value } of bee.createReadStream(range)) {
        for (const [i, record] of readGroup(value, key).entries()) {
          if (numberOf(key) + i >= counted) this.#totals.count(record)
        }
      }
    }
  }

  /** Takes over what the write-ahead log has and the Hyperbee has not. @param counted what the saved totals count */
  async #replay(counted: number): Promise<void> {
    for (const { number, text } of this.#log.open()) {
      if (number < this.#end) continue
      if (number > this.#end) await this.#skipTo(number)
      const what = `${this.#options.dir}: record ${number} of the write-ahead log`
      const record = validate(storedRecordSchema, parseJson(Buffer.from(text), what), what, 'STORE_INVALID')
      if (number >= counted) this.#totals.count(record)
      this.#pending.push(text)
    }
    if (counted > this.#end) await this.#skipTo(counted)
  }

  /** The machine lost its power, and with it what was written last: those numbers are not given again. */
  async #skipTo(number: number): Promise<void> {
    await this.#store()
    this.#next = number
  }

  /** The number of the next record. */
  get #end(): number {
    return this.#next + this.#pending.length
  }

  /** Stores what is not stored yet. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#saveTimer)
    clearTimeout(this.#storeTimer)
    await this.#storing
    if (this.#pending.length > 0) await this.#store().catch((err: unknown) => this.#options.onError?.(err))
    this.#save()
    for (const { bee } of [...this.#earlier, { bee: this.#bee }]) await bee.close()
    this.#log.close()
  }

  /** Why nothing may be served: what cannot be recorded. DISK_FULL, or undefined where records can be written. */
  get hindrance(): MeshError | undefined {
    return this.#failure ?? this.#options.shortage?.()
  }

  /** @throws MeshError DISK_FULL while records cannot be written */
  assertWritable(): void {
    const reason = this.hindrance
    if (reason !== undefined) throw reason
  }

  /**
   * Writes one record. When this returns, the record outlives the process; only then may the caller's finish be told.
   * @throws MeshError DISK_FULL; the record is kept in memory and stored when there is room again
   */
  append(record: JournalRecord): void {
    const text = JSON.stringify(record)
    const number = this.#end
    this.#totals.count(record)
    const addedAt = this.#options.userAddedAt?.(record.user)
    if (addedAt !== undefined) this.#totals.noteUser(record.user, addedAt)
    this.#pending.push(text)
    this.#storeSoon()
    try {
      this.#log.append(number, text)
    } catch (err) {
      throw this.#failed(err)
    }
  }

  /** Tokens settled for a key or a user in the running period. */
  spent(subject: string, period: BudgetPeriod, now = this.#clock()): number {
    const { promptTokens, completionTokens } = this.totals(subject, now)[period]
    return promptTokens + completionTokens
  }

  /** Milliseconds until the running UTC day or month ends; undefined for all time. */
  resetMs(period: BudgetPeriod, now = this.#clock()): number | undefined {
    const end = periodEnd(period, now)
    return end === undefined ? undefined : end - now
  }

  /** Totals of a key (`key/<id>`) or a user (`user/<name>`) for the running UTC day, month, and in all. */
  totals(subject: string, now = this.#clock()): Record<BudgetPeriod, UsageTotals> {
    return this.#totals.of(subject, now)
  }

  /** Forgets what users used who are gone: see `Totals.keepUsers`. */
  keepUsers(users: ReadonlyMap<string, number>): void {
    if (this.#totals.keepUsers(users)) this.#save({ atOnce: true })
  }

  #storeSoon(): void {
    const isIdle = this.#pending.length === 0 && this.#failure === undefined
    if (isIdle || this.#storing !== undefined || this.#storeTimer !== undefined || this.#closed) return
    const waitMs = this.#failure === undefined ? this.#storedAt + STORE_MS - performance.now() : RETRY_MS
    this.#storeTimer = setTimeout(
      () => {
        this.#storeTimer = undefined
        this.#storing = this.#store()
          .catch((err: unknown) => void this.#failed(err))
          .finally(() => {
            this.#storing = undefined
            this.#storeSoon()
          })
      },
      Math.max(0, waitMs),
    )
  }

  /** Puts what is pending into the Hyperbee, and takes it out of the write-ahead log. */
  async #store(): Promise<void> {
    const count = this.#pending.length
    const started = performance.now()
    this.#log.turn()
    if (count > 0) await this.#write(this.#pending.slice(0, count))
    this.#next += count
    this.#pending.splice(0, count)
    this.#log.stored(this.#next)
    // The Hyperbee may find room where the log finds none: it takes some in advance.
    if (this.#failure !== undefined) this.#log.assertRoom()
    this.#failure = undefined
    this.#storedAt = performance.now()
    if (count > 0) this.#options.onStored?.(count, (this.#storedAt - started) / 1000)
  }

  async #write(records: string[]): Promise<void> {
    await changeBee(this.#bee, async (batch) => {
      for (let at = 0; at < records.length; at += GROUP) {
        const group = `[${records.slice(at, at + GROUP).join(',')}]`
        await batch.put(groupKey(this.#next + at), Buffer.from(group))
      }
    })
  }

  /** Saves the totals of the periods that are running, and forgets those that ended some time ago. Never throws. */
  #save({ atOnce = false } = {}): void {
    const counted = this.#end
    if (counted === this.#savedCount && !atOnce) return
    this.#totals.forgetEnded(this.#clock())
    const saved = this.#totals.toSaved(counted)
    try {
      writeFileAtomic(this.#totalsFile, JSON.stringify(saved), { mode: 0o600, lasting: false })
      this.#savedCount = counted
    } catch (err) {
      this.#options.onError?.(err)
    }
  }

  /**
   * Gives back the room of old records. @param folded entries below this one are in the authority's totals
   * @param before records made before this time may go
   */
  async forget(folded: number, before: number): Promise<void> {
    let kept = false
    const onForget = () => {
      if (kept) return
      const saved = this.#totals.toSaved(this.#end)
      writeFileAtomic(this.#keptFile, JSON.stringify(saved), { mode: 0o600 })
      kept = true
    }
    await forgetRecords(this.#bee, { folded, before, onForget, read: readGroup })
  }

  /** No request is taken from here on until the records are stored. */
  #failed(cause: unknown): MeshError {
    if (this.#failure === undefined) this.#options.onError?.(cause)
    this.#failure = MeshError.DISK_FULL(
      `This gateway cannot record usage (${isDiskFull(cause) ? 'its disk is full' : messageOf(cause)}); it takes no requests until it can`,
      { retryAfterMs: 10_000 },
      { cause },
    )
    return this.#failure
  }
}

function beeOf(core: Hypercore): Hyperbee {
  return new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
}

/** @throws MeshError STORE_INVALID */
function readGroup(value: Uint8Array, key: string): StoredRecord[] {
  return validate(journalGroupSchema, parseJson(value, key), key, 'STORE_INVALID')
}

/** The number of a group's first record. */
function numberOf(key: string): number {
  return Number(key.slice('record/'.length))
}
