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
import { Compaction } from './compaction.js'

const HOUR_MS = 3_600_000
const DAY_MS = 86_400_000
/** As many rows as one answer holds. */
const MAX_ROWS = 10_000
/** The end of the year 9999: later years would sort before earlier ones. */
const MAX_TIME = 253_402_300_799_999 - HOUR_MS

const cursorSchema = z.object({
  next: z.int().min(1),
  /** The newest record that was folded; absent where an early build folded them. */
  newest: z.number().optional(),
})
export type Cursor = z.output<typeof cursorSchema>
/** Which entries of a journal are kept. A mark: what was folded at a time. */
const heldSchema = z.object({
  from: z.int().min(1),
  marks: z.array(z.object({ next: z.int(), at: z.number(), newest: z.number() })),
})
type Held = z.output<typeof heldSchema>
const droppedSchema = z.object({ until: z.string() })
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
  held: (journal: string) => `held/${journal}`,
  /** Up to which hour records may have been in journals that are here no longer. */
  dropped: 'dropped',
}

export interface UsageFilter {
  /** Milliseconds since the epoch: hours that end after this. */
  from: number
  /** Hours that begin before this. */
  to?: number | undefined
  user?: string | undefined
  keyId?: string | undefined
  /** Rows for which this is false are left out. */
  isShown?: ((row: UsageRow) => boolean) | undefined
}

/** The usage as it was at one moment. */
export interface UsageSnapshot {
  cursor(journal: string): Promise<Cursor>
  /** The first entry of a journal that is kept. */
  from(journal: string): Promise<number>
  /** Rows and their keys, from one hour (such as 2026-01-31T15) up to another; undefined: all that follow. */
  rows(from: string, to: string | undefined): AsyncIterable<[key: string, row: UsageRow]>
  /** The last hour of which records may have been in journals that are here no longer; empty: none. */
  droppedUntil(): Promise<string>
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
  readonly #compaction: Compaction

  constructor(bee: Hyperbee) {
    this.#bee = bee
    this.#compaction = new Compaction(bee)
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

  /** Where folding a journal stands; at its first entry where nothing of it has been folded. */
  cursor(journal: string): Promise<Cursor> {
    return readCursor(this.#bee, journal)
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
    return changeBee(this.#bee, async (batch) => {
      const cursor = await readCursor(batch, journal)
      if (cursor.next !== from) return false
      for (const [key, row] of rows) {
        const stored = await batch.get(key)
        await batch.put(key, encodeJson(stored === null ? row : addUsage(read(usageRowSchema, stored.value, key), row)))
      }
      for (const [keyId, recent] of last) {
        const at = Math.max(recent, this.#lastUsedAt.get(keyId) ?? 0)
        this.#lastUsedAt.set(keyId, at)
        await batch.put(keys.last(keyId), encodeJson({ at }))
      }
      // What an early build folded may be as new as anything by now.
      const before = cursor.newest ?? (from > 1 ? Date.now() : 0)
      const newest = records.reduce((newest, { at }) => Math.max(newest, at), before)
      const moved: Cursor = { next, newest }
      await batch.put(keys.cursor(journal), encodeJson(moved))
      return true
    })
  }

  /** The usage as it is now, whatever is folded meanwhile. */
  snapshot(): UsageSnapshot {
    // Every change is one batch, so that each version is whole.
    const bee = this.#bee.checkout(this.#bee.version, { reuseSession: true })
    return {
      cursor: (journal) => readCursor(bee, journal),
      rows: (from, to) => readRows(bee, { gte: `hour/${from}`, lt: to === undefined ? 'hour0' : `hour/${to}` }),
      from: async (journal) => (await readHeld(bee, journal)).from,
      droppedUntil: () => readDropped(bee),
    }
  }

  /** Adds what rows lack, or takes what they have too much, in one batch. A row that says nothing then goes. */
  mend(differences: Map<string, UsageRow>): Promise<void> {
    return changeBee(this.#bee, async (batch) => {
      for (const [key, difference] of differences) {
        const stored = await batch.get(key)
        const row = stored === null ? difference : addUsage(read(usageRowSchema, stored.value, key), difference)
        if (row.requests > 0) await batch.put(key, encodeJson(row))
        else if (stored !== null) await batch.del(key)
      }
    })
  }

  /**
   * Marks how far a journal is folded, once a day, and lets go of what was folded before a time.
   * @param now milliseconds since the epoch, by this machine's clock: a gateway's might say anything
   * @returns the first entry that is kept
   */
  release(journal: string, now: number, before: number): Promise<number> {
    return changeBee(this.#bee, async (batch) => {
      const { next, newest = now } = await readCursor(batch, journal)
      const held = await readHeld(batch, journal)
      const last = held.marks.at(-1)
      const isDue = next > (last?.next ?? held.from) && (last === undefined || now >= last.at + DAY_MS)
      const marks = isDue ? [...held.marks, { next, at: now, newest }] : held.marks
      const gone = marks.filter(({ at }) => at < before).at(-1)
      if (!isDue && gone === undefined) return held.from
      const kept: Held = { from: gone?.next ?? held.from, marks: marks.filter(({ at }) => at >= before) }
      await batch.put(keys.held(journal), encodeJson(kept))
      if (gone !== undefined) {
        const until = hourOf(gone.newest)
        if (until > (await readDropped(batch))) await batch.put(keys.dropped, encodeJson({ until }))
      }
      return kept.from
    })
  }

  /** Gives back the room of what later changes have replaced. @param isIdle false while somebody reads an older version */
  compact(isIdle: () => boolean): Promise<void> {
    return this.#compaction.run(isIdle)
  }

  /**
   * Adds up the hours that overlap the range, oldest first.
   * @param by what makes a row
   * @throws MeshError BAD_REQUEST where that makes more than MAX_ROWS
   */
  async query({ from, to, user, keyId, isShown }: UsageFilter, by: readonly UsageDimension[]): Promise<UsageSum[]> {
    const sums = new Map<string, UsageSum>()
    const lt = to === undefined ? 'hour0' : `hour/${hourOf(Math.min(to, MAX_TIME) + HOUR_MS - 1)}/`
    const range = { gte: `hour/${hourOf(Math.min(from, MAX_TIME))}/`, lt }
    if (range.gte >= range.lt) return []
    for await (const [, row] of readRows(this.#bee, range)) {
      if ((user !== undefined && row.user !== user) || (keyId !== undefined && row.keyId !== keyId)) continue
      if (isShown?.(row) === false) continue
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

async function readHeld(bee: Pick<Hyperbee, 'get'>, journal: string): Promise<Held> {
  const key = keys.held(journal)
  const entry = await bee.get(key)
  return entry === null ? { from: 1, marks: [] } : read(heldSchema, entry.value, key)
}

async function readDropped(bee: Pick<Hyperbee, 'get'>): Promise<string> {
  const entry = await bee.get(keys.dropped)
  return entry === null ? '' : read(droppedSchema, entry.value, keys.dropped).until
}

async function* readRows(bee: Hyperbee, range: { gte: string; lt: string }): AsyncGenerator<[string, UsageRow]> {
  for await (const { key, value } of bee.createReadStream(range)) yield [key, read(usageRowSchema, value, key)]
}

async function readCursor(bee: Pick<Hyperbee, 'get'>, journal: string): Promise<Cursor> {
  const key = keys.cursor(journal)
  const entry = await bee.get(key)
  return entry === null ? { next: 1 } : read(cursorSchema, entry.value, key)
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
export function hourOf(time: number): string {
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
