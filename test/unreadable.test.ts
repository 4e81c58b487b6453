import test, { type Test } from 'brittle'
import Corestore from 'corestore'
import type Hypercore from 'hypercore'
import DHT from 'hyperdht'
import {
  encodeJson,
  encodeKey,
  hashSecret,
  MeshError,
  newApiKey,
  signToken,
  TokenVerifier,
} from '../lib/protocol/index.js'
import { Accounts, accountKeys, Directory, directoryKeys, passwordMark } from '../lib/store/index.js'
import { AuthorityAccounts, mustBeReadable } from '../workers/auth/accounts.js'
import { testModel } from './helpers/model.js'

/** What a view does with entries that it does not understand, on real cores. */

const AT = Date.UTC(2026, 0, 31)
const GARBAGE = Buffer.from('{"half')

async function openAccounts<A extends Accounts>(t: Test, View: new (core: Hypercore) => A) {
  const corestore = new Corestore(await t.tmp())
  t.teardown(() => corestore.close(), { order: 1 })
  const accounts = new View(corestore.get({ name: 'accounts' }))
  const told: MeshError[] = []
  accounts.on('unreadable', (err) => told.push(err))
  await accounts.open()
  const put = async (key: string, value: object | Buffer) => {
    await accounts.bee.put(key, Buffer.isBuffer(value) ? value : encodeJson(value))
    await accounts.refresh()
  }
  return { accounts, told, put }
}

const user = (name: string) => ({ name, role: 'user', limits: {}, createdAt: AT })

function apiKey(owner: string) {
  const { id, secret, text } = newApiKey()
  return { text, entry: { id, user: owner, secretHash: hashSecret(secret), limits: {}, createdAt: AT } }
}

function refusal(accounts: Accounts, text: string): string {
  try {
    return accounts.authenticate(text).user
  } catch (err) {
    return MeshError.from(err).message
  }
}

const CLOSED = /later version of infermesh, or is damaged. Upgrade this worker/

test('a key that a later version limited is closed, whatever says so, and the others go on', async (t) => {
  const { accounts, told, put } = await openAccounts(t, Accounts)
  await put(accountKeys.user('ann'), user('ann'))
  const others = apiKey('ann')
  await put(accountKeys.apiKey(others.entry.id), others.entry)
  for (const change of [
    { limits: { wattsPerMinute: 1 } },
    { limits: { budget: { tokens: 5, period: 'week' } } },
    { scopes: ['chat'] },
    { notBefore: AT },
    { limits: 'none' },
    { id: 'another' },
    { createdAt: 'today' },
    { label: 'x'.repeat(3 * 1024 * 1024) },
  ]) {
    const { entry, text } = apiKey('ann')
    const key = accountKeys.apiKey(entry.id)
    await put(key, entry)
    t.is(refusal(accounts, text), 'ann')
    await put(key, { ...entry, ...change })
    t.ok(CLOSED.test(refusal(accounts, text)), Object.keys(change).join())
    t.absent(accounts.keys.has(entry.id), 'its old rights are gone')
    t.ok(accounts.unreadable.has(key))
    t.is(refusal(accounts, others.text), 'ann', 'other keys work')

    const newer = apiKey('ann')
    await put(accountKeys.apiKey(newer.entry.id), newer.entry)
    t.is(refusal(accounts, newer.text), 'ann', 'what comes after it is read')
    await put(key, entry)
    t.is(refusal(accounts, text), 'ann', 'an entry that can be read heals it')
  }
  t.is(accounts.unreadable.size, 0)
  t.is(told.length, 8, 'each was told once')
})

test('what is no JSON, or lies under an odd key, stops nothing and is told without its value', async (t) => {
  const { accounts, told, put } = await openAccounts(t, Accounts)
  const { entry, text } = apiKey('ann')
  const odd = ['user', 'user/', 'key/', 'key/../x', `key/${'x'.repeat(1000)}`, accountKeys.apiKey(entry.id)]
  for (const key of odd) await put(key, key === 'user' ? GARBAGE : Buffer.from('secret-value'))
  for (const key of ['', '/', 'later/kind', 'unknown']) await put(key, GARBAGE)
  await put(accountKeys.user('ann'), user('ann'))
  t.alike([...accounts.unreadable.keys()].sort(), odd.sort(), 'kinds of later versions are not ours to judge')
  t.ok(accounts.users.has('ann'))
  t.ok(CLOSED.test(refusal(accounts, text)))
  for (const err of told) {
    t.is(err.code, 'STORE_INVALID')
    t.ok(err.message.length < 600, 'bounded')
    t.absent(`${err.stack}${JSON.stringify(err)}${String(err.cause)}`.includes('secret-value'))
  }
  await accounts.bee.del(accountKeys.apiKey(entry.id))
  await accounts.refresh()
  t.absent(accounts.unreadable.has(accountKeys.apiKey(entry.id)), 'deleting it heals it, too')
})

