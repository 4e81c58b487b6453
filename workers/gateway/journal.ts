import { statfs } from 'node:fs/promises'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import {
  type BudgetPeriod,
  encodeJson,
  isFailure,
  type JournalRecord,
  journalGroupSchema,
  journalRecordSchema,
  MeshError,
  parseJson,
  type UsageTotals,
  usageTotalsSchema,
  validate,
} from '../../lib/protocol/index.js'
import type { BudgetLedger } from './limiter.js'
import { WriteAheadLog } from './write-ahead-log.js'

/** Keys of the journal's entries. */
const journalKeys = {
  /** A group of records, by the number of its first. Padded, so that the bee's order is the order of writing. */
  records: (seq: number) => `record/${String(seq).padStart(16, '0')}`,
  total: (subject: string, period: string) => `total/${period}/${subject}`,
  /** How many records the stored totals count: those after them are added when the journal is opened. */
  checkpoint: 'checkpoint',
}

/** Wait before records that could not be stored are tried again. */
const RETRY_MS = 1000
/** Records go to the Hyperbee this often, all that came meanwhile at once. One by one they would cost more than all else. */
const STORE_MS = 100
/** Totals are many entries for each record, so they are stored this often only; a start reads the records since. */
const CHECKPOINT_MS = 10_000
/** Records that one entry holds at most, to stay well under the longest block. */
const GROUP = 256
const DISK_CHECK_MS = 2000
const ZERO: UsageTotals = { requests: 0, failures: 0, promptTokens: 0, cachedTokens: 0, completionTokens: 0 }

export interface JournalOptions {
  /** Folder of the write-ahead log, whose free space is watched. */
  dir: string
  minFreeBytes: number
  /** Told how many records were stored at once, and how long that took. */
  onStored?: (records: number, seconds: number) => void
  onError?: (err: unknown) => void
  clock?: () => number
}

/**
 * What this gateway served: one record for each request, and now and then the running totals, so that budgets hold after
 * a restart and few records are read again. A record is in the write-ahead log when `append` returns, and in the
 * Hyperbee, for the authority, soon after.
 */
export class Journal implements BudgetLedger {
  readonly core: Hypercore
  readonly #bee: Hyperbee
  readonly #log: WriteAheadLog
  readonly #options: JournalOptions
  readonly #clock: () => number
  /** Totals of the periods that are running, by entry key. */
  readonly #totals = new Map<string, UsageTotals>()
  /** Those of the totals that are newer than the stored ones. */
  readonly #unstored = new Set<string>()
  #checkpointAt = Number.NEGATIVE_INFINITY
  /** Records that are not in the Hyperbee yet, as JSON. The first of them has the number `#next`. */
  #pending: string[] = []
  #next = 0
  #storing: Promise<void> | undefined
  #storeTimer: NodeJS.Timeout | undefined
  #storedAt = Number.NEGATIVE_INFINITY
  /** Why records cannot be written now. */
  #failure: MeshError | undefined
  /** Why no more requests should be taken, though records can be written still. */
  #low: MeshError | undefined
  #diskTimer: NodeJS.Timeout | undefined
  #closed = false

  constructor(core: Hypercore, options: JournalOptions) {
    this.core = core
    this.#bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
    this.#options = options
    this.#log = new WriteAheadLog(options.dir)
    this.#clock = options.clock ?? Date.now
  }

