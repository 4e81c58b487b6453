import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { Test } from 'brittle'
import test from 'brittle'
import Corestore from 'corestore'
import DHT from 'hyperdht'
import { homeFiles, readProfile } from '../lib/home/index.js'
import { Link } from '../lib/link/index.js'
import { CLIENT_HELLO, decodeInvite, decodeKey, encodeKey, MeshError, methods } from '../lib/protocol/index.js'
import { METHOD_NAMES } from '../lib/protocol/methods.js'
import { Accounts } from '../lib/store/index.js'
import { AuthWorker } from '../workers/auth/index.js'
import {
  adminKey,
  codeOf,
  ready,
  type Stranger,
  spawnNode,
  start,
  startAuth,
  startStranger,
  TestWorker,
  testHome,
  testOptions,
  until,
  untilJoined,
} from './helpers/mesh.js'

/** A mesh with its authority, and a stranger that has the admin's key. */
async function startMesh(t: Test, flags = {}) {
  const home = await testHome(t)
  const auth = await startAuth(t, home, flags)
  const stranger = await startStranger(t, home, auth.publicKey)
  return { home, auth, stranger, key: adminKey(home) }
}

async function addUser(admin: Stranger, key: string, name: string): Promise<string> {
  await admin.call('users.add', { name }, { key })
  return (await admin.call('keys.create', { user: name, scopes: ['inference', 'manage:keys', 'read:usage'] }, { key }))
    .key
}

/** The authority as a process of its own. */
function spawnAuth(t: Test, home: string) {
  const args = ['--wtype', 'auth', '--data-dir', home, '--set', 'log.level=silent']
  return spawnNode(t, 'worker.js', args).process
}

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)

test('the first start makes a mesh, and every secret it writes is its owner’s alone', async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const files = homeFiles(home)
  for (const path of [
    files.adminKey,
    files.homeInvite,
    `${auth.workerDir}/accounts.key`,
    `${auth.workerDir}/identity.key`,
  ]) {
    t.is(mode(path), '600', path.slice(home.length))
  }
  const profile = readProfile(home)
  t.is(profile.address, encodeKey(auth.directory.core.key))
  t.is(profile.authority, auth.publicKey)
  t.is(profile.network.kind, 'local')
  t.ok(/^127\.0\.0\.1:\d+$/.test(profile.network.bootstrap[0] ?? ''))
  t.alike(decodeInvite(readFileSync(files.homeInvite, 'utf8')).profile, profile)
  const member = auth.directory.member(auth.publicKey)
  t.is(member?.role, 'auth')
  t.is(member?.name, 'auth')
  t.ok(existsSync(files.status('auth', 'auth')))
})

test('a restart keeps the address, the keys and the invite', async (t) => {
  const home = await testHome(t)
  const files = homeFiles(home)
  const read = () => [files.mesh, files.adminKey, files.homeInvite].map((path) => readFileSync(path, 'utf8'))
  const first = await startAuth(t, home)
  const before = read()
  const { length } = first.directory.core
  await first.stop()
  const auth = await startAuth(t, home)
  t.alike(read(), before)
  t.is(auth.directory.core.length, length, 'nothing is written again')
  const stranger = await startStranger(t, home, auth.publicKey)
  const { users } = await stranger.call('users.list', {}, { key: adminKey(home) })
  t.alike(
    users.map(({ name }) => name),
    ['admin'],
  )
})

test('a home whose admin key or invite was deleted gets new ones at the next start', async (t) => {
  const home = await testHome(t)
  const files = homeFiles(home)
  const first = await startAuth(t, home)
  await first.stop()
  const [key, invite] = [adminKey(home), readFileSync(files.homeInvite, 'utf8')]
  rmSync(files.adminKey)
  rmSync(files.homeInvite)
  const auth = await startAuth(t, home)
  t.not(adminKey(home), key)
  const stranger = await startStranger(t, home, auth.publicKey)
  t.is((await stranger.call('users.list', {}, { key: adminKey(home) })).users.length, 1, 'the admin stays one')
  const { id, secret } = decodeInvite(invite)
  t.is(await codeOf(stranger.call('join', { id, secret, role: 'processor', name: 'p1' })), 'INVITE_INVALID')
})

