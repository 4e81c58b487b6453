import { z } from 'zod'
import { keyIdSchema, modelNameSchema, nameSchema, publicKeySchema } from './ids.js'
import { finishReasonSchema } from './inference.js'
import { scopeSchema, userRoleSchema } from './scopes.js'
import { storedText } from './text.js'

/** What lives in the Hyperbees: one schema for each kind of entry. Times are milliseconds since the epoch. */

export const ROLES = ['auth', 'gateway', 'processor', 'metrics'] as const
export const roleSchema = z.enum(ROLES)
export type Role = z.infer<typeof roleSchema>

/** Whether a role is a door of the mesh: strangers may connect to it, as clients, and on the mesh's own networks others begin at it. */
export function isDoor(role: string): boolean {
  return role === 'auth' || role === 'gateway'
}

const time = z.number().int().min(0)

/** Models that may be approved for one guest. */
export const MAX_APPROVED = 100

// --- directory: read by everyone who has the address ---

/**
 * How far a processor is trusted. `own`: it serves what it announces. `guest`: the models that an admin has approved for
 * it, and no others, whatever it announces.
 */
export const trustSchema = z.enum(['own', 'guest'])

/** Directory, `member/<public key>`. */
export const memberSchema = z.object({
  publicKey: publicKeySchema,
  role: roleSchema,
  name: nameSchema,
  addedAt: time,
  /** The member is refused after this time; absent: never. */
  notAfter: time.optional(),
  /** Absent: own. */
  trust: trustSchema.optional(),
  /** Of a guest: what an admin has approved for it; absent: nothing. */
  models: z.array(modelNameSchema).max(MAX_APPROVED).optional(),
})
export type Member = z.infer<typeof memberSchema>

/** Directory, `model/<name>`. */
export const modelSchema = z.object({
  name: modelNameSchema,
  /** SHA-256 of the GGUF file, hex. */
  hash: storedText(),
  sizeBytes: z.int().min(0),
  architecture: storedText(),
  /** llama.cpp's name of the file type, such as Q4_K_M. */
  quantisation: storedText(),
  parameters: z.int().min(0),
  /** Longest context in tokens that the file was trained for. */
  contextLength: z.int().min(1),
  licence: storedText(),
})
export type Model = z.infer<typeof modelSchema>

/** The name of the model that comes with the package: a demonstration, which gives way to the first real one. */
export const EMBEDDED_MODEL = 'infermesh-tiny'

/** Directory, `default/model`: the model of requests that name none. */
export const defaultModelSchema = z.object({
  name: modelNameSchema,
  /** An admin has chosen it; absent: it came to be the default by being there first. */
  chosen: z.boolean().optional(),
})

// --- accounts: read by gateways only ---

export const budgetPeriodSchema = z.enum(['day', 'month', 'total'])
export type BudgetPeriod = z.infer<typeof budgetPeriodSchema>

/** What a key or a user may use. What is absent is not limited. */
export const limitsSchema = z.strictObject({
  requestsPerMinute: z.int().min(1).optional(),
  tokensPerMinute: z.int().min(1).optional(),
  concurrentRequests: z.int().min(1).optional(),
  budget: z.strictObject({ tokens: z.int().min(0), period: budgetPeriodSchema }).optional(),
  models: z.array(modelNameSchema).min(1).optional(),
})
export type Limits = z.infer<typeof limitsSchema>

/** Accounts, `user/<name>`. */
export const userSchema = z.object({
  name: nameSchema,
  role: userRoleSchema,
  /** argon2id in PHC form; absent: no password login. */
  passwordHash: z.string().optional(),
  limits: limitsSchema,
  createdAt: time,
})
export type User = z.infer<typeof userSchema>

/** Accounts, `key/<id>`. */
export const apiKeySchema = z.object({
  id: keyIdSchema,
  user: nameSchema,
  /** What the owner calls it. */
  label: storedText().max(100).optional(),
  secretHash: z.string(),
  /** Absent in keys of builds that knew none: whatever the user's role allows. */
  scopes: z.array(scopeSchema).optional(),
  /** The key that it was made with: its limits hold for this one as well, and it dies with it. */
  parent: keyIdSchema.optional(),
  limits: limitsSchema,
  createdAt: time,
  expiresAt: time.optional(),
  revokedAt: time.optional(),
})
export type ApiKey = z.infer<typeof apiKeySchema>

/** Accounts, `invite/<id>`. */
export const inviteSchema = z.object({
  id: z.string(),
  secretHash: z.string(),
  /** The only role it admits; absent: any. */
  role: roleSchema.optional(),
  /** The name the new member gets; absent: the one it asks for. */
  name: nameSchema.optional(),
  /** How far whom it admits is trusted; absent: own. */
  trust: trustSchema.optional(),
  /** The home's own invite: workers that can read its file (0600) join with it, any number of times. */
  reusable: z.boolean().default(false),
  createdAt: time,
  expiresAt: time.optional(),
  spentAt: time.optional(),
  spentBy: z.string().optional(),
  revokedAt: time.optional(),
})
export type Invite = z.infer<typeof inviteSchema>

