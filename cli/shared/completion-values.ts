import { readdirSync } from 'node:fs'
import { basename } from 'node:path'
import { MeshClient } from '../../lib/client/index.js'
import { homeFiles, homePath } from '../../lib/home/index.js'
import { type Common, clientOptions } from './mesh.js'
import { flushed, printLines } from './output.js'

/** How long a person waits for Tab, from the command's start on. */
const LIMIT_MS = 1500
/** Of longer lists the beginning is offered. */
const MAX_VALUES = 500
/** What a shell takes as one word, whatever it stands for. */
const WORD = /^[\w.@/:+-]+$/

/** What may stand at a place of the command line, and what to say of it. */
type Value = [value: string, summary: string]

const LOOKUPS = {
  models: async (mesh) => (await mesh.models()).map(({ name, quantisation }): Value => [name, quantisation]),
  users: async (mesh) =>
    (await mesh.admin.users.list({ limit: MAX_VALUES })).map(({ name, role }): Value => [name, role]),
  keys: async (mesh) =>
    (await mesh.admin.keys.list({ limit: MAX_VALUES }))
      .filter(({ revokedAt }) => revokedAt === undefined)
      .map(({ id, user, label }): Value => [id, label === undefined ? user : `${label}, ${user}`]),
  members: async (mesh) => membersOf(await mesh.admin.members.list({ limit: MAX_VALUES })),
  processors: async (mesh) =>
    membersOf((await mesh.admin.members.list({ limit: MAX_VALUES })).filter(({ role }) => role === 'processor')),
  requests: async (mesh) =>
    (await mesh.admin.admissions.list({ limit: MAX_VALUES })).map(
      ({ code, role, name, address }): Value => [code, `${role} ${name}, from ${address}`],
    ),
  invites: async (mesh) =>
    (await mesh.admin.invites.list({ limit: MAX_VALUES }))
      .filter(({ spentAt, revokedAt }) => spentAt === undefined && revokedAt === undefined)
      .map(({ id, role, name }): Value => [id, [role, name].filter(Boolean).join(' ')]),
} satisfies Record<string, (mesh: MeshClient) => Promise<Value[]>>

/** What completion scripts ask for: what the mesh knows, and the workers whose logs are here. */
export type ValueKind = keyof typeof LOOKUPS | 'workers'

/**
 * Prints the values of a kind, each on a line with what it is behind a tab, and ends the program. What fails or takes long
 * prints nothing: somebody has only pressed Tab.
 */
export async function printValues(kind: string, common: Common): Promise<never> {
  setTimeout(() => process.exit(0), Math.max(0, LIMIT_MS - performance.now()))
  try {
    const values = isLookup(kind) ? await lookUp(kind, common) : kind === 'workers' ? workersOf(common) : []
    const lines = values
      .filter(([value]) => WORD.test(value))
      .map(([value, summary]) => `${value}\t${oneField(summary)}`)
    if (lines.length > 0) printLines(lines.join('\n'))
    await flushed()
  } catch {
    // The shell offers nothing.
  }
  process.exit(0)
}

function isLookup(kind: string): kind is keyof typeof LOOKUPS {
  return Object.hasOwn(LOOKUPS, kind)
}

function lookUp(kind: keyof typeof LOOKUPS, common: Common): Promise<Value[]> {
  return LOOKUPS[kind](new MeshClient(clientOptions(common)))
}

function oneField(summary: string): string {
  return summary.replaceAll(/\s+/g, ' ')
}

/** Names, with the role where names repeat. */
function membersOf(members: { role: string; name: string }[]): Value[] {
  const isOnly = (name: string) => members.filter((member) => member.name === name).length === 1
  return members.map(({ role, name }) => [isOnly(name) ? name : `${role}/${name}`, role])
}

function workersOf({ home }: Common): Value[] {
  return readdirSync(homeFiles(homePath(home)).logDir)
    .filter((file) => file.endsWith('.log'))
    .map((file) => [basename(file, '.log'), 'log'])
}