  /**
   * Loads the totals, forgets those of days and months that are over, and stores what an earlier run did not come to.
   * @throws MeshError STORE_INVALID
   */
  async open(): Promise<void> {
    await this.#bee.ready()
    const newest = { gt: 'record/', lt: 'record0', reverse: true, limit: 1 }
    for await (const { key, value } of this.#bee.createReadStream(newest)) {
      this.#next = Number(key.slice('record/'.length)) + readGroup(value, key).length
    }
    const running = runningPeriods(this.#clock())
    const over: string[] = []
    for await (const { key, value } of this.#bee.createReadStream({ gt: 'total/', lt: 'total0' })) {
      if (running.has(periodOf(key)))
        this.#totals.set(key, validate(usageTotalsSchema, parseJson(value, key), key, 'STORE_INVALID'))
      else over.push(key)
    }
    await this.#countUnstored()
    await this.#replay()
    const batch = this.#bee.batch()
    try {
      for (const key of over) await batch.del(key)
      await batch.flush()
    } finally {
      await batch.close()
    }
    await this.#checkDisk()
    this.#diskTimer = setInterval(() => void this.#checkDisk(), DISK_CHECK_MS)
    this.#diskTimer.unref()
    this.#storeSoon()
  }

  /** Adds the records that came after the last stored totals. */
  async #countUnstored(): Promise<void> {
    const entry = await this.#bee.get(journalKeys.checkpoint)
    const counted = journalKeys.records(entry === null ? 0 : Number(entry.value.toString()))
    for await (const { key, value } of this.#bee.createReadStream({ gte: counted, lt: 'record0' })) {
      for (const record of readGroup(value, key)) this.#count(record)
    }
  }

  /** Takes over what the write-ahead log has and the Hyperbee has not. */
  async #replay(): Promise<void> {
    for (const { number, text } of this.#log.open()) {
      if (number < this.#end) continue
      if (number > this.#end) {
        // The machine lost its power, and with it what the Hyperbee had written last.
        await this.#store()
        this.#next = number
      }
      const what = `${this.#options.dir}: record ${number} of the write-ahead log`
      this.#count(validate(journalRecordSchema, parseJson(Buffer.from(text), what), what, 'STORE_INVALID'))
      this.#pending.push(text)
    }
  }