test('who belongs to an entry that cannot be read has no rights, by key or by token', async (t) => {
  const { accounts, put } = await openAccounts(t, Accounts)
  const authority = newAuthority()
  accounts.tokens = new TokenVerifier(authority.mesh, authority.publicKey)
  const ann = { ...user('ann'), role: 'admin', passwordHash: 'hash' }
  const { entry, text } = apiKey('ann')
  await put(accountKeys.user('ann'), ann)
  await put(accountKeys.apiKey(entry.id), entry)
  const token = authority.token('ann', passwordMark('hash'))
  t.alike([refusal(accounts, text), refusal(accounts, token)], ['ann', 'ann'])
  for (const change of [{ role: 'auditor' }, { groups: ['blocked'] }, { limits: { perHour: 1 } }]) {
    await put(accountKeys.user('ann'), { ...ann, ...change })
    t.ok(CLOSED.test(refusal(accounts, text)), Object.keys(change).join())
    t.ok(CLOSED.test(refusal(accounts, token)))
  }
  await put(accountKeys.user('ann'), ann)
  t.alike([refusal(accounts, text), refusal(accounts, token)], ['ann', 'ann'])
})

test('an unreadable entry stays closed over a restart, and one that was healed is not told again', async (t) => {
  const dir = await t.tmp()
  const ann = apiKey('ann')
  const bob = apiKey('bob')
  const first = new Corestore(dir)
  const before = new Accounts(first.get({ name: 'accounts' }))
  await before.open()
  await before.bee.put(accountKeys.user('ann'), GARBAGE)
  await before.bee.put(accountKeys.user('ann'), encodeJson(user('ann')))
  await before.bee.put(accountKeys.user('bob'), encodeJson(user('bob')))
  for (const { entry } of [ann, bob]) await before.bee.put(accountKeys.apiKey(entry.id), encodeJson(entry))
  await before.bee.put(accountKeys.apiKey(bob.entry.id), encodeJson({ ...bob.entry, models: ['m'] }))
  await before.close()
  await first.close()

  const corestore = new Corestore(dir)
  t.teardown(() => corestore.close())
  const accounts = new Accounts(corestore.get({ name: 'accounts' }))
  const told: MeshError[] = []
  accounts.on('unreadable', (err) => told.push(err))
  await accounts.open()
  t.ok(accounts.caughtUp)
  t.is(refusal(accounts, ann.text), 'ann')
  t.ok(CLOSED.test(refusal(accounts, bob.text)))
  t.alike(
    told.map(({ details }) => details),
    [{ store: 'accounts', entry: accountKeys.apiKey(bob.entry.id) }],
  )
})

test('a member or model of a later version is not there, and the others are', async (t) => {
  const corestore = new Corestore(await t.tmp())
  t.teardown(() => corestore.close(), { order: 1 })
  const directory = new Directory(corestore.get({ name: 'directory' }))
  await directory.open()
  const put = async (key: string, value: object) => {
    await directory.bee.put(key, encodeJson(value))
    await directory.refresh()
  }
  const [one, two] = [encodeKey(Buffer.alloc(32, 1)), encodeKey(Buffer.alloc(32, 2))]
  const member = (publicKey: string) => ({ publicKey, role: 'gateway', name: 'g', addedAt: AT })
  await put(directoryKeys.member(one), member(one))
  await put(directoryKeys.member(two), member(two))
  for (const change of [{ role: 'witness' }, { notBefore: AT }, { publicKey: two }, { notAfter: 'tomorrow' }]) {
    await put(directoryKeys.member(one), { ...member(one), ...change })
    t.is(directory.member(one), undefined, Object.keys(change).join())
    t.is(directory.membersWithRole('gateway').length, 1)
  }
  await put(directoryKeys.member('nobody'), member('nobody'))
  t.is(directory.member('nobody'), undefined, 'what is no public key is nobody’s')
  await put(directoryKeys.member(one), member(one))
  t.is(directory.membersWithRole('gateway').length, 2)

  const model = testModel('m', 'aa')
  await put(directoryKeys.model('m'), model)
  await put(directoryKeys.model('m'), { ...model, hash: ['aa', 'bb'] })
  t.absent(directory.models.has('m'), 'an older file is not served under a name that stands for another by now')
  await put(directoryKeys.model('m'), { ...model, vision: true })
  t.ok(directory.models.has('m'), 'a model’s new fields narrow nobody’s rights')
})

test('the authority does not decide from a store that it cannot read whole', async (t) => {
  for (const [key, value] of [
    ['user/ann', { ...user('ann'), groups: [] }],
    ['key/ybndrfg8ejkmc', GARBAGE],
    ['invite/x', { id: 'x', secretHash: '', createdAt: AT, uses: 3 }],
    ['removed/x', { at: AT, until: AT }],
    ['announced/m', { processors: [], seeds: [] }],
    ['journal/x', { gateway: 'g', at: AT, until: AT }],
    ['audit/last', { seq: 1 }],
  ] as const) {
    const { accounts, put } = await openAccounts(t, AuthorityAccounts)
    mustBeReadable(accounts)
    await put(key, value)
    t.exception(() => mustBeReadable(accounts), new RegExp(`entry ${key} of the accounts.*has changed nothing`))
  }
})

/** An authority's tokens, for one user. */
function newAuthority() {
  const { publicKey, secretKey } = DHT.keyPair()
  const mesh = encodeKey(Buffer.alloc(32, 9))
  return {
    mesh,
    publicKey: encodeKey(publicKey),
    token: (sub: string, pwd: string) => {
      const iat = Math.floor(Date.now() / 1000)
      return signToken({ iss: mesh, sub, role: 'admin', iat, exp: iat + 600, jti: 'j', pwd }, secretKey.subarray(0, 32))
    },
  }
}
