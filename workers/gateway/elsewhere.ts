import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Principal } from '../../lib/store/index.js'
import { isOwnAddress, type Net, plainAddress } from '../../lib/worker-base/index.js'
import { credentialOf } from './http/index.js'

/** How often the authority is told of one key. */
const TELL_MS = 60 * 60_000

/**
 * Tells the authority of API keys with an admin's rights that come over HTTP from another machine: `doctor --security`
 * names them. Where it cannot be told, the next use tells.
 */
export function watchAdminKeys(app: FastifyInstance, net: Net, authenticate: (credential: string) => Principal): void {
  const toldAt = new Map<string, number>()
  app.addHook('onResponse', async (request, reply) => {
    if (isOwnAddress(request.ip) || reply.statusCode === 401) return
    const id = adminKeyOf(authenticate, request)
    if (id === undefined || performance.now() - (toldAt.get(id) ?? Number.NEGATIVE_INFINITY) < TELL_MS) return
    toldAt.set(id, performance.now())
    try {
      await net.authority().call('keys.sighted', { id, address: plainAddress(request.ip) })
    } catch {
      toldAt.delete(id)
    }
  })
}

/** The id of a key with an admin's rights. Tokens are none: they end by themselves. */
function adminKeyOf(authenticate: (credential: string) => Principal, request: FastifyRequest): string | undefined {
  try {
    const credential = credentialOf(request)
    if (credential === undefined) return undefined
    const principal = authenticate(credential)
    return principal.loggedInAt === undefined && principal.scopes.includes('admin') ? principal.keyId : undefined
  } catch {
    return undefined
  }
}
