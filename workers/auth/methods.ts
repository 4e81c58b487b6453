import {
  type ApiKey,
  encodeConnectString,
  encodeInvite,
  loginUserOf,
  MeshError,
  type MeshProfile,
  pageOf,
  type UsageRow,
  type UsageSum,
} from '../../lib/protocol/index.js'
import type { Accounts } from '../../lib/store/index.js'
import type { AccountsCore } from './accounts-core.js'
import { type Actor, isAdmin, mustBeSelfOrAdmin } from './actor.js'
import { serveAdmissions } from './admission-methods.js'
import type { Admissions } from './admissions.js'
import { readAudit } from './audit.js'
import { actor, principalOf, type Respond } from './caller.js'
import type { AuthConfig } from './config.js'
import type { HashQueue } from './hash-queue.js'
import { type Invites, inviteInfo } from './invites.js'
import type { Journals } from './journals.js'
import { isOwn } from './key-families.js'
import { type Keys, keyInfo } from './keys.js'
import { hourOf, type UsageFilter, type UsageLedger } from './ledger.js'
import type { Logins } from './logins.js'
import type { Members } from './members.js'
import type { AuthMetrics } from './metrics.js'
import type { Models } from './models.js'
import { hashPassword } from './passwords.js'
import type { Replicas } from './replicas.js'
import type { Sightings } from './sightings.js'
import type { StoreWriter } from './store-writer.js'
import { Throttle } from './throttle.js'
import type { UsageChecks } from './usage-checks.js'
import { type PasswordProof, type Users, userInfo } from './users.js'

export interface AuthParts {
  config: AuthConfig
  /** How the mesh is reached at this moment: a net that starts adds the bootstrap node that it serves. */
  profile: () => MeshProfile
  writer: StoreWriter
  users: Users
  keys: Keys
  /** Where everything waits that hashes a password. */
  queue: HashQueue
  logins: Logins
  invites: Invites
  members: Members
  admissions: Admissions
  models: Models
  journals: Journals
  ledger: UsageLedger
  sightings: Sightings
  checks: UsageChecks
  metrics: AuthMetrics
  core: Pick<AccountsCore, 'access'>
  replicas: Replicas
}

/** Serves everything that the authority answers. */
export function serveMethods(served: Respond, parts: AuthParts): void {
  const respond = perUser(served, parts)
  serveWorkers(respond, parts)
  serveModels(respond, parts)
  serveUsers(respond, parts)
  serveLogin(respond, parts)
  serveKeys(respond, parts)
  serveMembers(respond, parts)
  serveAdmissions(respond, parts)
  serveRecords(respond, parts)
}

/** How often one user may call what the authority serves with a credential, and an admin so many times as often. */
const ADMIN_FACTOR = 10

/** Counts the calls of each user: those that carry a credential. */
function perUser(respond: Respond, { config }: AuthParts): Respond {
  const users = new Throttle(config.managementPerMinute)
  const admins = new Throttle(config.managementPerMinute * ADMIN_FACTOR)
  return (name, handler) =>
    respond(name, async (request, context) => {
      const { principal } = context
      if (principal !== undefined) {
        const calls = principal.scopes.includes('admin') ? admins : users
        calls.take(principal.user, `calls of ${principal.user} to the authority`)
      }
      return handler(request, context)
    })
}

function serveModels(respond: Respond, { models }: AuthParts): void {
  respond('models.announce', async (model, { peer, signal }) => {
    await models.announce(peer, model, signal)
    return {}
  })
  respond('models.withdraw', async ({ name }, { peer, signal }) => {
    await models.withdraw(peer, name, signal)
    return {}
  })
  respond('models.default', async ({ name }, context) => {
    await models.setDefault(actor(context), name, context.signal)
    return {}
  })
  respond('models.approve', ({ name, processor }, context) =>
    models.approve(actor(context), name, processor, context.signal),
  )
  respond('models.forget', async ({ name, processor }, context) => ({
    processors: await models.forget(actor(context), name, processor, context.signal),
  }))
}

