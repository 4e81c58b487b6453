import { setImmediate as otherWork } from 'node:timers/promises'
import {
  addUsage,
  NO_USAGE,
  type StoredRecord,
  type UsageRow,
  type UsageTotals,
  usageOf,
} from '../../lib/protocol/index.js'
import type { JournalReader } from './journal-reader.js'
import { emptyRow, hourOf, rowKey, type UsageLedger, type UsageSnapshot } from './ledger.js'

/** Rows that are held in memory. Where there are more, the journals are read again for the hours that are left. */
const ROWS_IN_MEMORY = 50_000
/** Rows that are mended in one batch, which folds wait for. */
const MENDED_AT_ONCE = 200
/** Entries of journals that are read before other work has its turn. */
const READ_AT_ONCE = 64

const FIELDS = ['requests', 'failures', 'promptTokens', 'cachedTokens', 'completionTokens'] as const

/** A row that says something else than the journals. */
export interface UsageDifference {
  row: Omit<UsageRow, keyof UsageTotals>
  stored: UsageTotals
  /** What it is mended to. */
  correct: UsageTotals
}

export interface UsageCheckResult {
  /** Journals that were read, and records in them. */
  journals: number
  records: number
  /** Rows that were compared. */
  rows: number
  /** The last hour of which the journals do not tell all; empty: they tell of all hours. */
  partialUntil: string
}

export interface UsageCheckOptions {
  ledger: UsageLedger
  journals: readonly JournalReader[]
  mend: boolean
  onProgress: (entries: number) => void
  onDifference: (difference: UsageDifference) => void
  rowsInMemory?: number
}

interface Part {
  journal: JournalReader
  /** The first entry that is kept. */
  from: number
  /** Entries before this one are in the totals. */
  end: number
}

/**
 * Adds up the journals anew, compares the sums with the stored totals, and mends those.
 *
 * Both are as of one moment, and what is mended is the difference: folds go on meanwhile. Hours of which every record is
 * in a journal that is here are exact. Older ones can only be known to lack something, and are only raised.
 */
export async function checkUsage(options: UsageCheckOptions): Promise<UsageCheckResult> {
  const { ledger, journals, mend, onProgress, onDifference } = options
  const snapshot = ledger.snapshot()
  const { parts, partialUntil } = await partsOf(snapshot, journals)
  const result: UsageCheckResult = { journals: parts.length, records: 0, rows: 0, partialUntil }
  let from: string | undefined = ''
  while (from !== undefined) {
    const sums = new Sums(from, options.rowsInMemory ?? ROWS_IN_MEMORY)
    const records = await addUp(parts, sums, onProgress)
    result.records = Math.max(result.records, records)
    const wrong = new Map<string, UsageRow>()
    const compare = async (key: string, stored: UsageRow, told: UsageTotals): Promise<void> => {
      result.rows++
      const difference = differenceOf(stored, told, stored.hour <= partialUntil)
      if (difference === undefined) return
      const { hour, keyId, user, model } = stored
      const correct = addUsage(totalsOf(stored), difference)
      onDifference({ row: { hour, keyId, user, model }, stored: totalsOf(stored), correct })
      wrong.set(key, { ...stored, ...difference })
      if (mend && wrong.size >= MENDED_AT_ONCE) await mendAll(ledger, wrong)
    }
    for await (const [key, row] of snapshot.rows(from, sums.to)) {
      await compare(key, row, sums.take(key) ?? NO_USAGE)
    }
    for (const [key, row] of sums.left) await compare(key, { ...row, ...NO_USAGE }, row)
    if (mend) await mendAll(ledger, wrong)
    from = sums.to
  }
  return result
}

async function mendAll(ledger: UsageLedger, wrong: Map<string, UsageRow>): Promise<void> {
  if (wrong.size > 0) await ledger.mend(wrong)
  wrong.clear()
}

/** The journals that are here up to their cursors, and the last hour of which others may have told. */
async function partsOf(
  snapshot: UsageSnapshot,
  journals: readonly JournalReader[],
): Promise<{ parts: Part[]; partialUntil: string }> {
  const parts: Part[] = []
  let partialUntil = await snapshot.droppedUntil()
  for (const journal of journals) {
    const { next, newest } = await snapshot.cursor(journal.key)
    const from = await snapshot.from(journal.key)
    if (await journal.holds(from, next)) parts.push({ journal, from, end: next })
    else {
      const until = hourOf(newest ?? Date.now())
      if (until > partialUntil) partialUntil = until
    }
  }
  return { parts, partialUntil }
}

/** @returns how many records there are, those of other hours included */
async function addUp(parts: Part[], sums: Sums, onProgress: (entries: number) => void): Promise<number> {
  let records = 0
  for (const { journal, from, end } of parts) {
    let entries = 0
    for await (const group of journal.groups(from, end)) {
      for (const record of group.records) sums.add(record)
      records += group.records.length
      if (++entries % READ_AT_ONCE > 0) continue
      onProgress(READ_AT_ONCE)
      await otherWork()
    }
    onProgress(entries % READ_AT_ONCE)
  }
  return records
}

/** What the journals say of some hours: as many from the first on as fit in memory. */
class Sums {
  readonly #from: string
  #most: number
  readonly #rows = new Map<string, UsageRow>()
  /** The first hour that did not fit; undefined: all did. */
  to: string | undefined

  constructor(from: string, most: number) {
    this.#from = from
    this.#most = most
  }

  add(record: StoredRecord): void {
    const hour = hourOf(record.at)
    if (hour < this.#from || (this.to !== undefined && hour >= this.to)) return
    const key = rowKey(record)
    this.#rows.set(key, addUsage(this.#rows.get(key) ?? emptyRow(record), usageOf(record)))
    if (this.#rows.size > this.#most) this.#forgetNewest()
  }

  /** Rows that were not taken. */
  get left(): ReadonlyMap<string, UsageRow> {
    return this.#rows
  }

  take(key: string): UsageRow | undefined {
    const row = this.#rows.get(key)
    this.#rows.delete(key)
    return row
  }

  /** The newer half of the hours. A single hour stays, however many keys used something in it. */
  #forgetNewest(): void {
    const hours = [...new Set([...this.#rows.values()].map(({ hour }) => hour))].sort()
    const to = hours.length < 2 ? undefined : hours[Math.ceil(hours.length / 2)]
    if (to === undefined) {
      this.#most *= 2
      return
    }
    this.to = to
    for (const [key, { hour }] of this.#rows) if (hour >= to) this.#rows.delete(key)
  }
}

/** What to add to a row; undefined where nothing. @param onlyRaise the journals do not tell all of it */
function differenceOf(stored: UsageTotals, told: UsageTotals, onlyRaise: boolean): UsageTotals | undefined {
  const difference = { ...NO_USAGE }
  for (const field of FIELDS) {
    const lacks = told[field] - stored[field]
    difference[field] = onlyRaise ? Math.max(0, lacks) : lacks
  }
  return FIELDS.some((field) => difference[field] !== 0) ? difference : undefined
}

function totalsOf(row: UsageTotals): UsageTotals {
  const { requests, failures, promptTokens, cachedTokens, completionTokens } = row
  return { requests, failures, promptTokens, cachedTokens, completionTokens }
}
