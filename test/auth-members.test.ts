import test from 'brittle'
import SessionState from 'hypercore/lib/session-state.js'
import { encodeJson, MeshError, newApiKey } from '../lib/protocol/index.js'
import { directoryKeys } from '../lib/store/index.js'
import { authorityAccountKeys } from '../workers/auth/accounts.js'
import { StoreWriter } from '../workers/auth/store-writer.js'
import { ADMIN, AUTHORITY, openDomain, peerKey } from './auth-kit.js'
import { codeOf, until } from './helpers/mesh.js'
import { testModel } from './helpers/model.js'

type Domain = Awaited<ReturnType<typeof openDomain>>

async function invite({ invites }: Domain, role: 'processor' | 'gateway' = 'processor', name?: string) {
  const { entry, secret } = await invites.create(ADMIN, { role, name, expiresInMs: 60_000 })
  return { id: entry.id, secret }
}

async function homeInvite({ invites }: Domain) {
  const { id, secret } = newApiKey()
  await invites.keepHomeInvite(ADMIN, id, secret)
  return { id, secret }
}

test('an invite admits one worker, which may ask again', async (t) => {
  const domain = await openDomain(t)
  const { members, directory, clock } = domain
  const given = await invite(domain)
  const member = await members.join(peerKey(1), { ...given, role: 'processor', name: 'p1' })
  t.alike(member, { publicKey: peerKey(1), role: 'processor', name: 'p1', addedAt: clock.now })
  t.alike(directory.member(peerKey(1), clock.now), member)
  t.alike(await members.join(peerKey(1), { ...given, role: 'processor', name: 'p1' }), member)
  await t.exception(members.join(peerKey(2), { ...given, role: 'processor', name: 'p2' }), /was spent at 2026-01-31/)
})

test('of workers that race for one invite, one wins', async (t) => {
  const domain = await openDomain(t)
  const given = await invite(domain)
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, i) =>
      domain.members.join(peerKey(i), { ...given, role: 'processor', name: `p${i}` }),
    ),
  )
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  t.is(domain.directory.members.size, 1)
})

test('an invite is refused when it is unknown, forged, expired, revoked, or for another role or name', async (t) => {
  const domain = await openDomain(t)
  const { members, invites, clock } = domain
  const given = await invite(domain)
  const p1 = { role: 'processor', name: 'p1' } as const
  await t.exception(members.join('a', { id: 'nothing', secret: given.secret, ...p1 }), /not known/)
  await t.exception(members.join('a', { id: given.id, secret: 'wrong', ...p1 }), /not known/)
  await t.exception(members.join('a', { ...given, role: 'gateway', name: 'g1' }), /admits a processor, not a gateway/)
  await t.exception(members.join('a', { ...(await invite(domain, 'processor', 'p9')), ...p1 }), /for the name p9/)
  await t.exception(members.join('a', { ...given, role: 'auth', name: 'auth2' }), /second authority/)
  const revoked = await invite(domain)
  await invites.revoke(ADMIN, revoked.id)
  await t.exception(members.join('a', { ...revoked, ...p1 }), /was revoked/)
  clock.now += 60_000
  await t.exception(
    members.join('a', { ...given, ...p1 }),
    /expired at 2026-01-31T15:31:00.*; by the authority’s clock it is 2026-01-31T15:31:00/,
  )
  t.is(await codeOf(members.join('a', { ...given, ...p1 })), 'INVITE_INVALID')
  t.is(await codeOf(invites.create(ADMIN, { role: 'auth', expiresInMs: 1000 })), 'BAD_REQUEST')
})

test('a peer that tries wrong secrets has to wait, and no other peer has', async (t) => {
  const domain = await openDomain(t)
  const { members, clock } = domain
  const given = await invite(domain)
  const p1 = { role: 'processor', name: 'p1' } as const
  for (let i = 0; i < 3; i++) {
    t.is(await codeOf(members.join('guesser', { id: given.id, secret: `guess ${i}`, ...p1 })), 'INVITE_INVALID')
  }
  t.is(await codeOf(members.join('guesser', { ...given, ...p1 })), 'RATE_LIMITED')
  clock.now += 19_000
  t.is(await codeOf(members.join('guesser', { ...given, ...p1 })), 'RATE_LIMITED')
  t.is((await members.join(peerKey(7), { ...given, ...p1 })).name, 'p1')
  clock.now += 1000
  t.is(await codeOf(members.join('guesser', { ...given, ...p1 })), 'INVITE_INVALID')
})