function serveWorkers(respond: Respond, { writer, members, journals, metrics, core }: AuthParts): void {
  respond('join', async (request, { peer, signal }) => {
    try {
      return { member: await members.join(peer, request, signal) }
    } catch (err) {
      if (err instanceof MeshError) metrics.joinRefused(String(err.details.reason ?? err.code))
      throw err
    }
  })
  respond('gateway.folded', async ({ journal }, { peer }) => ({ next: await journals.folded(peer, journal) }))
  respond('gateway.enlist', async ({ journal }, { peer, signal }) => {
    await journals.enlist(peer, journal, signal)
    // In one tick with the answer: it may have been removed while this waited.
    if (writer.directory.member(peer)?.role === 'gateway') return core.access
    throw MeshError.NOT_A_MEMBER('This gateway was removed from the mesh')
  })
}

function serveUsers(respond: Respond, { config, profile, users, logins, queue, replicas }: AuthParts): void {
  const registrations = new Throttle(config.registrationsPerMinute)
  const hash = (owner: string, password: string, signal: AbortSignal): Promise<string> =>
    queue.run('change', owner, () => hashPassword(password), signal)

  respond('users.register', async ({ name, password }, { signal }) => {
    if (!config.selfRegistration) {
      const whom = config.contact === '' ? 'whoever gave you the mesh’s address' : config.contact
      throw MeshError.FORBIDDEN(
        `Nobody can register themselves in this mesh: ask ${whom} for a key, which \`infermesh keys create --user <name>\` makes there`,
      )
    }
    registrations.take('all', 'registrations')
    users.mustBeFree(name)
    // A name that cannot be a user's: all who register share their turns.
    const passwordHash = await hash('registration ', password, signal)
    const { user, key } = await users.selfRegister(name, passwordHash, config.registrationLimits, signal)
    return { user: userInfo(user), ...withConnect(key.text, profile) }
  })
  respond('users.add', async ({ password, ...request }, context) => {
    users.mustBeFree(request.name)
    const by = actor(context)
    const passwordHash = password === undefined ? undefined : await hash(by.user, password, context.signal)
    return userInfo(await users.add(by, { ...request, passwordHash }, context.signal))
  })
  respond('users.list', async (request) => {
    const { items, ...end } = users.list(request)
    return { users: items.map(userInfo), ...end }
  })
  respond('users.limits', async ({ name, limits }, context) =>
    userInfo(await users.setLimits(actor(context), name, limits, context.signal)),
  )
  respond('users.remove', async ({ name }, context) => {
    await users.remove(actor(context), name, context.signal)
    logins.forget(name)
    return replicas.confirm()
  })
  respond('users.passwd', async ({ name, password, oldPassword }, context) => {
    const by = actor(context)
    const user = name ?? by.user
    mustBeSelfOrAdmin(by, user, 'set the password')
    const proof: PasswordProof =
      user === by.user
        ? await logins.prove(principalOf(context), oldPassword, context.signal)
        : { by: 'admin', passwordHash: users.get(user)?.passwordHash }
    await users.setPassword(by, user, await hash(by.user, password, context.signal), proof, context.signal)
    return {}
  })
}

function serveLogin(respond: Respond, { logins, metrics }: AuthParts): void {
  respond('login', async ({ name, password, address: told }, { address, role, signal }) => {
    try {
      // A gateway asks for somebody, whose address it knows. A client speaks for itself; its public key cost it nothing.
      const from = role === 'gateway' ? (told ?? address) : address
      const answer = await logins.login(name, password, from, signal)
      metrics.login('ok')
      return answer
    } catch (err) {
      metrics.login(MeshError.from(err).code)
      throw err
    }
  })
}

/** A new key, and all that its owner needs elsewhere. */
function withConnect(key: string, profile: () => MeshProfile): { key: string; connect: string } {
  return { key, connect: encodeConnectString({ key, profile: profile() }) }
}

