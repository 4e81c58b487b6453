import { z } from 'zod'
import { admissionManagementMethods, admissionMethods } from './admission.js'
import { encodedKeySchema, keyIdSchema, modelNameSchema, nameSchema } from './ids.js'
import {
  embeddingRequestSchema,
  embeddingResultSchema,
  inferenceRequestSchema,
  inferenceResultSchema,
} from './inference.js'
import { workerStatusSchema, workerViewSchema } from './load.js'
import { managementMethods } from './management.js'
import { LONG_MS, type Method, method } from './method.js'
import { pageEnd, pageRequest } from './page.js'
import {
  budgetPeriodSchema,
  limitsSchema,
  memberSchema,
  modelSchema,
  roleSchema,
  usageTotalsSchema,
} from './records.js'
import { scopeSchema, userRoleSchema } from './scopes.js'
import { storedMethods } from './stored.js'
import { plainText } from './text.js'
import { tokensRequestSchema, tokensResultSchema } from './tokens.js'

/** Longest text that a processor tells of a model: what a file says of itself is cut to it. */
export const MAX_FACT_CHARS = 100

/** Deadline of what an engine does between the pieces of other work. */
const TOKENS_MS = 60_000

/** A model, the processors that can serve it, and whether it is the one of requests that name none. */
const listedModelSchema = modelSchema.extend({ processors: z.array(z.string()), default: z.literal(true).optional() })

const members = roleSchema.options
const nothing = z.strictObject({})
const done = z.object({})
const path = plainText(4096).min(1)

/** A model as it is kept: no processor puts more than this into a directory that all read. */
const announcedModelSchema = modelSchema.strict().extend({
  hash: plainText(128),
  architecture: plainText(MAX_FACT_CHARS),
  quantisation: plainText(MAX_FACT_CHARS),
  licence: plainText(MAX_FACT_CHARS),
})

/** A limit that holds, and how far it is used at the gateway that tells it. */
const limitUseSchema = z.object({
  /** Whose limit it is: a key's, or the user's over all of its keys. */
  of: z.enum(['key', 'user']),
  /** The key's id, or the user's name. */
  name: z.string(),
  limit: z.enum(['requestsPerMinute', 'tokensPerMinute', 'concurrentRequests', 'budget']),
  /** Of a budget. */
  period: budgetPeriodSchema.optional(),
  most: z.number(),
  /** What requests under way have reserved included. */
  used: z.number(),
  left: z.number(),
  /** When nothing of it is used any more, if nothing more is asked; absent: now, or never by itself. */
  resetsAt: z.number().optional(),
})
export type LimitUse = z.infer<typeof limitUseSchema>

/** How a gateway reads the accounts, and how far they went when it was told. */
const accountsAccess = {
  accounts: encodedKeySchema,
  accountsEncryptionKey: z
    .string()
    .length(64)
    .regex(/^[0-9a-f]+$/),
  length: z.int().min(0),
}

