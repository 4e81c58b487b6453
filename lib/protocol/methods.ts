import { z } from 'zod'
import { keyIdSchema, modelNameSchema, nameSchema } from './ids.js'
import {
  embeddingRequestSchema,
  embeddingResultSchema,
  inferenceRequestSchema,
  inferenceResultSchema,
} from './inference.js'
import { workerStatusSchema, workerViewSchema } from './load.js'
import {
  apiKeySchema,
  auditEntrySchema,
  inviteSchema,
  limitsSchema,
  memberSchema,
  modelSchema,
  roleSchema,
  trustSchema,
  usageCheckSchema,
  usageDimensionSchema,
  usageSumSchema,
  usageTotalsSchema,
  userRoleSchema,
  userSchema,
} from './records.js'
import { plainText } from './text.js'

/** Who stands at the other end of a link. `client` is anyone who is not a member. */
export type Caller = z.infer<typeof roleSchema> | 'client'

/**
 * What the call must carry besides its body. `key`: a valid API key or token; `admin`: one whose user is an admin.
 * Members' own methods need none: the link proves who calls.
 */
export type Credential = 'none' | 'key' | 'admin'

interface Method<Req extends z.ZodType, Res extends z.ZodType> {
  /** Who may call it. The default is nobody: a role that is not listed is refused. */
  readonly callers: readonly Caller[]
  readonly credential: Credential
  readonly request: Req
  readonly response: Res
  /** Deadline where the caller sets none. */
  readonly timeoutMs: number
}

/** Longest text that a processor tells of a model: what a file says of itself is cut to it. */
export const MAX_FACT_CHARS = 100

const SHORT_MS = 10_000
const LONG_MS = 10 * 60_000

function method<Req extends z.ZodType, Res extends z.ZodType>(
  callers: readonly Caller[],
  credential: Credential,
  request: Req,
  response: Res,
  timeoutMs = SHORT_MS,
): Method<Req, Res> {
  return { callers, credential, request, response, timeoutMs }
}

/** A model, the processors that can serve it, and whether it is the one of requests that name none. */
const listedModelSchema = modelSchema.extend({ processors: z.array(z.string()), default: z.literal(true).optional() })

const members = roleSchema.options
const nothing = z.strictObject({})
const done = z.object({})
const expiry = z.number().int().min(0)

/** A key as its owner may see it: everything but the hash. */
export const apiKeyInfoSchema = apiKeySchema.omit({ secretHash: true }).extend({ lastUsedAt: z.number().optional() })
export type ApiKeyInfo = z.infer<typeof apiKeyInfoSchema>
export const userInfoSchema = userSchema.omit({ passwordHash: true }).extend({ hasPassword: z.boolean() })
export type UserInfo = z.infer<typeof userInfoSchema>
export const inviteInfoSchema = inviteSchema.omit({ secretHash: true })
export type InviteInfo = z.infer<typeof inviteInfoSchema>

/** A model as it is kept: no processor puts more than this into a directory that all read. */
const announcedModelSchema = modelSchema.extend({
  hash: plainText(128),
  architecture: plainText(MAX_FACT_CHARS),
  quantisation: plainText(MAX_FACT_CHARS),
  licence: plainText(MAX_FACT_CHARS),
})

const password = z.string().min(8).max(1000)

