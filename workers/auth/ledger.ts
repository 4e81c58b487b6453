import type Hyperbee from 'hyperbee'
import { z } from 'zod'
import {
  addUsage,
  encodeJson,
  MeshError,
  NO_USAGE,
  parseJson,
  type StoredRecord,
  storedRecordSchema,
  type UsageDimension,
  type UsageRow,
  type UsageSum,
  type UsageTotals,
  usageOf,
  usageRowSchema,
  validate,
} from '../../lib/protocol/index.js'
import { changeBee } from '../../lib/store/index.js'

const HOUR_MS = 3_600_000
/** As many rows as one answer holds. */
const MAX_ROWS = 10_000
/** The end of the year 9999: later years would sort before earlier ones. */
const MAX_TIME = 253_402_300_799_999 - HOUR_MS

const cursorSchema = z.object({ next: z.int().min(1) })
const lastSchema = z.object({ at: z.number() })

/** More than any request has: what a faulty gateway writes must not make the sums overflow. */
const tokens = z.int().min(0).max(1_000_000_000)

const recordSchema = storedRecordSchema.extend({
  at: z.number().int().min(0).max(MAX_TIME),
  promptTokens: tokens,
  cachedTokens: tokens,
  completionTokens: tokens,
})

const keys = {
  hour: (hour: string, keyId: string, model: string) => `hour/${hour}/${keyId}/${model}`,
  last: (keyId: string) => `last/${keyId}`,
  cursor: (journal: string) => `cursor/${journal}`,
}

export interface UsageFilter {
  /** Milliseconds since the epoch: hours that end after this. */
  from: number
  /** Hours that begin before this. */
  to?: number | undefined
  user?: string | undefined
  keyId?: string | undefined
}

/** Reads a journal's entry: the records that are good, and how many others it has. Never throws. */
export function readGroup(value: Uint8Array): { records: StoredRecord[]; malformed: number } {
  try {
    const group = [parseJson(value, 'journal entry')].flat()
    const records = group.flatMap((one) => recordSchema.safeParse(one).data ?? [])
    return { records, malformed: group.length - records.length }
  } catch {
    return { records: [], malformed: 1 }
  }
}

/** The usage: what all journals say, added up by hour, key and model. */
export class UsageLedger {
  readonly #bee: Hyperbee
  readonly #lastUsedAt = new Map<string, number>()

  constructor(bee: Hyperbee) {
    this.#bee = bee
  }

  async open(): Promise<void> {
    await this.#bee.ready()
    for await (const { key, value } of this.#bee.createReadStream({ gte: 'last/', lt: 'last0' })) {
      this.#lastUsedAt.set(key.slice('last/'.length), read(lastSchema, value, key).at)
    }
  }

  /** When a key was last used, as far as the journals have been folded. */
  lastUsedAt(keyId: string): number | undefined {
    return this.#lastUsedAt.get(keyId)
  }

  /** The first entry of a journal that has not been folded. */
  async cursor(journal: string): Promise<number> {
    const key = keys.cursor(journal)
    const entry = await this.#bee.get(key)
    return entry === null ? 1 : read(cursorSchema, entry.value, key).next
  }

  /**
   * Adds a journal's entries from `from` up to `next` to the totals. Totals and cursor are one batch, and the cursor
   * must stand at `from`: whatever is replayed, each record counts once.
   * @returns false when these entries were folded before
   */
  fold(journal: string, from: number, next: number, records: StoredRecord[]): Promise<boolean> {
    const rows = new Map<string, UsageRow>()
    const last = new Map<string, number>()
    for (const record of records) {
      const key = rowKey(record)
      rows.set(key, addUsage(rows.get(key) ?? emptyRow(record), usageOf(record)))
      last.set(record.keyId, Math.max(last.get(record.keyId) ?? 0, record.at))
    }
    const cursorKey = keys.cursor(journal)
    return changeBee(this.#bee, async (batch) => {
      const cursor = await batch.get(cursorKey)
      if ((cursor === null ? 1 : read(cursorSchema, cursor.value, cursorKey).next) !== from) return false
      for (const [key, row] of rows) {
        const stored = await batch.get(key)
        await batch.put(key, encodeJson(stored === null ? row : addUsage(read(usageRowSchema, stored.value, key), row)))
      }
      for (const [keyId, recent] of last) {
        const at = Math.max(recent, this.#lastUsedAt.get(keyId) ?? 0)
        this.#lastUsedAt.set(keyId, at)
        await batch.put(keys.last(keyId), encodeJson({ at }))
      }
      await batch.put(cursorKey, encodeJson({ next }))
      return true
    })
  }

  /**
   * Adds up the hours that overlap the range, oldest first.
   * @param by what makes a row
   * @throws MeshError BAD_REQUEST where that makes more than MAX_ROWS
   */
  async query({ from, to, user, keyId }: UsageFilter, by: readonly UsageDimension[]): Promise<UsageSum[]> {
    const sums = new Map<string, UsageSum>()
    const lt = to === undefined ? 'hour0' : `hour/${hourOf(Math.min(to, MAX_TIME) + HOUR_MS - 1)}/`
    const range = { gte: `hour/${hourOf(Math.min(from, MAX_TIME))}/`, lt }
    if (range.gte >= range.lt) return []
    for await (const { key, value } of this.#bee.createReadStream(range)) {
      const row = read(usageRowSchema, value, key)
      if ((user !== undefined && row.user !== user) || (keyId !== undefined && row.keyId !== keyId)) continue
      const names = namesOf(row, by)
      const id = JSON.stringify(names)
      sums.set(id, addUsage(sums.get(id) ?? { ...names, ...NO_USAGE }, row))
      if (sums.size > MAX_ROWS) {
        throw MeshError.BAD_REQUEST(
          `This is more than ${MAX_ROWS} rows of usage: ask for a shorter time, or add up by less than ${by.join(', ')}`,
          { param: 'by' },
        )
      }
    }
    return [...sums.values()]
  }
}

/** Where the totals are that a record adds to. */
export function rowKey({ at, keyId, model }: StoredRecord): string {
  return keys.hour(hourOf(at), keyId, model)
}

/** The totals that a record adds to, before anything was added. */
export function emptyRow({ at, keyId, user, model }: StoredRecord): UsageRow {
  return { hour: hourOf(at), keyId, user, model, ...NO_USAGE }
}

/** Such as 2026-01-31T15. */
function hourOf(time: number): string {
  return new Date(time).toISOString().slice(0, 13)
}

/** What a row is added up by, with its names in the one order. */
function namesOf(
  { hour, user, keyId, model }: UsageRow,
  by: readonly UsageDimension[],
): Omit<UsageSum, keyof UsageTotals> {
  return {
    ...(by.includes('hour') && { hour }),
    ...(by.includes('day') && { day: hour.slice(0, 10) }),
    ...(by.includes('user') && { user }),
    ...(by.includes('key') && { keyId }),
    ...(by.includes('model') && { model }),
  }
}

function read<T extends z.ZodType>(schema: T, value: Buffer, key: string): z.output<T> {
  return validate(schema, parseJson(value, key), key, 'STORE_INVALID')
}