test('an invite or a key of the home that is none is named by whoever reads it', async (t) => {
  const home = await testHome(t)
  const { homeInvite, adminKey } = homeFiles(home)
  const first = await startAuth(t, home)
  writeFileSync(homeInvite, 'imv_x')
  const worker = await start(t, new TestWorker('processor', testOptions(home, 'p1')))
  await until(() => worker.failure !== undefined, 'the worker has looked for itself in the directory, and gives up')
  t.is(worker.failure instanceof MeshError && worker.failure.code, 'CONFIG_INVALID')
  t.ok(worker.failure?.message.startsWith(`${homeInvite} holds no invite`), worker.failure?.message)
  await worker.stop()
  await first.stop()
  const starting = () => new AuthWorker(testOptions(home, 'auth')).start()
  await t.exception(starting(), /home\.invite holds no invite.*Delete it/)
  rmSync(homeInvite)
  writeFileSync(adminKey, 'sk-none')
  await t.exception(starting(), /admin\.key holds no API key.*Delete it/)
})

test('a home that belongs to another mesh does not start an authority of its own', async (t) => {
  const home = await testHome(t)
  const address = encodeKey(Buffer.alloc(32, 1))
  const profile = { address, authority: address, network: { kind: 'local', bootstrap: ['127.0.0.1:1'] } }
  writeFileSync(homeFiles(home).mesh, JSON.stringify(profile))
  t.is(await codeOf(new AuthWorker(testOptions(home, 'auth')).start()), 'CONFIG_INVALID')
})

