import { type ApiKeyInfo, type MemberInfo, MeshClient } from '../../lib/client/index.js'
import { openFolders } from '../../lib/home/index.js'
import { isLoopbackHost, MeshError, type WorkerStatus } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { type Common, clientOptions } from '../shared/mesh.js'
import { timeText } from '../shared/output.js'
import type { Finding } from './finding.js'
import { secretFiles } from './home.js'

/** What makes a mesh weaker than it could be: `doctor --security`. */

const UNSEEN_DAYS = 30
const DAY_MS = 86_400_000
const ASK_MS = 2000
/** Names of one finding; more are counted. */
const MOST_NAMES = 10

/** Files and folders of this home, what listens on this machine, and whom and what the mesh lets in. */
export async function security(home: string, common: Common, workers: WorkerStatus[]): Promise<Finding[]> {
  return [...secretFiles(home), ...folders(home), ...(await listeners(workers)), ...(await admitted(home, common))]
}

function folders(home: string): Finding[] {
  const check = 'folders'
  const open = openFolders(home)
  if (open.length === 0) return [{ check, state: 'ok', message: 'nobody else enters the stores, journals and logs' }]
  return open.map((path) => ({
    check,
    state: 'fail',
    message: `${path} is open to other users of this machine`,
    advice: `chmod 700 ${path}`,
  }))
}

/** Listeners that other machines reach, without TLS or without a token. */
async function listeners(workers: WorkerStatus[]): Promise<Finding[]> {
  const check = 'listeners'
  const beyond = workers.flatMap(({ role, addresses }) =>
    Object.entries(addresses)
      .filter(([facility]) => facility === 'http' || facility === 'metrics')
      .map(([facility, address]) => ({ role, facility, url: new URL(address) }))
      .filter(({ url }) => !isLoopbackHost(url.hostname)),
  )
  if (beyond.length === 0) return [{ check, state: 'ok', message: 'nothing but this machine reaches an HTTP port' }]
  const found: Finding[] = []
  for (const { role, facility, url } of beyond) {
    if (url.protocol === 'http:') {
      found.push({
        check,
        state: 'warn',
        message: `the ${role} listens at ${url.origin} without TLS: whoever is on the way reads ${facility === 'http' ? 'keys and prompts' : 'the token and the numbers'}`,
        advice:
          facility === 'http'
            ? 'set http.tlsCert and http.tlsKey, or listen on loopback and have clients use `infermesh proxy`'
            : 'set metrics.tlsCert and metrics.tlsKey, or listen on loopback',
      })
    }
    if (facility === 'metrics' && (await answersAnybody(url))) {
      found.push({
        check,
        state: 'warn',
        message: `the metrics at ${url.origin} are given to whoever asks`,
        advice: 'set metrics.open to false: they then want a token',
      })
    }
  }
  return found.length > 0
    ? found
    : [{ check, state: 'ok', message: 'what other machines reach has TLS, and wants a token' }]
}

async function answersAnybody(url: URL): Promise<boolean> {
  try {
    return (await fetch(new URL('/metrics', url), { signal: AbortSignal.timeout(ASK_MS) })).ok
  } catch {
    return false
  }
}

/** Members and keys, as an admin is told of them. */
async function admitted(home: string, common: Common): Promise<Finding[]> {
  let client: MeshClient | undefined
  try {
    client = new MeshClient(clientOptions(common))
    const [members, keys] = await Promise.all([client.admin.members.list(), client.admin.keys.list()])
    const now = Date.now()
    return [unseen(members, now, home), ...lasting(keys, now, home), elsewhere(keys, now, home)]
  } catch (err) {
    const { message } = MeshError.from(err)
    return [
      {
        check: 'members',
        state: 'warn',
        message: `members and keys were not looked at: ${message}`,
        advice: 'run this where an admin key is, while the auth worker runs',
      },
    ]
  } finally {
    await client?.close()
  }
}

/** Members that could be removed. One that was never seen counts from when it was added. */
export function unseen(members: readonly MemberInfo[], now: number, home: string): Finding {
  const check = 'members'
  const lost = members.filter(({ lastSeenAt, addedAt }) => now - (lastSeenAt ?? addedAt) > UNSEEN_DAYS * DAY_MS)
  if (lost.length === 0)
    return { check, state: 'ok', message: `every member was linked in the last ${UNSEEN_DAYS} days` }
  const named = lost.map(({ role, name, lastSeenAt }) => `${role}/${name} (${timeText(lastSeenAt)})`)
  return {
    check,
    state: 'warn',
    message: `not linked for ${UNSEEN_DAYS} days: ${listed(named)}`,
    advice: `whoever has such a machine is still let in: ${command('members remove <role/name>', home)}`,
  }
}

/** Keys that work for ever, or without any limit. */
export function lasting(keys: readonly ApiKeyInfo[], now: number, home: string): Finding[] {
  const check = 'keys'
  const live = keys.filter(
    ({ revokedAt, expiresAt }) => revokedAt === undefined && (expiresAt === undefined || expiresAt > now),
  )
  const found: Finding[] = []
  const tell = (which: ApiKeyInfo[], message: string, advice: string): void => {
    if (which.length > 0)
      found.push({ check, state: 'warn', message: `${message}: ${listed(which.map(nameOf))}`, advice })
  }
  tell(
    live.filter(({ expiresAt }) => expiresAt === undefined),
    'without an end',
    `${command('keys update <id> --expires 90d', home)}; ${command('keys rotate --expires 90d', home)} for the one in admin.key`,
  )
  tell(
    live.filter(({ limits }) => Object.keys(limits).length === 0),
    'without limits of their own',
    `${command('keys update <id> --budget 1M/month', home)}; the limits of the user hold all the same`,
  )
  tell(
    live.filter(({ scopes }) => scopes === undefined),
    'made before keys had scopes, and good for all that their user may do',
    'make new ones, which may ask for answers alone unless told otherwise, and revoke these',
  )
  return found.length > 0 ? found : [{ check, state: 'ok', message: `all of ${live.length} have an end and limits` }]
}

/** Keys that can change everything, used over HTTP from other machines. */
export function elsewhere(keys: readonly ApiKeyInfo[], now: number, home: string): Finding {
  const check = 'admin keys'
  const used = keys.filter(({ elsewhere: use }) => use !== undefined && now - use.at < UNSEEN_DAYS * DAY_MS)
  if (used.length === 0) return { check, state: 'ok', message: 'none came over HTTP from another machine' }
  const named = used.map((key) => {
    const { address = '', gateway = '', at = 0 } = key.elsewhere ?? {}
    return `${nameOf(key)} from ${address} through ${gateway} (${timeText(at)})`
  })
  return {
    check,
    state: 'warn',
    message: `used over HTTP from other machines: ${listed(named)}`,
    advice: `give programs a key without the scope admin: ${command('keys create', home)}`,
  }
}

const nameOf = ({ id, user, label }: ApiKeyInfo): string =>
  `im_${id}_… of ${user}${label === undefined ? '' : ` (${label})`}`

function listed(names: string[]): string {
  const more = names.length - MOST_NAMES
  return [...names.slice(0, MOST_NAMES), ...(more > 0 ? [`and ${more} more`] : [])].join(', ')
}