test('the home’s invite admits any number of workers of any role', async (t) => {
  const domain = await openDomain(t)
  const home = await homeInvite(domain)
  for (const [i, role] of (['gateway', 'processor', 'metrics'] as const).entries()) {
    t.is((await domain.members.join(peerKey(i), { ...home, role, name: 'n1' })).role, role)
  }
  const other = await homeInvite(domain)
  t.ok(domain.accounts.invites.get(home.id)?.revokedAt, 'a new one replaces the old one')
  await domain.invites.revoke(ADMIN, other.id)
  await domain.invites.keepHomeInvite(ADMIN, other.id, other.secret)
  t.ok(domain.accounts.invites.get(other.id)?.revokedAt, 'keeping a revoked one does not bring it back')
})

test('a name is given once for each role', async (t) => {
  const domain = await openDomain(t)
  const home = await homeInvite(domain)
  await domain.members.join(peerKey(1), { ...home, role: 'processor', name: 'n1' })
  await t.exception(domain.members.join(peerKey(2), { ...home, role: 'processor', name: 'n1' }), /such as n1-2/)
  t.is((await domain.members.join(peerKey(3), { ...home, role: 'gateway', name: 'n1' })).name, 'n1')
  t.is(await codeOf(domain.members.join(peerKey(1), { ...home, role: 'gateway', name: 'g1' })), 'CONFLICT')
})

test('a removed worker comes back only with a fresh invite', async (t) => {
  const domain = await openDomain(t)
  const { members, directory } = domain
  const home = await homeInvite(domain)
  const p1 = { role: 'processor', name: 'p1' } as const
  const first = await invite(domain)
  await members.join(peerKey(1), { ...first, ...p1 })
  t.is((await members.remove(ADMIN, 'p1')).publicKey, peerKey(1))
  t.absent(directory.members.has(peerKey(1)))
  await t.exception(members.join(peerKey(1), { ...home, ...p1 }), /was removed from the mesh/)
  await t.exception(members.join(peerKey(1), { ...first, ...p1 }), /was removed from the mesh/)
  t.is((await members.join(peerKey(1), { ...(await invite(domain)), ...p1 })).name, 'p1')
  await members.remove(ADMIN, 'processor/p1')
  t.is(await codeOf(members.join(peerKey(1), { ...home, ...p1 })), 'INVITE_INVALID', 'and is remembered again')
})

test('members are removed by name, by role and name, or by key, and the authority never', async (t) => {
  const domain = await openDomain(t)
  const { members } = domain
  await members.enrolSelf('auth')
  const home = await homeInvite(domain)
  await members.join(peerKey(1), { ...home, role: 'processor', name: 'n1' })
  await members.join(peerKey(2), { ...home, role: 'gateway', name: 'n1' })
  await t.exception(members.remove(ADMIN, 'n1'), /gateway\/n1, processor\/n1/)
  t.is((await members.remove(ADMIN, 'gateway/n1')).publicKey, peerKey(2))
  t.is((await members.remove(ADMIN, 'n1')).publicKey, peerKey(1))
  await t.exception(members.remove(ADMIN, 'n1'), /There is auth\/auth/)
  t.is(await codeOf(members.remove(ADMIN, 'auth')), 'CONFLICT')
  t.is(domain.directory.members.get(AUTHORITY)?.role, 'auth')
})

test('a join that was cut between its two stores is completed by asking again', async (t) => {
  const domain = await openDomain(t)
  const { accounts, directory, members } = domain
  const given = await invite(domain)
  const p1 = { role: 'processor', name: 'p1' } as const
  await members.join(peerKey(1), { ...given, ...p1 })
  // As if the directory's batch had never been written.
  await directory.bee.del(directoryKeys.member(peerKey(1)))
  await directory.refresh()
  t.ok(accounts.invites.get(given.id)?.spentAt)
  t.is(await codeOf(members.join(peerKey(2), { ...given, ...p1 })), 'INVITE_INVALID', 'nobody else can use it')
  t.is((await members.join(peerKey(1), { ...given, ...p1 })).publicKey, peerKey(1))
})

