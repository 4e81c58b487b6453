import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import Hyperbee from 'hyperbee'
import { MeshClient } from '../lib/client/index.js'
import { encodeJson, type Member, type MeshError } from '../lib/protocol/index.js'
import { accountKeys, directoryKeys } from '../lib/store/index.js'
import { AuthWorker } from '../workers/auth/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import {
  adminKey,
  codeOf,
  infermesh,
  linked,
  start,
  startAuth,
  startAuthority,
  startMember,
  startStranger,
  testHome,
  testOptions,
  until,
  untilJoined,
} from './helpers/mesh.js'

/** What a mesh does when its authority's stores hold entries of a later version: real workers, links and replicas. */

/** The accounts, for a writer that the authority knows nothing of. */
function accountsOf(auth: AuthWorker): Hyperbee {
  const key = readFileSync(join(auth.workerDir, 'accounts.key'), 'utf8').trim()
  const core = auth.store.own('accounts', Buffer.from(key, 'hex'))
  return new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
}

/** What a gateway says to a key: its status, and why. */
async function ask(gateway: GatewayWorker, key: string): Promise<{ status: number; message: string }> {
  const response = await fetch(`${gateway.status().addresses.http}/v1/models`, {
    headers: { authorization: `Bearer ${key}` },
  })
  const body: { error?: { message?: string } } = JSON.parse(await response.text())
  return { status: response.status, message: body.error?.message ?? '' }
}

test('gateways go on where the accounts hold what they cannot read, and close that alone', {
  timeout: 60_000,
}, async (t) => {
  const home = await testHome(t)
  const failures: MeshError[] = []
  const auth = await start(t, new AuthWorker({ ...testOptions(home, 'auth'), onFatal: (err) => failures.push(err) }))
  const gateways: [GatewayWorker, GatewayWorker] = [
    await start(t, new GatewayWorker(testOptions(home, 'g1'))),
    await start(t, new GatewayWorker(testOptions(home, 'g2'))),
  ]
  /** Waits until every gateway says the same of a key. */
  const all = async (key: string, status: number, message: RegExp, what: string) => {
    for (const gateway of gateways) {
      await until(async () => {
        const answer = await ask(gateway, key)
        return answer.status === status && message.test(answer.message)
      }, `${gateway.name}: ${what}`)
    }
    t.pass(what)
  }
  const admin = adminKey(home)
  const stranger = await startStranger(t, home, auth.publicKey)
  const call = { key: admin }
  const newKey = async (user: string) => await stranger.call('keys.create', { user }, call)
  for (const name of ['ann', 'bob']) await stranger.call('users.add', { name }, call)
  const [limited, revoked, other, bobs] = [
    await newKey('ann'),
    await newKey('ann'),
    await newKey('ann'),
    await newKey('bob'),
  ]
  for (const { key } of [limited, revoked, other, bobs]) await all(key, 200, /^$/, 'a key works')

  // As a later version of the authority would write it.
  const bee = accountsOf(auth)
  const before = await bee.get(accountKeys.apiKey(limited.id))
  const bob = await bee.get(accountKeys.user('bob'))
  if (before === null || bob === null) throw new Error('they were stored above')
  await bee.put(
    accountKeys.apiKey(limited.id),
    encodeJson({ ...JSON.parse(String(before.value)), limits: { perDay: 1 } }),
  )
  await bee.put(accountKeys.apiKey('ybndrfg8ejkmc'), Buffer.from('\u0000no JSON'))
  await bee.put(accountKeys.user('bob'), encodeJson({ ...JSON.parse(String(bob.value)), groups: ['night'] }))

  const closed = /later version of infermesh, or is damaged/
  await all(limited.key, 401, closed, 'the key that it limits is closed')
  await all(bobs.key, 401, closed, 'and so are the keys of a user')
  await all(other.key, 200, /^$/, 'other keys work')
  const newer = await newKey('ann')
  await all(newer.key, 200, /^$/, 'a key made after it works')
  await stranger.call('keys.revoke', { id: revoked.id }, call)
  await all(revoked.key, 401, /was revoked/, 'a key revoked after it does not')

  for (const gateway of gateways) {
    t.is(gateway.load().unreadable, 3)
    t.ok((await gateway.registry.metrics()).includes('infermesh_store_unreadable_entries{store="accounts"} 3'))
  }
  const client = await startStranger(t, home, gateways[0].publicKey)
  await until(async () => {
    const { workers } = await client.call('mesh.status', {}, call)
    return workers.filter(({ load }) => load?.unreadable === 3).length === 3
  }, 'each tells the others')

  const doctor = await infermesh(['doctor', '--json'], { home })
  const { findings }: { findings: { check: string; message: string }[] } = JSON.parse(doctor.stdout)
  t.alike(
    findings.filter(({ check }) => check === 'stores').map(({ message }) => /^\w+ \w+/.exec(message)?.[0]),
    ['auth auth', 'gateway g1', 'gateway g2'],
    'and doctor tells the owner',
  )

  await gateways[1].stop()
  gateways[1] = await start(t, new GatewayWorker(testOptions(home, 'g2')))
  await all(newer.key, 200, /^$/, 'a gateway that is started again serves')
  await all(limited.key, 401, closed, 'and keeps the key closed')
  await all(revoked.key, 401, /was revoked/, 'and the revoked one')

  await bee.put(accountKeys.apiKey(limited.id), before.value)
  await all(limited.key, 200, /^$/, 'an entry that can be read opens the key again')
  t.is(gateways[0].load().unreadable, 2)

  t.ok(failures.length > 0, 'the authority itself ends, rather than to overwrite what it cannot read')
  t.is(failures[0]?.code, 'STORE_INVALID')
  t.ok(failures[0]?.message.includes(`entry key/${limited.id} of the accounts`))
  await auth.stop()
  t.is(await codeOf(new AuthWorker(testOptions(home, 'auth')).start()), 'STORE_INVALID', 'nor does it start')
  await all(newer.key, 200, /^$/, 'the gateways serve without it')
})

