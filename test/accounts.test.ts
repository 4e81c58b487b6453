import test from 'brittle'
import Corestore from 'corestore'
import { scopesOf } from '../lib/protocol/index.js'
import type { Actor } from '../workers/auth/actor.js'
import { readAudit } from '../workers/auth/audit.js'
import { hashPassword, verifyPassword } from '../workers/auth/index.js'
import { ADMIN, ALL, newKeyFor, openDomain } from './auth-kit.js'
import { codeOf } from './helpers/mesh.js'

const ALICE: Actor = { user: 'alice', scopes: scopesOf('user') }
const plain = { role: 'user', limits: {} } as const

test('a key works until it is revoked, and revoking it again changes nothing', async (t) => {
  const { accounts, clock, keys, users } = await openDomain(t)
  await users.add(ADMIN, { name: 'alice', ...plain })
  const { entry, text } = await keys.create(ADMIN, newKeyFor({ user: 'alice', label: 'laptop' }))
  t.is(accounts.authenticate(text).user, 'alice')
  t.absent(
    JSON.stringify([...accounts.keys.values()]).includes(text.split('_')[2] as string),
    'the secret is not stored',
  )

  clock.now += 1000
  const revoked = await keys.revoke(ALICE, entry.id)
  t.is(revoked.revokedAt, clock.now)
  t.exception(() => accounts.authenticate(text), /was revoked/)
  const audits = accounts.nextAudit
  clock.now += 1000
  t.alike(await keys.revoke(ALICE, `im_${entry.id}_…`), revoked, 'also by the form that messages show')
  t.is(accounts.nextAudit, audits, 'nothing is added to the trail')
})

test('a key stops working when it expires, and none is made that has expired already', async (t) => {
  const { accounts, clock, keys, users } = await openDomain(t)
  await users.add(ADMIN, { name: 'alice', ...plain })
  const { text } = await keys.create(ADMIN, newKeyFor({ user: 'alice', expiresAt: clock.now + 1000 }))
  t.is(accounts.authenticate(text, clock.now + 999).user, 'alice')
  t.exception(() => accounts.authenticate(text, clock.now + 1000), /expired at 2026-01-31T15:30:01/)
  t.is(await codeOf(keys.create(ADMIN, newKeyFor({ user: 'alice', expiresAt: clock.now }))), 'BAD_REQUEST')
})

test('removing a user revokes its keys in the same change', async (t) => {
  const { accounts, keys, users } = await openDomain(t)
  await users.add(ADMIN, { name: 'alice', ...plain })
  const first = await keys.create(ADMIN, newKeyFor({ user: 'alice' }))
  const second = await keys.create(ADMIN, newKeyFor({ user: 'alice' }))
  await users.remove(ADMIN, 'alice')
  for (const { text, entry } of [first, second]) {
    t.exception(() => accounts.authenticate(text))
    t.ok(accounts.keys.get(entry.id)?.revokedAt)
  }
})

test('the last admin, and the last key of an admin, cannot be taken away', async (t) => {
  const { clock, keys, users } = await openDomain(t)
  await users.add(ADMIN, { name: 'root', role: 'admin', limits: {} })
  const { entry } = await keys.create(ADMIN, newKeyFor({ user: 'root', scopes: ['admin'] }))
  t.is(await codeOf(users.remove(ADMIN, 'root')), 'CONFLICT')
  t.is(await codeOf(keys.revoke(ADMIN, entry.id)), 'CONFLICT')

  await users.add(ADMIN, { name: 'second', role: 'admin', limits: {} })
  t.is(await codeOf(users.remove(ADMIN, 'root')), 'CONFLICT', 'another admin without a key is none that could act')
  await keys.create(ADMIN, newKeyFor({ user: 'second', scopes: ['admin'], expiresAt: clock.now + 1000 }))
  await keys.revoke(ADMIN, entry.id)
  await users.remove(ADMIN, 'root')
  t.alike(
    users.list(ALL).items.map(({ name }) => name),
    ['second'],
  )
})

test('a user acts for itself only', async (t) => {
  const { keys, users } = await openDomain(t)
  await users.add(ADMIN, { name: 'alice', ...plain })
  await users.add(ADMIN, { name: 'bob', ...plain })
  const bobs = await keys.create(ADMIN, newKeyFor({ user: 'bob' }))
  t.is(await codeOf(keys.create(ALICE, newKeyFor({ user: 'bob' }))), 'FORBIDDEN')
  t.is(await codeOf(keys.revoke(ALICE, bobs.entry.id)), 'NOT_FOUND')
  t.is(await codeOf(users.setPassword(ALICE, 'bob', 'hash', { by: 'admin', passwordHash: undefined })), 'FORBIDDEN')
  t.alike(keys.list(ALICE, ALL).items, [])
  t.is(keys.list(ADMIN, ALL).items.length, 1)
})