function serveKeys(respond: Respond, { profile, keys, ledger, replicas, sightings, members, writer }: AuthParts): void {
  const info = (key: ApiKey) =>
    keyInfo(key, { lastUsedAt: ledger.lastUsedAt(key.id), elsewhere: sightings.lastUse(key.id) })
  respond('keys.sighted', async ({ id, address }, { peer }) => {
    if (writer.accounts.keys.has(id)) sightings.sawKey(id, { address, gateway: members.nameOf(peer) ?? '' })
    return {}
  })
  respond('keys.create', async (request, context) => {
    const { entry, text } = await keys.create(actor(context), request, context.signal)
    return { ...keyInfo(entry), ...withConnect(text, profile) }
  })
  respond('keys.list', async (request, context) => {
    const { items, ...end } = keys.list(actor(context), request)
    return { keys: items.map((key) => info(key)), ...end }
  })
  respond('keys.update', async (request, context) => {
    const key = await keys.update(actor(context), request, context.signal)
    return info(key)
  })
  respond('keys.revoke', async ({ id }, context) => {
    const key = await keys.revoke(actor(context), id, context.signal)
    return { ...info(key), ...(await replicas.confirm()) }
  })
}

function serveMembers(respond: Respond, { profile, members, invites, sightings }: AuthParts): void {
  respond('members.list', async (page) => {
    const { items, ...end } = members.list(page)
    const seen = items.map((member) => {
      const lastSeenAt = sightings.memberSeenAt(member.publicKey)
      return lastSeenAt === undefined ? member : { ...member, lastSeenAt }
    })
    return { members: seen, ...end }
  })
  respond('members.remove', ({ member }, context) => members.remove(actor(context), member, context.signal))
  respond('invites.create', async (request, context) => {
    const { entry, secret } = await invites.create(actor(context), request, context.signal)
    const { id, role, name } = entry
    return { ...inviteInfo(entry), invite: encodeInvite({ id, secret, profile: profile(), role, name }) }
  })
  respond('invites.list', async (page) => {
    const { items, ...end } = invites.list(page)
    return { invites: items.map(inviteInfo), ...end }
  })
  respond('invites.revoke', async ({ id }, context) => {
    await invites.revoke(actor(context), id, context.signal)
    return {}
  })
}

/** How long a question about usage waits for what the gateways have just written. */
const CATCH_UP_MS = 1000

function serveRecords(respond: Respond, { writer, keys, ledger, journals, checks }: AuthParts): void {
  respond('audit.list', async (page) => {
    const { items, ...end } = await readAudit(writer.accounts.bee, page)
    return { entries: items, ...end }
  })
  respond('usage.query', async (request, context) => {
    const by = actor(context)
    if (request.user !== undefined) mustBeSelfOrAdmin(by, request.user, 'see usage')
    if (request.keyId !== undefined) mustBeOwnKeyId(by, request.keyId, keys)
    const filter = isAdmin(by) ? request : { ...request, ...ownUsage(by, writer.accounts) }
    await journals.catchUp(CATCH_UP_MS)
    const { items, ...end } = pageOf(await ledger.query(filter, request.by), usageCursor, request)
    return { rows: items, ...end }
  })
  respond('usage.verify', async ({ dryRun, id }, context) => {
    if (id !== undefined) return checks.get(id)
    await journals.catchUp(CATCH_UP_MS)
    return checks.begin(actor(context), dryRun)
  })
}

/** The usage of who asks, and nothing of another user who had the name before: by key, and of tokens by the hour. */
function ownUsage(by: Actor, accounts: Accounts): Pick<UsageFilter, 'user' | 'isShown'> {
  const addedIn = hourOf(accounts.users.get(by.user)?.createdAt ?? 0)
  const isShown = ({ keyId, hour }: UsageRow): boolean => {
    const key = accounts.keys.get(keyId)
    return key === undefined ? hour >= addedIn : isOwn(accounts, by, key)
  }
  return { user: by.user, isShown }
}

/** Oldest first, where rows are of hours or days. */
function usageCursor({ hour, day, user, keyId, model }: UsageSum): string {
  return [hour, day, user, keyId, model].map((name) => name ?? '').join('\n')
}

/** @throws MeshError NOT_FOUND also for another user's key id */
function mustBeOwnKeyId(by: Actor, keyId: string, keys: Keys): void {
  const user = loginUserOf(keyId)
  const isOwn = user === undefined ? keys.has(by, keyId) : isAdmin(by) || by.user === user
  if (isOwn) return
  throw MeshError.NOT_FOUND(`No API key${isAdmin(by) ? '' : ` of ${by.user}`} has the id ${keyId}`, {
    param: 'keyId',
  })
}