test('a client that cannot read its gateway’s entry trusts nobody, and says that it is too old', async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  await untilJoined(gateway)
  const key = directoryKeys.member(gateway.publicKey)
  const member = auth.directory.members.get(gateway.publicKey)
  await auth.directory.bee.put(key, encodeJson({ ...member, tenants: ['ann'] }))
  const mesh = new MeshClient({ home, timeoutMs: 3000 })
  t.teardown(() => mesh.close(), { order: -1000 })
  await t.exception(mesh.status(), /is no gateway in the directory.*cannot read 1: upgrade it here/)
})

test('a member whose entry cannot be read is cut off, and nobody else', { timeout: 60_000 }, async (t) => {
  const authority = await startAuthority(t)
  const gateway = await startMember(t, authority, 'gateway', 'g1')
  const [p1, p2] = [
    await startMember(t, authority, 'processor', 'p1'),
    await startMember(t, authority, 'processor', 'p2'),
  ]
  const [first, second] = [await linked(gateway, p1), await linked(gateway, p2)]

  const member: Member = { publicKey: p1.publicKey, role: 'processor', name: 'p1', addedAt: Date.now() }
  const key = directoryKeys.member(p1.publicKey)
  const { bee } = authority.directory
  await bee.put(key, encodeJson({ ...member, tenants: ['ann'] }))
  await bee.put(directoryKeys.member('nobody'), encodeJson({ ...member, publicKey: 'nobody' }))
  await bee.put(directoryKeys.model('m'), Buffer.from('no JSON'))
  await until(() => first.closed, 'its link is closed')
  t.absent(gateway.net.members.has(p1.publicKey))
  t.ok(gateway.directory.unreadable.has(key))
  await until(() => gateway.load().unreadable === 3, 'all three are counted')
  t.absent(second.closed, 'the other link stays')

  const p3 = await startMember(t, authority, 'processor', 'p3')
  await linked(gateway, p3)
  t.pass('a member that was added after it is linked')
  await authority.remove(p2.publicKey)
  await until(() => second.closed, 'one that was removed after it is cut off')

  await bee.put(key, encodeJson(member))
  await linked(gateway, p1)
  t.pass('an entry that can be read brings it back')
  t.is(gateway.load().unreadable, 2)
  t.alike([gateway.failure, p3.failure], [undefined, undefined], 'no worker ends')
})
