import { InvalidArgumentError } from 'commander'
import { type Limits, SCOPES, type Scope } from '../../lib/protocol/index.js'

/** Readers of option values; each throws commander's InvalidArgumentError, which names the option. */

export function integer(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Expected a whole number.')
  return Number(text)
}

export function port(text: string): number {
  const value = integer(text)
  if (value > 65_535) throw new InvalidArgumentError('Expected a port from 0 to 65535.')
  return value
}

export function decimal(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Expected a number.')
  return value
}

/** Gathers a repeatable option. */
export function gather(text: string, before: string[] = []): string[] {
  return [...before, text]
}

/** Gathers a repeatable option whose values are scopes. */
export function gatherScope(text: string, before: Scope[] = []): Scope[] {
  const scope = SCOPES.find((one) => one === text)
  if (scope === undefined) throw new InvalidArgumentError(`Expected ${SCOPES.join(', ')}.`)
  return [...before, scope]
}

/** `a,b` as two items. */
export function list(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

const UNIT_MS: Record<string, number> = {
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
}

/** `90s`, `30m`, `12h`, `30d` or `2w` in milliseconds. */
export function duration(text: string): number {
  const match = /^(\d+)(s|m|min|h|d|w)$/.exec(text.trim())
  if (match === null) throw new InvalidArgumentError('Expected a time such as 90s, 30m, 12h, 30d or 2w.')
  return Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0)
}

/** A time ago such as `24h`, or a date such as 2026-01-31, in milliseconds since the epoch. */
export function since(text: string): number {
  if (/^\d{4}-\d{2}-\d{2}/.test(text)) {
    const at = Date.parse(text)
    if (!Number.isNaN(at)) return at
  }
  try {
    return Date.now() - duration(text)
  } catch {
    throw new InvalidArgumentError('Expected a time such as 12h or 7d, or a date such as 2026-01-31.')
  }
}

/** `100000/day`: tokens in a day, month or total. */
export function budget(text: string): NonNullable<Limits['budget']> {
  const match = /^(\d+)([kM]?)\/(day|month|total)$/.exec(text.trim())
  if (match === null) throw new InvalidArgumentError('Expected tokens and a period, such as 100000/day or 2M/month.')
  const size = { '': 1, k: 1000, M: 1_000_000 }[match[2] ?? ''] ?? 1
  return { tokens: Number(match[1]) * size, period: match[3] as 'day' | 'month' | 'total' }
}

/** Options that make limits, as `keys create` and `users add` take them. */
export interface LimitOptions {
  rpm?: number
  tpm?: number
  concurrent?: number
  budget?: NonNullable<Limits['budget']>
  models?: string[]
}

export function limitsOf({ rpm, tpm, concurrent, budget: tokens, models }: LimitOptions): Limits {
  return {
    ...(rpm === undefined ? {} : { requestsPerMinute: rpm }),
    ...(tpm === undefined ? {} : { tokensPerMinute: tpm }),
    ...(concurrent === undefined ? {} : { concurrentRequests: concurrent }),
    ...(tokens === undefined ? {} : { budget: tokens }),
    ...(models === undefined ? {} : { models }),
  }
}

/** A number as an option takes it: 30000000 as `30M`, where that says all of it. */
function exactText(count: number): string {
  if (count >= 1e6 && count % 1e6 === 0) return `${count / 1e6}M`
  return count >= 1e4 && count % 1e3 === 0 ? `${count / 1e3}k` : String(count)
}

/** A budget in few words. */
export function budgetText({ tokens, period }: NonNullable<Limits['budget']>): string {
  return `${exactText(tokens)} tokens ${{ day: 'a day', month: 'a month', total: 'in all' }[period]}`
}

/** Names of models that a line shows. */
const SHOWN_MODELS = 4

/** Limits in few words. */
export function limitsText(limits: Limits): string {
  const parts: string[] = []
  if (limits.requestsPerMinute !== undefined) parts.push(`${limits.requestsPerMinute} requests/min`)
  if (limits.tokensPerMinute !== undefined) parts.push(`${exactText(limits.tokensPerMinute)} tokens/min`)
  if (limits.concurrentRequests !== undefined) parts.push(`${limits.concurrentRequests} at a time`)
  if (limits.budget !== undefined) parts.push(budgetText(limits.budget))
  if (limits.models !== undefined) {
    const { length } = limits.models
    const more = length > SHOWN_MODELS ? ` and ${length - SHOWN_MODELS} more models` : ''
    parts.push(limits.models.slice(0, SHOWN_MODELS).join('+') + more)
  }
  return parts.length === 0 ? 'none' : parts.join(', ')
}
