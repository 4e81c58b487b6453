import type { Limits, MeshClient } from '../../lib/client/index.js'
import { countText, durationText } from './output.js'

/** What is left of budgets, by what the authority has counted of all gateways. */

export type Budget = NonNullable<Limits['budget']>

/** Where a budget stands. */
export interface BudgetState extends Budget {
  used: number
  left: number
  /** When it begins anew, in milliseconds since the epoch; absent for one in all. */
  resetsAt?: number
}

/** When the running UTC day or month began, and when it ends; one in all has begun with everything. */
export function periodOf(period: Budget['period'], now: number): { from: number; until?: number } {
  if (period === 'total') return { from: 0 }
  const date = new Date(now)
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()]
  return period === 'month'
    ? { from: Date.UTC(year, month), until: Date.UTC(year, month + 1) }
    : { from: Date.UTC(year, month, day), until: Date.UTC(year, month, day + 1) }
}

export function budgetState(budget: Budget, used: number, now: number): BudgetState {
  const { until } = periodOf(budget.period, now)
  return {
    ...budget,
    used,
    left: Math.max(0, budget.tokens - used),
    ...(until !== undefined && { resetsAt: until }),
  }
}

/** Such as `12.3k of 100k tokens used for today (UTC), 87.7k left; anew in 7 h`. */
export function budgetStateText({ tokens, period, used, left, resetsAt }: BudgetState, now: number): string {
  const during = { day: 'today (UTC)', month: 'this month (UTC)', total: 'in all' }[period]
  const anew = resetsAt === undefined ? '' : `; anew in ${durationText(resetsAt - now)}`
  return `${countText(used)} of ${countText(tokens)} tokens used ${during}, ${countText(left)} left${anew}`
}

/** Whose tokens are asked for, and since when. */
interface Asked {
  by: 'user' | 'key'
  from: number
  user?: string
}

/** Tokens of prompts and answers by user or key. @throws MeshError */
export async function tokensBy(mesh: MeshClient, asked: Asked, signal: AbortSignal): Promise<Map<string, number>> {
  const { by, ...query } = asked
  const rows = await mesh.admin.usage.query({ ...query, by: [by] }, { signal })
  return new Map(
    rows.map((row) => [(by === 'user' ? row.user : row.keyId) ?? '', row.promptTokens + row.completionTokens]),
  )
}

/** A key, as far as it is looked at for what it shares with others. */
interface Child {
  id: string
  parent?: string | undefined
}

/** What a key has used together with all that were made with it: they share its budget. */
export function usedByFamily(id: string, keys: readonly Child[], used: ReadonlyMap<string, number>): number {
  const family = new Set([id])
  for (let before = 0; before !== family.size; ) {
    before = family.size
    for (const key of keys) if (key.parent !== undefined && family.has(key.parent)) family.add(key.id)
  }
  return [...family].reduce((sum, one) => sum + (used.get(one) ?? 0), 0)
}

/** Rows whose budgets are asked for one by one at most: the authority counts how often it is asked. */
const MOST_ALONE = 50

/**
 * Where the budgets of some users stand. What a former user of a name has used is not the present one's: who was added in
 * the period that runs is asked for alone.
 * @returns by name; without those that were too many to ask for
 */
export async function userBudgets(
  mesh: MeshClient,
  users: readonly { name: string; createdAt: number; limits: Limits }[],
  now: number,
  signal: AbortSignal,
): Promise<Map<string, BudgetState>> {
  const states = new Map<string, BudgetState>()
  const shared = new Map<number, Map<string, number>>()
  let alone = 0
  for (const { name, createdAt, limits } of users) {
    const { budget } = limits
    if (budget === undefined) continue
    const { from } = periodOf(budget.period, now)
    let used: ReadonlyMap<string, number> | undefined
    if (createdAt <= from) {
      used = shared.get(from) ?? (await tokensBy(mesh, { by: 'user', from }, signal))
      shared.set(from, new Map(used))
    } else if (alone++ < MOST_ALONE) {
      used = await tokensBy(mesh, { by: 'user', from: createdAt, user: name }, signal)
    }
    if (used !== undefined) states.set(name, budgetState(budget, used.get(name) ?? 0, now))
  }
  return states
}

/** Where the budgets of some keys stand. @param all the keys among which those are that were made with them */
export async function keyBudgets(
  mesh: MeshClient,
  keys: readonly (Child & { limits: Limits })[],
  all: readonly Child[],
  now: number,
  signal: AbortSignal,
): Promise<Map<string, BudgetState>> {
  const states = new Map<string, BudgetState>()
  const used = new Map<number, Map<string, number>>()
  for (const { id, limits } of keys) {
    const { budget } = limits
    if (budget === undefined) continue
    const { from } = periodOf(budget.period, now)
    const since = used.get(from) ?? (await tokensBy(mesh, { by: 'key', from }, signal))
    used.set(from, since)
    states.set(id, budgetState(budget, usedByFamily(id, all, since), now))
  }
  return states
}
