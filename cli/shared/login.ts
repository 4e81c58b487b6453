import { type Limits, MeshClient, type Scope } from '../../lib/client/index.js'
import { findLogin, findProfile, readAdminKey, writeLogin } from '../../lib/home/index.js'
import { decodeConnectString, MeshError } from '../../lib/protocol/index.js'
import { command } from './hints.js'
import { findElsewhere } from './mesh.js'
import { bold, dim, print, printJson, timeText } from './output.js'

/** How a home comes to use a mesh that it did not make. */

/** How long a gateway may take to hear of a key that was made a moment ago. */
const KNOWN_MS = 5000
const POLL_MS = 50

/** Who a home is logged in as, as the mesh says it. */
interface LoggedIn {
  home: string
  mesh: string
  user: string
  role: string
  keyId: string
  scopes: Scope[]
  expiresAt?: number
  limits: { key: Limits; user: Limits }
  /** The id of the key that this one takes the place of. */
  replaced?: string
}

/**
 * A home belongs to one mesh, and where that was made there it is the admin's.
 * @param address the mesh that is to be used
 * @throws MeshError CONFLICT
 */
export function mustBeFreeFor(home: string, address: string): void {
  if (readAdminKey(home) !== undefined) {
    throw MeshError.CONFLICT(`${home} holds its mesh’s admin key, and is used with that: log in with another --home`)
  }
  const own = findProfile(home)
  if (own !== undefined && own.address !== address) {
    throw MeshError.CONFLICT(
      `${home} belongs to the mesh ${own.address} already, and this is for ${address}: log in with another --home`,
    )
  }
  const login = findLogin(home)
  if (login !== undefined && login.profile.address !== address) {
    throw MeshError.CONFLICT(
      `${home} is logged in to the mesh ${login.profile.address} as ${login.user}, and this is for ${address}: ${command('logout', home)} first, or log in with another --home`,
    )
  }
}

/**
 * Keeps what a connect string says in the home, once the mesh has said whose key it is.
 * @param own whether the key was made for this home alone
 * @throws MeshError CONFLICT, INVALID_API_KEY, or why the mesh was not reached; nothing is kept then
 */
export async function logIn(home: string, connect: string, own: boolean, signal: AbortSignal): Promise<LoggedIn> {
  const { profile, key } = decodeConnectString(connect)
  mustBeFreeFor(home, profile.address)
  const before = findLogin(home)
  const mesh = new MeshClient({ home, mesh: profile, key, findElsewhere })
  try {
    const { user, role, keyId, scopes, expiresAt, limits } = await untilKnown(mesh, signal)
    writeLogin(home, { profile, key, user, own })
    const replaced = before === undefined || before.key === key ? undefined : before.key.split('_')[1]
    const { key: ofKey, user: ofUser } = limits
    return {
      ...{ home, mesh: profile.address, user, role, keyId, scopes, limits: { key: ofKey, user: ofUser } },
      ...(expiresAt !== undefined && { expiresAt }),
      ...(replaced !== undefined && { replaced }),
    }
  } finally {
    await mesh.close()
  }
}

/** A key that was made a moment ago may be new to the gateway. */
async function untilKnown(mesh: MeshClient, signal: AbortSignal): ReturnType<MeshClient['whoami']> {
  const deadline = performance.now() + KNOWN_MS
  while (true) {
    try {
      return await mesh.whoami({ signal })
    } catch (err) {
      const isNew = err instanceof MeshError && err.code === 'INVALID_API_KEY' && /is not known/.test(err.message)
      if (!isNew || performance.now() > deadline) throw err
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }
}

/** Says who one is now, and what to do with it. */
export function printLogin(told: LoggedIn, json: boolean): void {
  if (json) return printJson(told)
  const { home, mesh, user, role, keyId, scopes, expiresAt, replaced } = told
  const until = expiresAt === undefined ? '' : `, until ${timeText(expiresAt)}`
  print(`You are ${bold(user)}${role === 'admin' ? ', an admin,' : ''} in the mesh ${mesh}`)
  print(dim(`With the key im_${keyId}_…, for ${scopes.join(', ')}${until}`))
  if (replaced !== undefined) print(dim(`It takes the place of im_${replaced}_…, which was here and is good still`))
  const [run, proxy, whoami] = ['run "Hello"', 'proxy', 'whoami'].map((text) => command(text, home))
  print(dim(`${run} asks the mesh, ${proxy} serves it to OpenAI clients here, ${whoami} shows your limits.`))
}
