import { z } from 'zod'
import { limitsSchema } from '../../lib/protocol/index.js'

export const authConfigSchema = z.strictObject({
  /** Whether strangers may make a user for themselves. */
  selfRegistration: z.boolean(),
  /** Whom strangers are told to ask for a key where they may not register; empty: whoever gave them the address. */
  contact: z.string().max(200),
  /** Limits of users who registered themselves. */
  registrationLimits: limitsSchema,
  /** Registrations that are tried in one minute, from all strangers together: each costs a slow hash. */
  registrationsPerMinute: z.int().min(1),
  /** Wrong passwords for one name in one minute, from all who never logged in with it; from one address three times as many. */
  loginsPerMinute: z.int().min(1),
  /** Calls of one user in one minute about keys, usage and passwords; of an admin ten times as many. */
  managementPerMinute: z.int().min(1),
  /** Keys that work which one user may have. */
  keysPerUser: z.int().min(1),
  /** Wrong invites that one peer may present in one minute. */
  joinFailuresPerMinute: z.int().min(1),
  /** On a LAN the mesh is told of by multicast DNS, and machines that find it may ask to join. */
  nearby: z.boolean(),
  /** With less free disk than this nothing is changed: a change is refused before it is begun. */
  minFreeDiskBytes: z.int().min(0),
  /** Usage records that were counted are kept for so many days, for `infermesh usage verify`. The totals stay. */
  retentionDays: z.int().min(1).max(3650),
})
export type AuthConfig = z.output<typeof authConfigSchema>