  /** The number of the next record. */
  get #end(): number {
    return this.#next + this.#pending.length
  }

  /** Adds one record to the totals. */
  #count(record: JournalRecord): void {
    const periods = Object.values(periodNames(record.at))
    for (const subject of [`key/${record.keyId}`, `user/${record.user}`]) {
      for (const period of periods) {
        const key = journalKeys.total(subject, period)
        this.#totals.set(key, plus(this.#totals.get(key) ?? ZERO, record))
        this.#unstored.add(key)
      }
    }
  }

  /** Stores what is not stored yet. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#diskTimer)
    clearTimeout(this.#storeTimer)
    await this.#storing
    // With the totals, so that the next start has nothing to count.
    this.#checkpointAt = Number.NEGATIVE_INFINITY
    if (this.#unstored.size > 0) await this.#store().catch((err: unknown) => this.#options.onError?.(err))
    await this.#bee.close()
    this.#log.close()
  }

  /** @throws MeshError DISK_FULL while records cannot be written: nothing may be served that cannot be recorded */
  assertWritable(): void {
    const reason = this.#failure ?? this.#low
    if (reason !== undefined) throw reason
  }

  /**
   * Writes one record. When this returns, the record outlives the process; only then may the caller's finish be told.
   * @throws MeshError DISK_FULL; the record is kept in memory and stored when there is room again
   */
  append(record: JournalRecord): void {
    const text = JSON.stringify(record)
    const number = this.#end
    this.#count(record)
    this.#pending.push(text)
    this.#storeSoon()
    try {
      this.#log.append(number, text)
    } catch (err) {
      throw this.#failed(err)
    }
  }

  /** Tokens settled for a key or a user in the running period. */
  spent(subject: string, period: BudgetPeriod, now: number): number {
    const { promptTokens, completionTokens } = this.totals(subject, now)[period]
    return promptTokens + completionTokens
  }

  /** Totals of a key (`key/<id>`) or a user (`user/<name>`) for the running UTC day, month, and in all. */
  totals(subject: string, now = this.#clock()): Record<BudgetPeriod, UsageTotals> {
    const names = periodNames(now)
    const of = (period: BudgetPeriod) => this.#totals.get(journalKeys.total(subject, names[period])) ?? ZERO
    return { day: of('day'), month: of('month'), total: of('total') }
  }

  #storeSoon(): void {
    if (this.#pending.length === 0 || this.#storing !== undefined || this.#storeTimer !== undefined || this.#closed)
      return
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
    await this.#write(this.#pending.slice(0, count))
    this.#next += count
    this.#pending.splice(0, count)
    this.#log.stored(this.#next)
    this.#failure = undefined
    this.#storedAt = performance.now()
    this.#options.onStored?.(count, (this.#storedAt - started) / 1000)
  }

  async #write(records: string[]): Promise<void> {
    const now = this.#clock()
    const isCheckpoint = now - this.#checkpointAt >= CHECKPOINT_MS
    const next = this.#next + records.length
    // Totals that change while this is written are not in this checkpoint, and stay unstored.
    const totals = isCheckpoint ? [...this.#unstored].map((key) => [key, this.#totals.get(key)] as const) : []
    const batch = this.#bee.batch()
    try {
      for (let at = 0; at < records.length; at += GROUP) {
        const group = `[${records.slice(at, at + GROUP).join(',')}]`
        await batch.put(journalKeys.records(this.#next + at), Buffer.from(group))
      }
      for (const [key, total] of totals) await batch.put(key, encodeJson(total))
      if (isCheckpoint) await batch.put(journalKeys.checkpoint, Buffer.from(String(next)))
      await batch.flush()
    } finally {
      await batch.close()
    }
    if (!isCheckpoint) return
    this.#checkpointAt = now
    for (const [key, total] of totals) if (this.#totals.get(key) === total) this.#unstored.delete(key)
    const running = runningPeriods(now)
    for (const key of this.#totals.keys()) {
      if (!running.has(periodOf(key)) && !this.#unstored.has(key)) this.#totals.delete(key)
    }
  }

  /** No request is taken from here on until the records are stored. */
  #failed(cause: unknown): MeshError {
    this.#options.onError?.(cause)
    this.#failure = MeshError.DISK_FULL(
      `This gateway cannot record usage (${cause instanceof Error ? cause.message : String(cause)}); it takes no requests until it can`,
      { retryAfterMs: 10_000 },
      { cause },
    )
    return this.#failure
  }

  async #checkDisk(): Promise<void> {
    try {
      const { bavail, bsize } = await statfs(this.#options.dir)
      const free = bavail * bsize
      if (free < this.#options.minFreeBytes) {
        this.#low = MeshError.DISK_FULL(
          `This gateway has ${Math.floor(free / 2 ** 20)} MiB of disk left and needs ${Math.ceil(this.#options.minFreeBytes / 2 ** 20)} MiB to record usage safely; it takes no requests until there is room`,
          { retryAfterMs: 10_000 },
        )
      } else this.#low = undefined
    } catch (err) {
      this.#options.onError?.(err)
    }
  }
}

/** @throws MeshError STORE_INVALID */
function readGroup(value: Uint8Array, key: string): JournalRecord[] {
  return validate(journalGroupSchema, parseJson(value, key), key, 'STORE_INVALID')
}

/** The names of the running UTC day and month, and `all`. */
function periodNames(now: number): Record<BudgetPeriod, string> {
  const iso = new Date(now).toISOString()
  return { day: iso.slice(0, 10), month: iso.slice(0, 7), total: 'all' }
}

function runningPeriods(now: number): Set<string> {
  return new Set(Object.values(periodNames(now)))
}

/** The period in the key of a total. */
function periodOf(key: string): string {
  return key.split('/')[1] as string
}

function plus(totals: UsageTotals, record: JournalRecord): UsageTotals {
  return {
    requests: totals.requests + 1,
    failures: totals.failures + (isFailure(record.outcome) ? 1 : 0),
    promptTokens: totals.promptTokens + record.promptTokens,
    cachedTokens: totals.cachedTokens + record.cachedTokens,
    completionTokens: totals.completionTokens + record.completionTokens,
  }
}
