import type Hyperbee from 'hyperbee'
import {
  type AuditEntry,
  auditEntrySchema,
  endPage,
  type Page,
  type PageRequest,
  parseJson,
  validate,
} from '../../lib/protocol/index.js'
import { accountKeys } from '../../lib/store/index.js'

/** An entry's detail takes no more than this, as JSON. */
const MAX_DETAIL_BYTES = 4096
/** What a list shows of its items where the detail is too long with all of them. */
const LIST_BYTES = 250
/** What is too long for that besides its lists is told by its beginning: more than a key's scopes, end and limits take. */
const BEGINNING_CHARS = 800

/**
 * What a change was about, cut where it is too long, and in `cut` the names of the fields that were: lists first, so that
 * a hundred models hide no budget, then to the beginning of each field, as text.
 */
export function cutDetail(detail: Record<string, unknown>): Record<string, unknown> {
  if (bytesOf(detail) <= MAX_DETAIL_BYTES) return detail
  const kept: Record<string, unknown> = { cut: [] }
  const cut: string[] = []
  for (const [name, value] of Object.entries(detail)) {
    const field = name.slice(0, 100)
    const short = withShortLists(value)
    const shown = bytesOf(short) > BEGINNING_CHARS ? `${JSON.stringify(short).slice(0, BEGINNING_CHARS)}…` : short
    if (bytesOf({ ...kept, cut: [...cut, field], [field]: shown }) > MAX_DETAIL_BYTES) {
      cut.push('…')
      break
    }
    kept[field] = shown
    if (bytesOf(shown) !== bytesOf(value)) cut.push(field)
  }
  return { ...kept, cut }
}

/** The same with the first items of each long list, and how many there were. */
function withShortLists(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value
  if (!Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, withShortLists(member)]))
  }
  if (bytesOf(value) <= LIST_BYTES) return value
  const items: unknown[] = value
  const shown: unknown[] = []
  for (const item of items) {
    if (bytesOf([...shown, item]) > LIST_BYTES) break
    shown.push(item)
  }
  return [...shown, `… ${items.length} in all`]
}

function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value) ?? '')
}

/** The last things that were changed, newest first. */
export async function readAudit(accounts: Hyperbee, { limit, after }: PageRequest): Promise<Page<AuditEntry>> {
  // '0' follows '/'.
  const lt = after !== undefined && /^\d+$/.test(after) ? accountKeys.audit(Number(after)) : 'audit0'
  const found: { item: AuditEntry; cursor: string }[] = []
  for await (const { key, value } of accounts.createReadStream({
    gte: 'audit/',
    lt,
    reverse: true,
    limit: limit + 1,
  })) {
    const { detail, ...entry } = validate(auditEntrySchema, parseJson(value, key), key, 'STORE_INVALID')
    // Early builds wrote details of any length.
    const item = { ...entry, ...(detail && { detail: cutDetail(detail) }) }
    found.push({ item, cursor: String(entry.seq) })
  }
  return endPage(found.slice(0, limit), found.length > limit)
}