/** Accounts, `audit/<sequence number>`. */
export const auditEntrySchema = z.object({
  seq: z.int().min(0),
  at: time,
  /** User name, or `system`. */
  actor: storedText(),
  /** Such as `key.create`. */
  action: storedText(),
  target: storedText(),
  detail: z.record(z.string(), z.unknown()).optional(),
})
export type AuditEntry = z.infer<typeof auditEntrySchema>

// --- journal: written by each gateway for itself ---

/** What a gateway writes of every request that it admitted. */
export const journalRecordSchema = z.object({
  requestId: storedText(),
  at: time,
  keyId: keyIdSchema,
  /** The keys that this one was made with, the nearest first: against their budgets, too, the request counts. */
  parents: z.array(keyIdSchema).optional(),
  user: storedText(),
  model: storedText(),
  kind: z.enum(['chat', 'completion', 'embedding']),
  processor: storedText().optional(),
  promptTokens: z.int().min(0),
  cachedTokens: z.int().min(0),
  completionTokens: z.int().min(0),
  /** A finish reason, or the code of the error that ended it. */
  outcome: storedText(),
  queueMs: z.number().min(0),
  firstTokenMs: z.number().min(0).optional(),
  totalMs: z.number().min(0),
})
export type JournalRecord = z.infer<typeof journalRecordSchema>

/** A record as it is read: one of a later version counts as well, whatever kind of request it tells of. */
export const storedRecordSchema = journalRecordSchema.extend({ kind: z.string().min(1).max(64) })
export type StoredRecord = z.infer<typeof storedRecordSchema>

/**
 * Journal, `record/<number of the first>`: the records that were written at once, in their order. One that is no list
 * is a group of one, as journals of early builds hold them.
 */
export const journalGroupSchema = z.preprocess((value) => [value].flat(), z.array(storedRecordSchema))

// --- usage: folded by the authority ---

export const usageTotalsSchema = z.object({
  requests: z.int().min(0),
  /** Requests whose answer did not come to its end. */
  failures: z.int().min(0),
  promptTokens: z.int().min(0),
  cachedTokens: z.int().min(0),
  completionTokens: z.int().min(0),
})
export type UsageTotals = z.infer<typeof usageTotalsSchema>

export const NO_USAGE: UsageTotals = {
  requests: 0,
  failures: 0,
  promptTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
}

/** What one request adds to the totals. An answer that came to its end is no failure. */
export function usageOf({ outcome, promptTokens, cachedTokens, completionTokens }: StoredRecord): UsageTotals {
  const failures = finishReasonSchema.safeParse(outcome).success ? 0 : 1
  return { requests: 1, failures, promptTokens, cachedTokens, completionTokens }
}

/** The sum; whatever else `a` holds stays. */
export function addUsage<T extends UsageTotals>(a: T, b: UsageTotals): T {
  return {
    ...a,
    requests: a.requests + b.requests,
    failures: a.failures + b.failures,
    promptTokens: a.promptTokens + b.promptTokens,
    cachedTokens: a.cachedTokens + b.cachedTokens,
    completionTokens: a.completionTokens + b.completionTokens,
  }
}

/** Usage, `hour/<hour as 2026-01-31T15>/<key id>/<model>`. */
export const usageRowSchema = usageTotalsSchema.extend({
  hour: z.string(),
  keyId: keyIdSchema,
  user: storedText(),
  model: storedText(),
})
export type UsageRow = z.infer<typeof usageRowSchema>

/** What usage can be added up by. */
export const usageDimensionSchema = z.enum(['hour', 'day', 'user', 'key', 'model'])
export type UsageDimension = z.infer<typeof usageDimensionSchema>

/** Usage added up: it names only what it was added up by. */
export const usageSumSchema = z.object({
  hour: z.string().optional(),
  day: z.string().optional(),
  user: z.string().optional(),
  keyId: keyIdSchema.optional(),
  model: z.string().optional(),
  ...usageTotalsSchema.shape,
})
export type UsageSum = z.infer<typeof usageSumSchema>

/** What a check of the totals against the journals has found so far. */
export const usageCheckSchema = z.object({
  id: z.string(),
  state: z.enum(['running', 'done', 'failed']),
  /** Nothing was changed. */
  dryRun: z.boolean(),
  /** Entries of the journals read so far, and how many there are. Large totals take more than one reading. */
  entries: z.int().min(0),
  ofEntries: z.int().min(0),
  /** Rows that say something else than the journals; the first of them by name, and the sums over all of them. */
  different: z.int().min(0),
  differences: z.array(
    z.object({
      row: usageRowSchema.pick({ hour: true, keyId: true, user: true, model: true }),
      stored: usageTotalsSchema,
      correct: usageTotalsSchema,
    }),
  ),
  stored: usageTotalsSchema,
  correct: usageTotalsSchema,
  /** Once it is done. */
  result: z
    .object({
      journals: z.int().min(0),
      records: z.int().min(0),
      rows: z.int().min(0),
      /** The last hour of which the journals do not tell all, and rows are only raised; empty: they tell of all hours. */
      partialUntil: z.string(),
    })
    .optional(),
  /** Why it failed. */
  failure: z.object({ code: z.string(), message: z.string() }).optional(),
})
export type UsageCheck = z.infer<typeof usageCheckSchema>
