import { createHash, randomBytes } from 'node:crypto'
import z32 from 'z32'
import { z } from 'zod'
import { decodeKey, encodedKeySchema, nameSchema } from './ids.js'
import { method } from './method.js'
import { pageEnd, pageRequest } from './page.js'
import { memberSchema, ROLES, roleSchema, trustSchema } from './records.js'
import { plainText } from './text.js'

/**
 * Admission without an invite: a machine asks, and a person who sees both machines says yes. Both show a code that stands
 * for the keys of both ends; where somebody stands between them, the two differ.
 *
 * The code is short, so neither end may choose what goes into it knowing what the other end chose: the applicant first
 * names the hash of its random bytes (the commitment), is told those of the authority, and then shows its own.
 */

const NONCE_BYTES = 32
/** 30 bits, as 6 characters of z-base-32. */
const CODE_CHARS = 6

const nonceSchema = z
  .string()
  .length(2 * NONCE_BYTES)
  .regex(/^[0-9a-f]+$/, 'expected hexadecimal digits')
const time = z.number()
const members = ROLES
const people = ['client', 'gateway'] as const
const nothing = z.strictObject({})
/** The code that both machines show, or the name that is asked for. */
const request = plainText(100).min(1)

/** A machine that asks to join. Nothing of it is proved but its public key. */
const admissionSchema = z.object({
  code: z.string(),
  publicKey: encodedKeySchema,
  role: roleSchema,
  name: nameSchema,
  /** Where its connection comes from. */
  address: z.string(),
  askedAt: time,
  expiresAt: time,
})
export type Admission = z.infer<typeof admissionSchema>

export const admissionMethods = {
  /** Asks to join. Nobody is shown the request before `admission.wait`. */
  'admission.ask': method(
    [...members, 'client'],
    'none',
    z.strictObject({ commitment: nonceSchema, role: roleSchema, name: nameSchema }),
    z.object({ nonce: nonceSchema, expiresAt: time }),
  ),
  /** Shows what was committed to, and asks how the request stands. One that does not ask for a while is forgotten. */
  'admission.wait': method(
    [...members, 'client'],
    'none',
    z.strictObject({ nonce: nonceSchema }),
    z.object({ state: z.enum(['pending', 'accepted', 'refused']), member: memberSchema.optional() }),
  ),
  'admission.withdraw': method([...members, 'client'], 'none', nothing, z.object({})),
} as const

export const admissionManagementMethods = {
  /** Oldest first. */
  'admission.list': method(
    people,
    'admin',
    z.strictObject(pageRequest),
    z.object({ requests: z.array(admissionSchema), ...pageEnd }),
  ),
  'admission.accept': method(people, 'admin', z.strictObject({ request, trust: trustSchema.optional() }), memberSchema),
  'admission.refuse': method(people, 'admin', z.strictObject({ request }), admissionSchema),
} as const

export function newNonce(): string {
  return randomBytes(NONCE_BYTES).toString('hex')
}

/** What an applicant names before it is told anything. */
export function commitmentTo(nonce: string, applicant: string): string {
  return hash('infermesh admission commitment', decodeKey(applicant), Buffer.from(nonce, 'hex')).toString('hex')
}

/** The code that both ends show, as `k7q-3mf`. Keys as `encodeKey` writes them, and the random bytes of both. */
export function admissionCode(ends: {
  authority: string
  applicant: string
  authorityNonce: string
  applicantNonce: string
}): string {
  const keys = [ends.authority, ends.applicant].map((key) => decodeKey(key))
  const nonces = [ends.authorityNonce, ends.applicantNonce].map((nonce) => Buffer.from(nonce, 'hex'))
  const code = z32.encode(hash('infermesh admission code', ...keys, ...nonces)).slice(0, CODE_CHARS)
  return `${code.slice(0, CODE_CHARS / 2)}-${code.slice(CODE_CHARS / 2)}`
}

/** A code as people type it, as it is shown. Another text: as it is. */
export function readCode(text: string): string {
  const code = text.trim().toLowerCase().replace(/[- ]/g, '')
  return code.length === CODE_CHARS ? `${code.slice(0, CODE_CHARS / 2)}-${code.slice(CODE_CHARS / 2)}` : text.trim()
}

/** Each part is of one length, so no two lists of parts give one text. */
function hash(purpose: string, ...parts: Buffer[]): Buffer {
  const sha = createHash('sha256').update(purpose)
  for (const part of parts) sha.update(part)
  return sha.digest()
}
