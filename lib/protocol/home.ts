import { homedir } from 'node:os'
import { join } from 'node:path'
import z32 from 'z32'
import { z } from 'zod'
import { MeshError } from './errors.js'
import { nameSchema } from './ids.js'
import { roleSchema } from './records.js'
import { parseJson, validate } from './validate.js'

/** What workers and the CLI on one machine find in the home (`~/.infermesh`), and the text of an invite. */

export const networkKindSchema = z.enum(['local', 'lan', 'private', 'public'])
export type NetworkKind = z.infer<typeof networkKindSchema>

/** How to reach a mesh. `bootstrap` holds `host:port` of DHT nodes; empty for the public DHT. */
export const meshProfileSchema = z.object({
  address: z.string().length(52),
  /** Public key of the authority: every worker dials it by this key. */
  authority: z.string().length(52),
  network: z.object({ kind: networkKindSchema, bootstrap: z.array(z.string()) }),
})
export type MeshProfile = z.infer<typeof meshProfileSchema>

/** The home a person means: `given`, else INFERMESH_HOME, else ~/.infermesh. */
export function homePath(given?: string): string {
  return given ?? process.env.INFERMESH_HOME ?? join(homedir(), '.infermesh')
}

/** Files in a home. Everything marked 0600 holds a secret. */
export function homeFiles(home: string) {
  return {
    /** MeshProfile as JSON: written by the authority's first start or by `join`. */
    mesh: join(home, 'mesh.json'),
    /** 0600. The admin's API key, for the CLI. */
    adminKey: join(home, 'admin.key'),
    /** 0600. A reusable invite with which workers of this same home join. */
    homeInvite: join(home, 'home.invite'),
    /** One `<role>-<name>.json` for each running worker: WorkerStatus. */
    statusDir: join(home, 'status'),
    status: (role: string, name: string) => join(home, 'status', `${role}-${name}.json`),
    /** One `<role>-<name>.log` for each worker, JSON lines. */
    logDir: join(home, 'logs'),
    log: (role: string, name: string) => join(home, 'logs', `${role}-${name}.log`),
    /** A worker's own directory: its identity and its stores. */
    worker: (role: string, name: string) => join(home, 'workers', `${role}-${name}`),
    /** This home's own copy of the facilities' settings. */
    configDir: join(home, 'config', 'facs'),
    /** The workers that `infermesh up` starts here: WorkerName[]. */
    roles: join(home, 'roles.json'),
    /** What the supervisor of this home runs: SupervisorState. */
    supervisor: join(home, 'supervisor.json'),
    /** 0600. What people typed at `infermesh chat`. */
    chatHistory: join(home, 'chat.history'),
  }
}

export const workerNameSchema = z.object({ role: roleSchema, name: nameSchema })
export type WorkerName = z.infer<typeof workerNameSchema>

export const supervisorStateSchema = z.object({
  pid: z.int(),
  startedAt: z.number(),
  roles: z.array(workerNameSchema),
})
export type SupervisorState = z.infer<typeof supervisorStateSchema>

export const inviteTextSchema = z.object({
  id: z.string(),
  secret: z.string(),
  profile: meshProfileSchema,
  role: roleSchema.optional(),
  name: nameSchema.optional(),
})
export type InviteText = z.infer<typeof inviteTextSchema>

const INVITE_PREFIX = 'imv_'

/** What an invite's bytes begin with: a later version may look different. */
const INVITE_VERSION = 1
const ID_BYTES = 8
const KEY_BYTES = 32
const INVITE_FIXED_BYTES = 1 + ID_BYTES + 3 * KEY_BYTES

/**
 * An invite as people copy it, all that the other machine needs: version, id, secret, mesh address and authority as
 * bytes, then the rest as JSON, in z-base-32.
 */
export function encodeInvite({ id, secret, profile, role, name }: InviteText): string {
  const { address, authority, network } = profile
  const bytes = Buffer.concat([
    Buffer.from([INVITE_VERSION]),
    ...[id, secret, address, authority].map((text) => z32.decode(text)),
    Buffer.from(JSON.stringify([network.kind, network.bootstrap, role, name])),
  ])
  return INVITE_PREFIX + z32.encode(bytes)
}

/** @throws MeshError INVITE_INVALID */
export function decodeInvite(text: string): InviteText {
  const trimmed = text.trim()
  try {
    if (!trimmed.startsWith(INVITE_PREFIX)) throw new Error('no prefix')
    const bytes = Buffer.from(z32.decode(trimmed.slice(INVITE_PREFIX.length)))
    if (bytes[0] !== INVITE_VERSION || bytes.byteLength <= INVITE_FIXED_BYTES)
      throw new Error('no invite of this version')
    let at = 1
    const take = (length: number): string => {
      at += length
      return z32.encode(bytes.subarray(at - length, at))
    }
    const [id, secret, address, authority] = [take(ID_BYTES), take(KEY_BYTES), take(KEY_BYTES), take(KEY_BYTES)]
    const rest = parseJson(bytes.subarray(at), 'invite') as unknown[]
    const [kind, bootstrap, role, name] = rest.map((value) => value ?? undefined)
    return validate(
      inviteTextSchema,
      { id, secret, profile: { address, authority, network: { kind, bootstrap } }, role, name },
      'invite',
    )
  } catch (cause) {
    throw MeshError.INVITE_INVALID(
      'This is no invite: expected the whole text that `infermesh invite` printed, beginning with imv_',
      {},
      { cause },
    )
  }
}
