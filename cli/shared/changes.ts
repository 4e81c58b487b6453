import { type Limits, limitsSchema } from '../../lib/protocol/index.js'
import { timeText } from './output.js'
import { limitsText } from './parse.js'

/** What the audit trail says of a change, in words. */

/** Characters of a hash or a key that tell one from another. */
const SHOWN_HASH = 12

/** What a detail says, in short. The trail may be of another version: what is not known here is shown as it is. */
export function detailText(detail: Record<string, unknown>): string {
  const { before, after, ...rest } = detail
  const parts = Object.entries(rest)
    .filter(([name]) => name !== 'cut')
    .map(([name, value]) => `${WORDS[name] ?? name} ${valueText(name, value)}`)
  if (before !== undefined || after !== undefined) parts.push(...changesText(before, after))
  return parts.join(', ')
}

const WORDS: Readonly<Record<string, string>> = {
  expiresAt: 'until',
  publicKey: 'public key',
  parent: 'made with',
  dryRun: 'dry run',
}

/** What a change has changed, each as `name old -> new`. */
function changesText(before: unknown, after: unknown): string[] {
  if (asLimits(before) !== undefined && asLimits(after) !== undefined) {
    return [`limits ${valueText('limits', before)} -> ${valueText('limits', after)}`]
  }
  const [old, now] = [fieldsOf(before), fieldsOf(after)]
  return [...new Set([...Object.keys(old), ...Object.keys(now)])].flatMap((name) => {
    const [from, to] = [valueText(name, old[name]), valueText(name, now[name])]
    return from === to ? [] : [`${WORDS[name] ?? name} ${from} -> ${to}`]
  })
}

function valueText(name: string, value: unknown): string {
  if (value === undefined || value === null) return name === 'limits' ? 'none' : '-'
  if (name === 'limits' || name === 'before' || name === 'after') {
    const limits = asLimits(value)
    if (limits !== undefined) return limitsText(limits)
  }
  if (typeof value === 'number') return name.endsWith('At') ? timeText(value) : String(value)
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'string') return /^(hash|publicKey)$/.test(name) ? `${value.slice(0, SHOWN_HASH)}…` : value
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value.join('+')
  return Object.entries(fieldsOf(value))
    .map(([field, one]) => `${field} ${valueText(field, one)}`)
    .join(' ')
}

function asLimits(value: unknown): Limits | undefined {
  const read = limitsSchema.safeParse(value)
  return read.success ? read.data : undefined
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}