test('names that are taken or not known are refused with what exists', async (t) => {
  const { keys, users } = await openDomain(t)
  await users.add(ADMIN, { name: 'alice', ...plain })
  t.is(await codeOf(users.add(ADMIN, { name: 'alice', ...plain })), 'CONFLICT')
  t.is(await codeOf(users.add(ADMIN, { name: 'system', ...plain })), 'BAD_REQUEST')
  await t.exception(users.remove(ADMIN, 'alcie'), /Did you mean alice\?/)
  await t.exception(keys.create(ADMIN, newKeyFor({ user: 'zoe' })), /There is alice/)
  await t.exception(keys.revoke(ADMIN, 'nothing'), /There is none yet/)
})

test('changes that race are decided one after another', async (t) => {
  const { users } = await openDomain(t)
  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, () => users.add(ADMIN, { name: 'alice', ...plain })),
  )
  t.is(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  t.is(users.list(ALL).items.length, 1)
})

test('a change whose caller has gone is not begun', async (t) => {
  const { accounts, users } = await openDomain(t)
  const controller = new AbortController()
  const first = users.add(ADMIN, { name: 'alice', ...plain })
  const second = users.add(ADMIN, { name: 'bob', ...plain }, controller.signal)
  controller.abort(new Error('gone'))
  await first
  await t.exception(second, /gone/)
  t.absent(accounts.users.has('bob'))
})

test('the trail says who did what to whom and when, and holds no secret', async (t) => {
  const { accounts, clock, keys, users } = await openDomain(t)
  await users.add(ADMIN, { name: 'alice', ...plain, passwordHash: 'the-hash' })
  clock.now += 5000
  const { entry, text } = await keys.create(ALICE, newKeyFor({ label: 'laptop', limits: { requestsPerMinute: 5 } }))
  const { items: entries } = await readAudit(accounts.bee, { limit: 10 })
  t.alike(
    entries.map(({ seq, at, actor, action, target }) => ({ seq, at, actor, action, target })),
    [
      { seq: 1, at: clock.now, actor: 'alice', action: 'key.create', target: entry.id },
      { seq: 0, at: clock.now - 5000, actor: 'root', action: 'user.add', target: 'alice' },
    ],
  )
  t.alike(entries[0]?.detail, {
    user: 'alice',
    label: 'laptop',
    scopes: ['inference'],
    limits: { requestsPerMinute: 5 },
  })
  const written = JSON.stringify(entries)
  t.absent(written.includes('the-hash') || written.includes(text.slice(-20)) || written.includes(entry.secretHash))
  t.is((await readAudit(accounts.bee, { limit: 1 })).items.length, 1)
})

test('an entry and its audit entry are one block range: both or neither are there after a crash', async (t) => {
  const { accounts, users } = await openDomain(t)
  const lengths: number[] = []
  accounts.core.on('append', () => lengths.push(accounts.core.length))
  await users.add(ADMIN, { name: 'alice', ...plain })
  t.alike(lengths.slice(-1), [3], 'header, user and audit entry')
  await users.add(ADMIN, { name: 'bob', ...plain })
  t.alike(lengths.slice(-2), [3, 5], 'one append for both')
})

test('a store writer that is closed takes no more changes', async (t) => {
  const { accounts, writer, users } = await openDomain(t)
  const under = users.add(ADMIN, { name: 'alice', ...plain })
  await writer.close()
  await under
  t.ok(accounts.users.has('alice'), 'what was under way is done')
  t.is(await codeOf(users.add(ADMIN, { name: 'bob', ...plain })), 'SHUTTING_DOWN')
})

test('the blocks of encrypted accounts cannot be read without the key', async (t) => {
  const dir = await t.tmp()
  const corestore = new Corestore(dir)
  const written = corestore.get({ name: 'accounts', encryption: { key: Buffer.alloc(32, 7) } })
  await written.append(Buffer.from('alice is an admin'))
  t.is((await written.get(0)).toString(), 'alice is an admin')
  await corestore.close()

  const again = new Corestore(dir)
  t.teardown(() => again.close())
  const blind = again.get({ name: 'accounts' })
  t.absent((await blind.get(0)).includes('alice'))
})

test('a password is kept as argon2id and verified against it', async (t) => {
  const hash = await hashPassword('correct horse battery')
  t.ok(/^\$argon2id\$v=19\$m=65536,t=2,p=1\$/.test(hash))
  t.ok(await verifyPassword('correct horse battery', hash))
  t.absent(await verifyPassword('wrong horse battery', hash))
  t.absent(await verifyPassword('anything', 'no hash at all'))
  t.absent(await verifyPassword('anything', 'x'.repeat(500)))
  t.not(await hashPassword('correct horse battery'), hash, 'each has its own salt')
})
