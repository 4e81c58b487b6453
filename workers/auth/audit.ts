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
/** What is too long for that is told by its beginning. */
const BEGINNING_CHARS = 400

/**
 * What a change was about, cut where it is too long: of each field that does not fit the beginning, as text, and in `cut`
 * the names of those fields.
 */
export function cutDetail(detail: Record<string, unknown>): Record<string, unknown> {
  if (bytesOf(detail) <= MAX_DETAIL_BYTES) return detail
  const kept: Record<string, unknown> = { cut: [] }
  const cut: string[] = []
  for (const [name, value] of Object.entries(detail)) {
    const field = name.slice(0, 100)
    const isCut = bytesOf(value) > BEGINNING_CHARS
    const shown = isCut ? `${(JSON.stringify(value) ?? '').slice(0, BEGINNING_CHARS)}…` : value
    if (bytesOf({ ...kept, cut: [...cut, field], [field]: shown }) > MAX_DETAIL_BYTES) {
      cut.push('…')
      break
    }
    kept[field] = shown
    if (isCut) cut.push(field)
  }
  return { ...kept, cut }
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