test('a removal that was cut between its two stores is completed at the next start', async (t) => {
  const domain = await openDomain(t)
  const { accounts, directory, members, models } = domain
  const home = await homeInvite(domain)
  await members.join(peerKey(1), { ...home, role: 'processor', name: 'p1' })
  await models.announce(peerKey(1), testModel('m', 'aa'))
  // As if the accounts' batch alone had been written.
  await accounts.bee.put(authorityAccountKeys.removed(peerKey(1)), encodeJson({ at: 1 }))
  await accounts.bee.del(authorityAccountKeys.announced('m'))
  await accounts.refresh()
  await members.repair()
  await models.repair()
  t.absent(directory.members.has(peerKey(1)))
  t.absent(directory.models.has('m'))
})

test('a removal whose second half finds no room on the disk says so, and is completed once there is', async (t) => {
  const domain = await openDomain(t)
  const { directory, members, users } = domain
  await members.join(peerKey(1), { ...(await homeInvite(domain)), role: 'processor', name: 'p1' })
  const { flush } = SessionState.prototype
  t.teardown(() => {
    SessionState.prototype.flush = flush
  })
  SessionState.prototype.flush = async function () {
    if (this.core !== Reflect.get(directory.core, 'core')) return flush.call(this)
    throw new Error('Batch was not applied', { cause: new Error('No space left on device') })
  }
  await t.exception(members.remove(ADMIN, 'p1'), /disk is full: this is half done/)
  t.is(await codeOf(users.add(ADMIN, { name: 'ann', role: 'user', limits: {} })), 'DISK_FULL', 'nothing overtakes it')
  t.ok(directory.members.has(peerKey(1)))
  SessionState.prototype.flush = flush
  await until(() => !directory.members.has(peerKey(1)), 'nobody asked again')
  await users.add(ADMIN, { name: 'ann', role: 'user', limits: {} })
})

test('with little room left nothing is changed, and what changes nothing is no change', async (t) => {
  const { core, accounts, directory } = await openDomain(t)
  let shortage: MeshError | undefined = MeshError.DISK_FULL('1 MiB left')
  const writer = new StoreWriter({
    accounts,
    directory,
    now: Date.now,
    shortage: () => shortage,
    renew: (from) => core.renew(from),
  })
  t.is(await writer.change(() => 'nothing'), 'nothing')
  t.is(await codeOf(writer.change((draft) => draft.audit('ann', 'user.add', 'ben'))), 'DISK_FULL')
  shortage = undefined
  await writer.change((draft) => draft.audit('ann', 'user.add', 'ben'))
})

test('a model stays in the directory until the last processor has withdrawn it', async (t) => {
  const domain = await openDomain(t)
  const { members, models, directory, accounts } = domain
  const home = await homeInvite(domain)
  await members.join(peerKey(1), { ...home, role: 'processor', name: 'p1' })
  await members.join(peerKey(2), { ...home, role: 'processor', name: 'p2' })
  await models.announce(peerKey(1), testModel('org/m:Q8_0', 'aa'))
  await models.announce(peerKey(2), testModel('org/m:Q8_0', 'aa'))
  const audits = accounts.nextAudit
  await models.announce(peerKey(2), testModel('org/m:Q8_0', 'aa'))
  t.is(accounts.nextAudit, audits, 'announcing again writes nothing')
  await t.exception(models.announce(peerKey(2), testModel('org/m:Q8_0', 'bb')), /another file on processor\/p1/)
  await models.withdraw(peerKey(1), 'org/m:Q8_0')
  await models.withdraw(peerKey(1), 'org/m:Q8_0')
  t.ok(directory.models.has('org/m:Q8_0'))
  await models.announce(peerKey(2), testModel('org/m:Q8_0', 'bb'))
  t.is(directory.models.get('org/m:Q8_0')?.hash, 'bb', 'the only processor that has it may change its file')
  await members.remove(ADMIN, 'p2')
  t.absent(directory.models.has('org/m:Q8_0'), 'a removed processor has nothing any more')
})