test('a first start that was killed half-way is completed by the next', async (t) => {
  const home = await testHome(t)
  const files = homeFiles(home)
  const workerDir = files.worker('auth', 'auth')
  const steps = [`${workerDir}/identity.key`, `${workerDir}/accounts.key`, files.adminKey, files.homeInvite, files.mesh]
  for (const path of steps) {
    const child = spawnAuth(t, home)
    await until(() => existsSync(path), `${path} is there`)
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  const auth = await startAuth(t, home)
  const stranger = await startStranger(t, home, auth.publicKey)
  const key = adminKey(home)
  t.is((await stranger.call('users.list', {}, { key })).users.length, 1)
  t.is((await stranger.call('keys.list', {}, { key })).keys.length, 1, 'there is no key that nobody has')
  t.is((await stranger.call('invites.list', {}, { key })).invites.length, 1)
  const { id, secret } = decodeInvite(readFileSync(files.homeInvite, 'utf8'))
  t.is((await stranger.call('join', { id, secret, role: 'processor', name: 'p1' })).member.name, 'p1')
})

test('accounts whose encryption key is gone are not opened as if they were new', async (t) => {
  const home = await testHome(t)
  const first = await startAuth(t, home)
  await first.stop()
  rmSync(`${first.workerDir}/accounts.key`)
  t.is(await codeOf(new AuthWorker(testOptions(home, 'auth')).start()), 'STORE_INVALID')
  t.absent(existsSync(`${first.workerDir}/accounts.key`), 'no new key is put in its place')
})

test('workers of the home join with its invite; a removed one is cut off at once and stays out', async (t) => {
  const { home, auth, stranger, key } = await startMesh(t)
  const worker = await start(t, new TestWorker('processor', testOptions(home, 'p1')))
  await untilJoined(worker)
  await until(() => auth.net.members.has(worker.publicKey), 'the authority sees the processor')
  const { members } = await stranger.call('members.list', {}, { key })
  t.alike(
    members.map(({ role, name }) => `${role}/${name}`),
    ['auth/auth', 'processor/p1'],
  )

  const cut = new Promise<number>((resolve) => worker.net.once('unlink', () => resolve(performance.now())))
  const asked = performance.now()
  await stranger.call('members.remove', { member: 'p1' }, { key })
  const cutMs = (await cut) - asked
  t.ok(cutMs < 1000, `cut after ${cutMs.toFixed(1)} ms`)
  await until(() => worker.failure !== undefined, 'the worker gives up')
  t.is(auth.directory.member(worker.publicKey), undefined)
  await worker.stop()

  const again = await start(t, new TestWorker('processor', testOptions(home, 'p1')))
  await until(() => again.failure !== undefined, 'the removed worker is refused')
  t.ok(
    /removed from the mesh|no longer a member|accepts members/.test(again.failure?.message ?? ''),
    again.failure?.message,
  )
  await again.stop()

  const { invite } = await stranger.call('invites.create', { role: 'processor' }, { key })
  const options = testOptions(home, 'p1')
  const back = await start(t, new TestWorker('processor', { ...options, environment: { INFERMESH_INVITE: invite } }))
  await untilJoined(back)
  t.is(back.publicKey, worker.publicKey)
})

test('an invite lets a stranger in by the key that its connection proved', async (t) => {
  const { home, auth, stranger, key } = await startMesh(t)
  const { invite, ...info } = await stranger.call('invites.create', { role: 'processor', name: 'far' }, { key })
  t.is(info.reusable, false)
  t.absent(JSON.stringify(await stranger.call('invites.list', {}, { key })).includes(decodeInvite(invite).secret))
  const { id, secret } = decodeInvite(invite)
  const keyPair = DHT.keyPair()
  const newcomer = await startStranger(t, home, auth.publicKey, keyPair)
  const { member } = await newcomer.call('join', { id, secret, role: 'processor', name: 'far' })
  t.is(member.publicKey, encodeKey(keyPair.publicKey))
  t.is(auth.directory.member(member.publicKey)?.name, 'far')
  t.is(await codeOf(stranger.call('join', { id, secret, role: 'processor', name: 'far' })), 'INVITE_INVALID')
})

test('every method refuses the callers that it does not name', async (t) => {
  const { home, stranger, key } = await startMesh(t)
  const worker = await start(t, new TestWorker('processor', testOptions(home, 'p1')))
  await untilJoined(worker)
  const link = worker.net.authority()
  const refused: string[] = []
  for (const name of METHOD_NAMES) {
    for (const [caller, peer] of [
      ['processor', link],
      ['client', stranger],
    ] as const) {
      if ((methods[name].callers as readonly string[]).includes(caller)) continue
      const code = await codeOf(peer.call(name, {} as never, { key }))
      if (code === 'FORBIDDEN') refused.push(`${caller} ${name}`)
      // What other workers serve.
      else if (code !== 'UNKNOWN_METHOD') t.fail(`${caller} called ${name}: ${code}`)
    }
  }
  t.ok(refused.includes('processor keys.create') && refused.includes('processor users.add'))
  t.ok(refused.includes('client models.announce') && refused.includes('client gateway.enlist'))
  t.ok(refused.length > 15, `${refused.length} were refused`)
})

test('a user manages itself, and only an admin manages others', async (t) => {
  const { stranger, key } = await startMesh(t)
  const alice = await addUser(stranger, key, 'alice')
  await addUser(stranger, key, 'bob')
  for (const [name, body] of [
    ['users.list', {}],
    ['users.add', { name: 'eve' }],
    ['users.limits', { name: 'alice', limits: {} }],
    ['users.remove', { name: 'bob' }],
    ['members.list', {}],
    ['members.remove', { member: 'auth' }],
    ['invites.create', { role: 'processor' }],
    ['audit.list', {}],
  ] as const) {
    t.is(await codeOf(stranger.call(name, body as never, { key: alice })), 'FORBIDDEN', name)
  }
  t.is(await codeOf(stranger.call('keys.create', { user: 'bob' }, { key: alice })), 'FORBIDDEN')
  t.is(
    await codeOf(stranger.call('users.passwd', { name: 'bob', password: 'long enough' }, { key: alice })),
    'FORBIDDEN',
  )
  t.is(await codeOf(stranger.call('usage.query', { user: 'bob' }, { key: alice })), 'FORBIDDEN')
  t.is(await codeOf(stranger.call('users.list', {}, {})), 'INVALID_API_KEY')

  t.is(await codeOf(stranger.call('users.passwd', { password: 'long enough' }, { key: alice })), 'FORBIDDEN')
  await stranger.call('users.passwd', { name: 'alice', password: 'long enough' }, { key })
  const { users } = await stranger.call('users.list', {}, { key })
  t.is(users.find(({ name }) => name === 'alice')?.hasPassword, true)
  t.absent(JSON.stringify(users).includes('argon2'), 'no hash leaves the authority')
  const own = await stranger.call('keys.create', { label: 'second', scopes: ['manage:keys'] }, { key: alice })
  t.is(own.user, 'alice')
  const { keys } = await stranger.call('keys.list', {}, { key: alice })
  t.alike(new Set(keys.map(({ user }) => user)), new Set(['alice']))
  t.absent(JSON.stringify(keys).includes('secretHash'))
  await stranger.call('keys.revoke', { id: own.id }, { key: alice })
  t.is(await codeOf(stranger.call('keys.list', {}, { key: own.key })), 'INVALID_API_KEY')
  await stranger.call('users.remove', { name: 'alice' }, { key })
  t.is(await codeOf(stranger.call('keys.list', {}, { key: alice })), 'INVALID_API_KEY')
})

test('limits that make no sense are refused by the name of their field', async (t) => {
  const { stranger, key } = await startMesh(t)
  const refused = (limits: object) => stranger.call('users.add', { name: 'alice', limits } as never, { key })
  await t.exception(refused({ requestsPerMinute: -1 }), /limits\.requestsPerMinute/)
  await t.exception(refused({ budget: { tokens: -5, period: 'day' } }), /limits\.budget\.tokens/)
  await t.exception(refused({ requestsPerHour: 5 }), /limits\.requestsPerHour/)
  t.is(await codeOf(stranger.call('keys.create', { expiresAt: 1 }, { key })), 'BAD_REQUEST')
  const limits = { tokensPerMinute: 100, budget: { tokens: 5, period: 'month' as const } }
  await stranger.call('users.add', { name: 'alice', limits }, { key })
  t.alike((await stranger.call('users.limits', { name: 'alice', limits: {} }, { key })).limits, {})
})

test('nobody registers themselves unless the mesh allows it', async (t) => {
  const { stranger } = await startMesh(t, { auth: { contact: 'it@example.com' } })
  const refused = stranger.call('users.register', { name: 'eve', password: 'long enough' })
  await t.exception(refused, /Nobody can register themselves in this mesh: ask it@example\.com for a key/)
  t.is(await codeOf(refused), 'FORBIDDEN')
})

test('where the mesh allows it, a stranger registers and gets a key, but not without end', async (t) => {
  const flags = {
    auth: { selfRegistration: true, registrationLimits: { requestsPerMinute: 3 }, registrationsPerMinute: 3 },
  }
  const { stranger } = await startMesh(t, flags)
  const { user, key } = await stranger.call('users.register', { name: 'eve', password: 'long enough' })
  t.alike(user.limits, { requestsPerMinute: 3 })
  t.is(user.role, 'user')
  t.is(await codeOf(stranger.call('keys.list', {}, { key })), 'FORBIDDEN', 'its key is for inference')
  const { token } = await stranger.call('login', { name: 'eve', password: 'long enough' })
  t.is((await stranger.call('keys.list', {}, { key: token })).keys.length, 1)
  t.is(await codeOf(stranger.call('users.register', { name: 'eve', password: 'long enough' })), 'CONFLICT')
  t.is(await codeOf(stranger.call('users.register', { name: 'eve2', password: 'short' })), 'BAD_REQUEST')
  await stranger.call('users.register', { name: 'eve3', password: 'long enough' })
  t.is(await codeOf(stranger.call('users.register', { name: 'eve4', password: 'long enough' })), 'RATE_LIMITED')
})

test('the trail names who did what, newest first', async (t) => {
  const { stranger, key } = await startMesh(t)
  const alice = await addUser(stranger, key, 'alice')
  await stranger.call('keys.create', {}, { key: alice })
  const before = Date.now()
  const { entries } = await stranger.call('audit.list', { limit: 3 }, { key })
  t.alike(
    entries.map(({ actor, action }) => `${actor} ${action}`),
    ['alice key.create', 'admin key.create', 'admin user.add'],
  )
  for (const { at } of entries) t.ok(before - at < 5000 && at <= before)
  const { entries: all } = await stranger.call('audit.list', {}, { key })
  t.alike(
    all.slice(-2).map(({ actor, action }) => `${actor} ${action}`),
    ['system user.add', 'system member.join'],
  )
})

test('a gateway reads the accounts and sees a revoked key within a second', async (t) => {
  const { home, auth, stranger, key } = await startMesh(t)
  const gateway = await start(t, new TestWorker('gateway', testOptions(home, 'g1')))
  await untilJoined(gateway)
  await until(() => auth.net.members.has(gateway.publicKey), 'the authority sees the gateway')
  const journal = gateway.store.journal()
  await journal.ready()
  const enlist = () => gateway.net.authority().call('gateway.enlist', { journal: encodeKey(journal.key) })
  const cores = await enlist()
  t.alike(await enlist(), cores, 'enlisting again answers the same')
  t.is(
    await codeOf(gateway.net.authority().call('gateway.enlist', { journal: cores.accounts })),
    'CONFLICT',
    'the authority’s own core is nobody’s journal',
  )

  const encryptionKey = Buffer.from(cores.accountsEncryptionKey, 'hex')
  const accounts = new Accounts(gateway.store.replica(decodeKey(cores.accounts), encryptionKey))
  gateway.net.share(accounts.core, ({ role }) => role === 'auth')
  await accounts.open()
  t.teardown(() => accounts.close())
  await until(() => accounts.caughtUp, 'the gateway has read the accounts')
  t.is(accounts.authenticate(key).role, 'admin')

  const created = await stranger.call('keys.create', {}, { key })
  await until(() => accounts.keys.has(created.id), 'the new key is known')
  const asked = performance.now()
  await stranger.call('keys.revoke', { id: created.id }, { key })
  await until(() => accounts.keys.get(created.id)?.revokedAt !== undefined, 'the revocation is known')
  const ms = performance.now() - asked
  t.ok(ms < 1000, `refused ${ms.toFixed(1)} ms after it was asked for`)

  const blind = gateway.store.corestore.get({ key: decodeKey(cores.accounts) })
  t.absent((await blind.get(1)).includes('admin'), 'the blocks on the gateway’s disk are encrypted')
  await blind.close()
})

test('who is no member reads the directory and nothing else, whatever keys it knows', async (t) => {
  const { home, auth } = await startMesh(t)
  const gateway = await start(t, new TestWorker('gateway', testOptions(home, 'g1')))
  await untilJoined(gateway)
  const journal = gateway.store.journal()
  await journal.ready()
  const { accounts } = await gateway.net.authority().call('gateway.enlist', { journal: encodeKey(journal.key) })

  const corestore = new Corestore(await t.tmp())
  t.teardown(() => corestore.close(), { order: 1 })
  const { network, address } = readProfile(home)
  const dht = new DHT({ bootstrap: network.bootstrap, host: '127.0.0.1' })
  t.teardown(() => dht.destroy({ force: true }))
  for (const peer of [auth, gateway]) {
    const conn = dht.connect(decodeKey(peer.publicKey))
    new Link({ conn, hello: CLIENT_HELLO, roleOf: () => 'client' })
    corestore.replicate(conn)
  }
  const directory = corestore.get({ key: decodeKey(address) })
  directory.download({ start: 0, end: -1 })
  const secret = corestore.get({ key: decodeKey(accounts) })
  secret.download({ start: 0, end: -1 })
  await until(() => directory.length > 0, 'the directory is read')
  await new Promise((resolve) => setTimeout(resolve, 300))
  t.is(secret.length, 0)
  t.ok(secret.peers.length === 0, 'nobody offers the accounts')
})

test('SIGKILL in the midst of changes loses no key that was acknowledged', async (t) => {
  const home = await testHome(t)
  const child = () => spawnAuth(t, home)
  const acknowledged: { id: string; key: string }[] = []
  let process_ = child()
  for (let round = 0; round < 2; round++) {
    await ready(home, 'auth', 'auth', process_.pid)
    const stranger = await startStranger(t, home, readProfile(home).authority)
    const key = adminKey(home)
    const kill = setTimeout(() => process_.kill('SIGKILL'), 120)
    let alive = true
    const makeKeys = async () => {
      while (alive) {
        try {
          const { id, key: text } = await stranger.call('keys.create', {}, { key, timeoutMs: 1000 })
          acknowledged.push({ id, key: text })
        } catch {
          alive = false
        }
      }
    }
    const exited = once(process_, 'exit').then(() => {
      alive = false
    })
    const workers = Promise.all([makeKeys(), makeKeys(), makeKeys(), makeKeys()])
    await exited
    clearTimeout(kill)
    await stranger.close()
    await workers
    process_ = child()
  }
  t.ok(acknowledged.length > 10, `${acknowledged.length} keys were acknowledged`)
  await ready(home, 'auth', 'auth', process_.pid)
  const stranger = await startStranger(t, home, readProfile(home).authority)
  const { keys } = await stranger.call('keys.list', { limit: 1000 }, { key: adminKey(home) })
  const known = new Set(keys.map(({ id }) => id))
  t.alike(
    acknowledged.filter(({ id }) => !known.has(id)),
    [],
    'every one is there',
  )
  const { entries } = await stranger.call('audit.list', { limit: 1000 }, { key: adminKey(home) })
  const audited = new Set(entries.filter(({ action }) => action === 'key.create').map(({ target }) => target))
  t.alike([...known].sort(), [...audited].sort(), 'and every key has its audit entry')
  await stranger.close()
  process_.kill('SIGTERM')
  const [code] = await once(process_, 'exit')
  t.is(code, 0)
})
