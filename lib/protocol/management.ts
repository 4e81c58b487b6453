import { z } from 'zod'
import { keyIdSchema, modelNameSchema, nameSchema } from './ids.js'
import { method } from './method.js'
import { pageEnd, pageRequest } from './page.js'
import {
  apiKeySchema,
  auditEntrySchema,
  inviteSchema,
  limitsSchema,
  memberSchema,
  roleSchema,
  trustSchema,
  usageCheckSchema,
  usageDimensionSchema,
  usageSumSchema,
  userSchema,
} from './records.js'
import { DEFAULT_SCOPES, scopeSchema, userRoleSchema } from './scopes.js'
import { plainText } from './text.js'

/** What the authority is asked by people: registration, logins, users, keys, members, invites, audit and usage. */

/** The authority is asked by clients, and by gateways for the callers of their management API. */
const people = ['client', 'gateway'] as const
const done = z.object({})
/** Milliseconds since the epoch, to the end of the year 9999. */
const time = z.int().min(0).max(253_402_300_799_999)

/** From where an API key was used. */
export const keyUseSchema = z.object({ at: z.number(), address: z.string().max(64), gateway: z.string().max(63) })
/** A member and when it was last linked with the authority, in milliseconds since the epoch; absent: never. */
export const memberInfoSchema = memberSchema.extend({ lastSeenAt: z.number().optional() })
export type MemberInfo = z.infer<typeof memberInfoSchema>
/** A key as its owner may see it: everything but the hash. */
export const apiKeyInfoSchema = apiKeySchema.omit({ secretHash: true }).extend({
  lastUsedAt: z.number().optional(),
  /** Of a key with an admin's rights: its last use over HTTP from another machine than the gateway's. */
  elsewhere: keyUseSchema.optional(),
})
export type ApiKeyInfo = z.infer<typeof apiKeyInfoSchema>
export const userInfoSchema = userSchema.omit({ passwordHash: true }).extend({ hasPassword: z.boolean() })
export type UserInfo = z.infer<typeof userInfoSchema>
export const inviteInfoSchema = inviteSchema.omit({ secretHash: true })
export type InviteInfo = z.infer<typeof inviteInfoSchema>

/** Which gateways refuse by now what was revoked, by name, and which may not yet. */
const confirmationSchema = z.object({ confirmedBy: z.array(z.string()), pending: z.array(z.string()) })
export type Confirmation = z.infer<typeof confirmationSchema>

/** What a person needs to use a new key from another machine. Authorities of earlier builds do not tell it. */
const connect = z.string().optional()
const knownPassword = z.string().min(1).max(1000)
const password = knownPassword.min(8)
const label = plainText(100)
/** The id of a key or an invite, or the text in which it stands. */
const id = z.string().min(1).max(200)
/** What may be asked for has a bound that entries of early builds may be past. */
const limits = limitsSchema.extend({ models: z.array(modelNameSchema).min(1).max(100).optional() })
const scopes = z.array(scopeSchema).min(1).max(scopeSchema.options.length)

