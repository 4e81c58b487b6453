import type Hyperbee from 'hyperbee'
import { type AuditEntry, auditEntrySchema, parseJson, validate } from '../../lib/protocol/index.js'

/** The last things that were changed, newest first. */
export async function readAudit(accounts: Hyperbee, limit: number): Promise<AuditEntry[]> {
  const entries: AuditEntry[] = []
  // '0' follows '/'.
  for await (const { key, value } of accounts.createReadStream({ gte: 'audit/', lt: 'audit0', reverse: true, limit })) {
    entries.push(validate(auditEntrySchema, parseJson(value, key), key, 'STORE_INVALID'))
  }
  return entries
}
