import { z } from 'zod'
import {
  addUsage,
  type BudgetPeriod,
  loginKeyId,
  NO_USAGE,
  type StoredRecord,
  type UsageTotals,
  usageOf,
  usageTotalsSchema,
} from '../../lib/protocol/index.js'

/** Totals of a period are kept for so long after its end: a clock that is put back must find what was used. */
const KEEP_ENDED_MS = 48 * 3_600_000

/** The totals as they are saved. */
export const savedSchema = z.object({
  /** How many records they count. */
  counted: z.int().min(0),
  /** By period and subject. */
  totals: z.record(z.string(), usageTotalsSchema),
  /** By name, when the users were added whose totals these are. Earlier builds did not save it. */
  users: z.record(z.string(), z.number()).optional(),
})
export type Saved = z.infer<typeof savedSchema>

/** What each key and each user has used in the periods that are running. */
export class Totals {
  /** By `totalKey`. */
  readonly #totals = new Map<string, UsageTotals>()
  readonly #users = new Map<string, number>()

  restore({ totals, users = {} }: Saved): void {
    for (const [key, total] of Object.entries(totals)) this.#totals.set(key, total)
    for (const [name, addedAt] of Object.entries(users)) this.#users.set(name, addedAt)
  }

  /** @param counted how many records these totals count */
  toSaved(counted: number): Saved {
    return { counted, totals: Object.fromEntries(this.#totals), users: Object.fromEntries(this.#users) }
  }

  /** Adds one record. */
  count(record: StoredRecord): void {
    const usage = usageOf(record)
    const periods = Object.values(periodNames(record.at))
    const keys = [record.keyId, ...(record.parents ?? [])]
    for (const subject of [...keys.map((id) => `key/${id}`), `user/${record.user}`]) {
      for (const period of periods) {
        const key = totalKey(subject, period)
        this.#totals.set(key, addUsage(this.#totals.get(key) ?? NO_USAGE, usage))
      }
    }
  }

  /** Whose totals those of this user's name are from here on. @param addedAt when the user was added */
  noteUser(name: string, addedAt: number): void {
    if (!this.#users.has(name)) this.#users.set(name, addedAt)
  }

  /** Of a key (`key/<id>`) or a user (`user/<name>`) for the running UTC day, month, and in all. */
  of(subject: string, now: number): Record<BudgetPeriod, UsageTotals> {
    const names = periodNames(now)
    const of = (period: BudgetPeriod) => this.#totals.get(totalKey(subject, names[period])) ?? NO_USAGE
    return { day: of('day'), month: of('month'), total: of('total') }
  }

  /**
   * Forgets what users used who are gone: the next one of such a name begins with nothing.
   * @param users all there are, by name, and when each was added
   * @returns whether anything changed
   */
  keepUsers(users: ReadonlyMap<string, number>): boolean {
    const gone = [...this.#users].filter(([name, addedAt]) => users.get(name) !== addedAt).map(([name]) => name)
    const subjects = new Set(gone.flatMap((name) => [`user/${name}`, `key/${loginKeyId(name)}`]))
    for (const key of this.#totals.keys()) if (subjects.has(subjectOf(key))) this.#totals.delete(key)
    for (const name of gone) this.#users.delete(name)
    const known = this.#users.size
    for (const [name, addedAt] of users) this.#users.set(name, addedAt)
    return gone.length > 0 || this.#users.size > known
  }

  /** Forgets the periods that ended some time ago. */
  forgetEnded(now: number): void {
    const oldest = periodNames(now - KEEP_ENDED_MS)
    for (const key of this.#totals.keys()) if (isBefore(periodOf(key), oldest)) this.#totals.delete(key)
  }
}

/** The names of the running UTC day and month, and `all`. */
function periodNames(now: number): Record<BudgetPeriod, string> {
  const iso = new Date(now).toISOString()
  return { day: iso.slice(0, 10), month: iso.slice(0, 7), total: 'all' }
}

/** When the running UTC day or month ends, in milliseconds since the epoch; undefined for all time. */
export function periodEnd(period: BudgetPeriod, now: number): number | undefined {
  if (period === 'total') return undefined
  const date = new Date(now)
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()]
  return period === 'month' ? Date.UTC(year, month + 1) : Date.UTC(year, month, date.getUTCDate() + 1)
}

function totalKey(subject: string, period: string): string {
  return `${period}/${subject}`
}

/** Whether a day or a month ended before those named. All, which is no date, never ends. */
function isBefore(period: string, { day, month }: Record<BudgetPeriod, string>): boolean {
  return period < (period.length === day.length ? day : month)
}

/** The period in the key of a total. */
function periodOf(key: string): string {
  return key.slice(0, key.indexOf('/'))
}

/** What the key of a total stands for besides the period. */
function subjectOf(key: string): string {
  return key.slice(key.indexOf('/') + 1)
}