export const managementMethods = {
  /** Makes a user and its first key for whoever asks, where the mesh allows that. */
  'users.register': method(
    people,
    'none',
    z.strictObject({ name: nameSchema, password }),
    z.object({ user: userInfoSchema, key: z.string(), connect }),
  ),

  /** Gives a token, which is accepted wherever an API key is, for a quarter of an hour. */
  login: method(
    people,
    'none',
    z.strictObject({
      name: plainText(63).min(1),
      password: knownPassword,
      /** Where the attempt comes from. Believed of gateways only. */
      address: plainText(64).optional(),
    }),
    z.object({ token: z.string(), expiresAt: z.number(), user: z.string(), role: userRoleSchema }),
  ),

  'users.add': method(
    people,
    'admin',
    z.strictObject({
      name: nameSchema,
      role: userRoleSchema.default('user'),
      password: password.optional(),
      limits: limits.default({}),
    }),
    userInfoSchema,
  ),
  'users.list': method(
    people,
    'admin',
    z.strictObject({ name: nameSchema.optional(), ...pageRequest }),
    z.object({ users: z.array(userInfoSchema), ...pageEnd }),
  ),
  'users.limits': method(people, 'admin', z.strictObject({ name: nameSchema, limits }), userInfoSchema),
  /** Removes a user and revokes the user's keys. */
  'users.remove': method(people, 'admin', z.strictObject({ name: nameSchema }), confirmationSchema),
  /** One's own, which wants the old password or a login of the last five minutes; or anyone else's for an admin. */
  'users.passwd': method(
    people,
    'key',
    z.strictObject({ name: nameSchema.optional(), password, oldPassword: knownPassword.optional() }),
    done,
  ),
  /** A user makes keys for itself, an admin for anyone. A key that is made with a key lies within it. */
  'keys.create': method(
    people,
    'manage:keys',
    z.strictObject({
      user: nameSchema.optional(),
      label: label.optional(),
      scopes: scopes.default([...DEFAULT_SCOPES]),
      limits: limits.default({}),
      expiresAt: time.optional(),
      /** Not within the key that it is made with, and not ended with it: for an admin. */
      alone: z.boolean().optional(),
    }),
    /** `key` is the whole key, shown this once; `connect` a connect string that holds it. */
    apiKeyInfoSchema.extend({ key: z.string(), connect }),
  ),
  /** Own keys, newest first; for an admin everyone's. */
  'keys.list': method(
    people,
    'manage:keys',
    z.strictObject({ user: nameSchema.optional(), id: id.optional(), ...pageRequest }),
    z.object({ keys: z.array(apiKeyInfoSchema), ...pageEnd }),
  ),
  /** What is absent stays. Only an admin may widen what a key may do. */
  'keys.update': method(
    people,
    'manage:keys',
    z.strictObject({
      id,
      label: label.optional(),
      scopes: scopes.optional(),
      limits: limits.optional(),
      expiresAt: time.optional(),
    }),
    apiKeyInfoSchema,
  ),
  'keys.revoke': method(
    people,
    'manage:keys',
    z.strictObject({ id }),
    apiKeyInfoSchema.extend(confirmationSchema.shape),
  ),
  'members.list': method(
    people,
    'admin',
    z.strictObject(pageRequest),
    z.object({ members: z.array(memberInfoSchema), ...pageEnd }),
  ),
  'members.remove': method(
    people,
    'admin',
    /** By name (`p1`, or `processor/p1` where names repeat) or public key. */
    z.strictObject({ member: z.string().min(1).max(200) }),
    memberSchema.extend({
      /** For a gateway: whether the accounts have moved to where it cannot read them. If not, nothing is changed before they have. */
      accountsMoved: z.boolean().optional(),
      /** It was the only gateway. */
      wasLastGateway: z.boolean().optional(),
    }),
  ),
  'invites.create': method(
    people,
    'admin',
    z.strictObject({
      role: roleSchema,
      name: nameSchema.optional(),
      /** A `guest` serves only models that were approved for it. */
      trust: trustSchema.optional(),
      expiresInMs: z
        .int()
        .min(1000)
        .max(365 * 86_400_000)
        .default(86_400_000),
    }),
    /** `invite` is the whole invite, shown this once. */
    inviteInfoSchema.extend({ invite: z.string() }),
  ),
  'invites.list': method(
    people,
    'admin',
    z.strictObject(pageRequest),
    z.object({ invites: z.array(inviteInfoSchema), ...pageEnd }),
  ),
  'invites.revoke': method(people, 'admin', z.strictObject({ id }), done),
  /** Newest first. */
  'audit.list': method(
    people,
    'admin',
    z.strictObject(pageRequest),
    z.object({ entries: z.array(auditEntrySchema), ...pageEnd }),
  ),
  /** Own usage; for an admin everyone's. Times are milliseconds since the epoch. */
  'usage.query': method(
    people,
    'read:usage',
    z.strictObject({
      from: time.default(0),
      to: time.optional(),
      user: nameSchema.optional(),
      keyId: keyIdSchema.optional(),
      /** What makes a row. */
      by: z
        .array(usageDimensionSchema)
        .min(1)
        .max(usageDimensionSchema.options.length)
        .default(['hour', 'user', 'key', 'model']),
      ...pageRequest,
    }),
    z.object({ rows: z.array(usageSumSchema), ...pageEnd }),
  ),
  /** Adds up the journals anew and mends the totals. It goes on by itself: with its `id`, tells how far it is. */
  'usage.verify': method(
    people,
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