const table = {
  // --- every worker ---
  ping: method([...members, 'client'], 'none', nothing, z.object({ at: z.number() })),
  status: method(members, 'none', nothing, workerStatusSchema),
  'metrics.collect': method(['metrics'], 'none', nothing, z.object({ metrics: z.array(z.unknown()) })),

  // --- gateway, for clients ---
  chat: method(['client'], 'inference', inferenceRequestSchema, inferenceResultSchema, LONG_MS),
  complete: method(['client'], 'inference', inferenceRequestSchema, inferenceResultSchema, LONG_MS),
  embed: method(['client'], 'inference', embeddingRequestSchema, embeddingResultSchema, LONG_MS),
  models: method(
    ['client'],
    'inference',
    z.strictObject(pageRequest),
    z.object({ models: z.array(listedModelSchema), ...pageEnd }),
  ),
  'usage.self': method(
    ['client'],
    'key',
    nothing,
    z.object({
      keyId: keyIdSchema,
      user: z.string(),
      role: userRoleSchema,
      scopes: z.array(scopeSchema),
      /** When the key, or one that it was made with, or the token ends; absent: not by itself. */
      expiresAt: z.number().optional(),
      /** All of them hold: the key's, those of the keys that it was made with, and its user's. */
      limits: z.object({
        key: limitsSchema,
        parents: z.array(z.object({ keyId: keyIdSchema, limits: limitsSchema })),
        user: limitsSchema,
      }),
      /** Totals of this key, and of those made with it, for the running UTC day and month and for ever. */
      day: usageTotalsSchema,
      month: usageTotalsSchema,
      total: usageTotalsSchema,
      /** Tokens left in the tightest budget; absent: no budget. */
      budgetRemaining: z.number().optional(),
      /** Each limit that holds, and how far it is used. Gateways of earlier builds do not tell it. */
      uses: z.array(limitUseSchema).optional(),
    }),
  ),
  'mesh.status': method(
    ['client'],
    'inference',
    nothing,
    z.object({ mesh: z.string(), workers: z.array(workerViewSchema), models: z.array(listedModelSchema) }),
  ),
  'models.add': method(
    ['client'],
    'admin',
    z.strictObject({
      /** Where the GGUF file lies on the processor's machine. */
      path,
      name: modelNameSchema.optional(),
      /** Absent: the mesh's only processor. */
      processor: nameSchema.optional(),
    }),
    modelSchema.extend({
      processor: z.string(),
      /** False: the processor is a guest, and serves the model once `models.approve` says so. */
      approved: z.boolean(),
      /** It is what requests get that name no model. */
      default: z.literal(true).optional(),
    }),
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
    z.object({
      /** Those that have forgotten it. */
      processors: z.array(z.string()),
      /** Those that could not be told, and for which the mesh lists it no more: with its file they announce it again. */
      forgotten: z.array(z.string()).optional(),
    }),
  ),

  // --- gateway, for other gateways ---
  ...storedMethods,

  // --- processor ---
  'processor.embed': method(
    ['gateway'],
    'none',
    embeddingRequestSchema,
    embeddingResultSchema.omit({ requestId: true }),
    LONG_MS,
  ),
  /** Counts and tells tokens; nothing is generated. */
  'processor.tokens': method(['gateway'], 'none', tokensRequestSchema, tokensResultSchema, TOKENS_MS),
  'processor.models.add': method(
    ['gateway'],
    'none',
    z.strictObject({ path, name: modelNameSchema.optional() }),
    modelSchema,
    LONG_MS,
  ),
  'processor.models.remove': method(['gateway'], 'none', z.strictObject({ name: modelNameSchema }), done),

  // --- authority, for members ---
  /** Makes a model known in the directory. A name that stands for another file is refused with MODEL_CONFLICT. */
  'models.announce': method(['processor'], 'none', announcedModelSchema, done),
  /** Takes a model out of the directory once the last processor that announced it has withdrawn it. */
  'models.withdraw': method(['processor'], 'none', z.strictObject({ name: modelNameSchema }), done),
  /** Takes back what processors have announced, for the admin whose credential it carries: they may be down or gone. */
  'models.forget': method(
    ['gateway'],
    'admin',
    z.strictObject({ name: modelNameSchema, processor: nameSchema.optional() }),
    z.object({ processors: z.array(z.string()) }),
  ),
  /** An API key with an admin's rights was used over HTTP from another machine. */
  'keys.sighted': method(['gateway'], 'none', z.strictObject({ id: keyIdSchema, address: plainText(64) }), done),
  /** A gateway names its journal and is told how to read the accounts. */
  'gateway.enlist': method(
    ['gateway'],
    'none',
    z.strictObject({ journal: encodedKeySchema }),
    z.object(accountsAccess),
  ),
  /** Served by gateways: checks keys by these accounts from now on, and answers once it does so up to this length. */
  'gateway.follow': method(['auth'], 'none', z.strictObject(accountsAccess), done),
  /** How far the authority has counted a journal: entries below `next` are in the totals. */
  'gateway.folded': method(
    ['gateway'],
    'none',
    z.strictObject({ journal: z.string().max(64) }),
    z.object({ next: z.int() }),
  ),

  // --- authority, for strangers ---
  /** Spends an invite: the caller's public key becomes a member. */
  join: method(
    [...members, 'client'],
    'none',
    z.strictObject({ id: z.string().max(100), secret: z.string().max(100), role: roleSchema, name: nameSchema }),
    z.object({ member: memberSchema }),
  ),
  ...admissionMethods,
  // --- authority, for people ---
  ...managementMethods,
  ...admissionManagementMethods,
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
