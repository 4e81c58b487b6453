import { statfs } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import Hyperbee from 'hyperbee'
import type Hypercore from 'hypercore'
import {
  type BudgetPeriod,
  type JournalRecord,
  journalRecordSchema,
  MeshError,
  parseJson,
  type UsageTotals,
  usageTotalsSchema,
  validate,
} from '../../lib/protocol/index.js'
import type { BudgetLedger } from './limiter.js'

/** Keys of the journal's entries. */
export const journalKeys = {
  /** Padded, so that the bee's order is the order of writing. */
  record: (seq: number) => `record/${String(seq).padStart(16, '0')}`,
  total: (subject: string, period: string) => `total/${period}/${subject}`,
  /** How many records the stored totals count: those after them are added when the journal is opened. */
  checkpoint: 'checkpoint',
}

const RETRY_MS = 1000
/** Totals are many entries for each record, so they are stored this often only. */
const CHECKPOINT_MS = 1000
/** Under load, writes are this far apart: each carries more records then. */
const GATHER_MS = 2
const DISK_CHECK_MS = 2000
const ZERO: UsageTotals = { requests: 0, failures: 0, promptTokens: 0, cachedTokens: 0, completionTokens: 0 }

interface Pending {
  record: JournalRecord
  resolve: () => void
  reject: (err: MeshError) => void
}

export interface JournalOptions {
  /** Folder whose free space is watched. */
  dir: string
  minFreeBytes: number
  onFlushed?: (records: number, seconds: number) => void
  onError?: (err: unknown) => void
  clock?: () => number
}

/**
 * What this gateway served: one record for each request, and now and then the running totals, so that budgets hold after
 * a restart and few records are read again. Records that come while a batch is being written form the next one.
 */