const table = {
  // --- every worker ---
  ping: method([...members, 'client'], 'none', nothing, z.object({ at: z.number() })),
  status: method(members, 'none', nothing, workerStatusSchema),
  'metrics.collect': method(['metrics'], 'none', nothing, z.object({ metrics: z.array(z.unknown()) })),

  // --- gateway, for clients ---
  chat: method(['client'], 'key', inferenceRequestSchema, inferenceResultSchema, LONG_MS),
  complete: method(['client'], 'key', inferenceRequestSchema, inferenceResultSchema, LONG_MS),
  embed: method(['client'], 'key', embeddingRequestSchema, embeddingResultSchema, LONG_MS),
  models: method(['client'], 'key', nothing, z.object({ models: z.array(listedModelSchema) })),
  'usage.self': method(
    ['client'],
    'key',
    nothing,
    z.object({
      keyId: keyIdSchema,
      user: z.string(),
      role: userRoleSchema,
      /** When a token ends; absent for keys. */
      expiresAt: z.number().optional(),
      limits: z.object({ key: limitsSchema, user: limitsSchema }),
      /** Totals of this key for the running UTC day and month and for ever. */
      day: usageTotalsSchema,
      month: usageTotalsSchema,
      total: usageTotalsSchema,
      /** Tokens left in the tightest budget; absent: no budget. */
      budgetRemaining: z.number().optional(),
    }),
  ),
  'mesh.status': method(
    ['client'],
    'key',
    nothing,
    z.object({
      mesh: z.string(),
      workers: z.array(workerViewSchema),
      models: z.array(listedModelSchema),
    }),
  ),
  'models.add': method(
    ['client'],
    'admin',
    z.strictObject({
      /** Where the GGUF file lies on the processor's machine. */
      path: plainText(4096).min(1),
      name: modelNameSchema.optional(),
      /** Absent: the mesh's only processor. */
      processor: nameSchema.optional(),
    }),
    modelSchema.extend({ processor: z.string() }),
    LONG_MS,
  ),
  /** Makes a model the one of requests that name none. */
  'models.default': method(['client', 'gateway'], 'admin', z.strictObject({ name: modelNameSchema }), done),
  /** Lets a guest serve a model. */
  'models.approve': method(
    ['client', 'gateway'],
    'admin',
    z.strictObject({ name: modelNameSchema, processor: nameSchema }),
    memberSchema,
  ),
  'models.remove': method(
    ['client'],
    'admin',
    z.strictObject({ name: modelNameSchema, processor: nameSchema.optional() }),
    z.object({ processors: z.array(z.string()) }),
  ),

  // --- processor ---
  'processor.embed': method(
    ['gateway'],
    'none',
    embeddingRequestSchema,
    embeddingResultSchema.omit({ requestId: true }),
    LONG_MS,
  ),
  'processor.models.add': method(
    ['gateway'],
    'none',
    z.strictObject({ path: plainText(4096).min(1), name: modelNameSchema.optional() }),
    modelSchema,
    LONG_MS,
  ),
  'processor.models.remove': method(['gateway'], 'none', z.strictObject({ name: modelNameSchema }), done),

  // --- authority, for members ---
  /** Makes a model known in the directory. A name that stands for another file is refused with MODEL_CONFLICT. */
  'models.announce': method(['processor'], 'none', announcedModelSchema, done),
  /** Takes a model out of the directory once the last processor that announced it has withdrawn it. */
  'models.withdraw': method(['processor'], 'none', z.strictObject({ name: modelNameSchema }), done),
  /** A gateway names its journal and is told how to read the accounts. */
  'gateway.enlist': method(
    ['gateway'],
    'none',
    z.strictObject({ journal: z.string() }),
    z.object({ accounts: z.string(), accountsEncryptionKey: z.string() }),
  ),

  // --- authority, for strangers ---
  /** Spends an invite: the caller's public key becomes a member. */
  join: method(
    [...members, 'client'],
    'none',
    z.strictObject({ id: z.string().max(100), secret: z.string().max(100), role: roleSchema, name: nameSchema }),
    z.object({ member: memberSchema }),
  ),
  'users.register': method(
    ['client'],
    'none',
    z.strictObject({ name: nameSchema, password }),
    z.object({ user: userInfoSchema, key: z.string() }),
  ),

  /** Gives a token, which is accepted wherever an API key is, for a quarter of an hour. */
  login: method(
    ['client', 'gateway'],
    'none',
    z.strictObject({
      name: plainText(63).min(1),
      password: z.string().min(1).max(1000),
      /** Where the attempt comes from. Believed of gateways only. */
      address: plainText(64).optional(),
    }),
    z.object({ token: z.string(), expiresAt: z.number(), user: z.string(), role: userRoleSchema }),
  ),

  // --- authority, for people ---
  'users.add': method(
    ['client', 'gateway'],
    'admin',
    z.strictObject({
      name: nameSchema,
      role: userRoleSchema.default('user'),
      password: password.optional(),
      limits: limitsSchema.default({}),
    }),
    userInfoSchema,
  ),
  'users.list': method(['client', 'gateway'], 'admin', nothing, z.object({ users: z.array(userInfoSchema) })),
  'users.limits': method(
    ['client', 'gateway'],
    'admin',
    z.strictObject({ name: nameSchema, limits: limitsSchema }),
    userInfoSchema,
  ),
  /** Removes a user and revokes the user's keys. */
  'users.remove': method(['client', 'gateway'], 'admin', z.strictObject({ name: nameSchema }), done),
  /** Own password, or anyone's for an admin. */
  'users.passwd': method(['client', 'gateway'], 'key', z.strictObject({ name: nameSchema.optional(), password }), done),
  /** A user makes keys for itself, an admin for anyone. */
  'keys.create': method(
    ['client', 'gateway'],
    'key',
    z.strictObject({
      user: nameSchema.optional(),
      label: plainText(100).optional(),
      limits: limitsSchema.default({}),
      expiresAt: expiry.optional(),
    }),
    /** `key` is the whole key, shown this once. */
    apiKeyInfoSchema.extend({ key: z.string() }),
  ),
  /** Own keys; for an admin everyone's. */
  'keys.list': method(['client', 'gateway'], 'key', nothing, z.object({ keys: z.array(apiKeyInfoSchema) })),
  /** Own keys, or anyone's for an admin. What is absent stays. */
  'keys.update': method(
    ['client', 'gateway'],
    'key',
    z.strictObject({ id: z.string(), label: plainText(100).optional(), limits: limitsSchema.optional() }),
    apiKeyInfoSchema,
  ),
  'keys.revoke': method(['client', 'gateway'], 'key', z.strictObject({ id: z.string() }), apiKeyInfoSchema),
  'members.list': method(['client', 'gateway'], 'admin', nothing, z.object({ members: z.array(memberSchema) })),
  'members.remove': method(
    ['client', 'gateway'],
    'admin',
    /** By name (`p1`, or `processor/p1` where names repeat) or public key. */
    z.strictObject({ member: z.string().min(1).max(200) }),
    memberSchema,
  ),
  'invites.create': method(
    ['client', 'gateway'],
    'admin',
    z.strictObject({
      role: roleSchema,
      name: nameSchema.optional(),
      /** A `guest` serves only models that were approved for it. */
      trust: trustSchema.optional(),
      expiresInMs: z
        .number()
        .int()
        .min(1000)
        .max(365 * 86_400_000)
        .default(86_400_000),
    }),
    /** `invite` is the whole invite, shown this once. */
    inviteInfoSchema.extend({ invite: z.string() }),
  ),
  'invites.list': method(['client', 'gateway'], 'admin', nothing, z.object({ invites: z.array(inviteInfoSchema) })),
  'invites.revoke': method(['client', 'gateway'], 'admin', z.strictObject({ id: z.string() }), done),
  'audit.list': method(
    ['client', 'gateway'],
    'admin',
    z.strictObject({ limit: z.int().min(1).max(1000).default(100) }),
    z.object({ entries: z.array(auditEntrySchema) }),
  ),
  /** Own usage; for an admin everyone's. Times are milliseconds since the epoch. */
  'usage.query': method(
    ['client', 'gateway'],
    'key',
    z.strictObject({
      from: z.number().int().min(0).default(0),
      to: z.number().int().min(0).optional(),
      user: nameSchema.optional(),
      keyId: keyIdSchema.optional(),
      /** What makes a row. */
      by: z.array(usageDimensionSchema).min(1).default(['hour', 'user', 'key', 'model']),
    }),
    z.object({ rows: z.array(usageSumSchema) }),
  ),
  /** Adds up the journals anew and mends the totals. It goes on by itself: with its `id`, tells how far it is. */
  'usage.verify': method(
    ['client', 'gateway'],
    'admin',
    z.strictObject({
      /** Only tells what it would mend. */
      dryRun: z.boolean().default(false),
      /** Begins none, and tells of this one. */
      id: z.string().max(64).optional(),
    }),
    usageCheckSchema,
  ),
} as const

type Table = typeof table
export type MethodName = keyof Table
/** A request after its defaults are filled in: what a handler gets. */
export type RequestOf<M extends MethodName> = z.output<Table[M]['request']>
/** A request as a caller writes it. */
export type InputOf<M extends MethodName> = z.input<Table[M]['request']>
export type ResponseOf<M extends MethodName> = z.output<Table[M]['response']>

/** Every unary call of the mesh: who may make it, with what, for what. */
export const methods: {
  readonly [M in MethodName]: Method<z.ZodType<RequestOf<M>, InputOf<M>>, z.ZodType<ResponseOf<M>>>
} = table

export const METHOD_NAMES = Object.keys(methods) as MethodName[]