export class Journal implements BudgetLedger {
  readonly core: Hypercore
  readonly #bee: Hyperbee
  readonly #options: JournalOptions
  readonly #clock: () => number
  /** Totals of the periods that are running, by entry key. */
  readonly #totals = new Map<string, UsageTotals>()
  #pending: Pending[] = []
  #flushing: Promise<void> | undefined
  /** Those of the totals that are newer than the stored ones. */
  readonly #unstored = new Set<string>()
  #checkpointAt = Number.NEGATIVE_INFINITY
  #flushedAt = Number.NEGATIVE_INFINITY
  #next = 0
  #broken: MeshError | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(core: Hypercore, options: JournalOptions) {
    this.core = core
    this.#bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
    this.#options = options
    this.#clock = options.clock ?? Date.now
  }

  /** Loads the totals, and forgets those of days and months that are over. */
  async open(): Promise<void> {
    await this.#bee.ready()
    for await (const { key } of this.#bee.createReadStream({ gt: 'record/', lt: 'record0', reverse: true, limit: 1 })) {
      this.#next = Number(key.slice('record/'.length)) + 1
    }
    const running = new Set(Object.values(periodNames(this.#clock())))
    const over: string[] = []
    for await (const { key, value } of this.#bee.createReadStream({ gt: 'total/', lt: 'total0' })) {
      if (running.has(key.split('/')[1] as string))
        this.#totals.set(key, validate(usageTotalsSchema, parseJson(value, key), key, 'STORE_INVALID'))
      else over.push(key)
    }
    await this.#countUnstored()
    const batch = this.#bee.batch()
    try {
      for (const key of over) await batch.del(key)
      await batch.flush()
    } finally {
      await batch.close()
    }
    await this.#checkDisk()
    this.#timer = setInterval(() => void this.#checkDisk(), DISK_CHECK_MS)
    this.#timer.unref()
  }

  /** Adds the records that came after the last stored totals. */
  async #countUnstored(): Promise<void> {
    const entry = await this.#bee.get(journalKeys.checkpoint)
    // Without a checkpoint each record was written together with its totals.
    if (entry === null) return
    const counted = journalKeys.record(Number(entry.value.toString()))
    for await (const { key, value } of this.#bee.createReadStream({ gte: counted, lt: 'record0' })) {
      const record = validate(journalRecordSchema, parseJson(value, key), key, 'STORE_INVALID')
      for (const [total, sum] of this.#totalsWith([record])) {
        this.#totals.set(total, sum)
        this.#unstored.add(total)
      }
    }
  }

  /** The totals that these records change, as they are after them. */
  #totalsWith(records: readonly JournalRecord[]): Map<string, UsageTotals> {
    const totals = new Map<string, UsageTotals>()
    for (const record of records) {
      const periods = Object.values(periodNames(record.at))
      for (const subject of [`key/${record.keyId}`, `user/${record.user}`]) {
        for (const period of periods) {
          const key = journalKeys.total(subject, period)
          totals.set(key, plus(totals.get(key) ?? this.#totals.get(key) ?? ZERO, record))
        }
      }
    }
    return totals
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    await this.#flushing
    await this.#bee.close()
  }

  /** @throws MeshError DISK_FULL while records cannot be written: nothing may be served that cannot be recorded */
  assertWritable(): void {
    if (this.#broken !== undefined) throw this.#broken
  }

  /**
   * Writes one record. Resolves once it is in the store; only then may the caller's finish be told.
   * @throws MeshError DISK_FULL; the record is kept and written when there is room again
   */
  append(record: JournalRecord): Promise<void> {
    const written = new Promise<void>((resolve, reject) => this.#pending.push({ record, resolve, reject }))
    this.#flushing ??= this.#flush().finally(() => {
      this.#flushing = undefined
    })
    return written
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

  async #flush(): Promise<void> {
    while (this.#pending.length > 0) {
      const waitMs = this.#flushedAt + GATHER_MS - performance.now()
      if (waitMs > 0) await sleep(waitMs)
      const group = this.#pending
      this.#pending = []
      const started = performance.now()
      try {
        await this.#write(group.map(({ record }) => record))
      } catch (err) {
        this.#onFailed(group, err)
        return
      }
      this.#flushedAt = performance.now()
      this.#options.onFlushed?.(group.length, (this.#flushedAt - started) / 1000)
      for (const { resolve } of group) resolve()
    }
  }

  async #write(records: JournalRecord[]): Promise<void> {
    const totals = this.#totalsWith(records)
    const now = this.#clock()
    const isCheckpoint = now - this.#checkpointAt >= CHECKPOINT_MS
    const batch = this.#bee.batch()
    let seq = this.#next
    try {
      for (const record of records) await batch.put(journalKeys.record(seq++), Buffer.from(JSON.stringify(record)))
      if (isCheckpoint) {
        for (const key of new Set([...this.#unstored, ...totals.keys()])) {
          await batch.put(key, Buffer.from(JSON.stringify(totals.get(key) ?? this.#totals.get(key))))
        }
        await batch.put(journalKeys.checkpoint, Buffer.from(String(seq)))
      }
      await batch.flush()
    } finally {
      await batch.close()
    }
    // Only now: a batch that failed has changed nothing.
    this.#next = seq
    for (const [key, total] of totals) {
      this.#totals.set(key, total)
      if (!isCheckpoint) this.#unstored.add(key)
    }
    if (isCheckpoint) {
      this.#checkpointAt = now
      this.#unstored.clear()
    }
  }

  #onFailed(group: Pending[], cause: unknown): void {
    this.#options.onError?.(cause)
    this.#broken = MeshError.DISK_FULL(
      `This gateway cannot record usage (${cause instanceof Error ? cause.message : String(cause)}); it takes no requests until it can`,
      {
        retryAfterMs: 10_000,
      },
    )
    for (const { reject } of group) reject(this.#broken)
    // The callers were told; the records must still be counted.
    this.#pending = [...group.map(({ record }) => ({ record, resolve: () => {}, reject: () => {} })), ...this.#pending]
    if (this.#closed) return
    setTimeout(() => {
      this.#flushing ??= this.#flush().finally(() => {
        this.#flushing = undefined
      })
      void this.#flushing.then(() => this.#checkDisk())
    }, RETRY_MS).unref()
  }

  async #checkDisk(): Promise<void> {
    try {
      const { bavail, bsize } = await statfs(this.#options.dir)
      const free = bavail * bsize
      if (free < this.#options.minFreeBytes) {
        this.#broken = MeshError.DISK_FULL(
          `This gateway has ${Math.floor(free / 2 ** 20)} MiB of disk left and needs ${Math.ceil(this.#options.minFreeBytes / 2 ** 20)} MiB to record usage safely; it takes no requests until there is room`,
          { retryAfterMs: 10_000 },
        )
      } else if (this.#pending.length === 0) this.#broken = undefined
    } catch (err) {
      this.#options.onError?.(err)
    }
  }
}

/** The names of the running UTC day and month, and `all`. */
function periodNames(now: number): Record<BudgetPeriod, string> {
  const iso = new Date(now).toISOString()
  return { day: iso.slice(0, 10), month: iso.slice(0, 7), total: 'all' }
}

function plus(totals: UsageTotals, record: JournalRecord): UsageTotals {
  return {
    requests: totals.requests + 1,
    failures: totals.failures + (record.outcome === 'stop' || record.outcome === 'length' ? 0 : 1),
    promptTokens: totals.promptTokens + record.promptTokens,
    cachedTokens: totals.cachedTokens + record.cachedTokens,
    completionTokens: totals.completionTokens + record.completionTokens,
  }
}
