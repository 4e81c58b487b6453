import test, { type Test } from 'brittle'
import { encodeKey, loginKeyId, MeshError, type Scope, scopesOf } from '../lib/protocol/index.js'
import type { Principal } from '../lib/store/index.js'
import { originOf } from '../lib/worker-base/index.js'
import { HashQueue } from '../workers/auth/hash-queue.js'
import { Logins } from '../workers/auth/logins.js'
import { hashPassword } from '../workers/auth/passwords.js'
import { ADMIN, openDomain } from './auth-kit.js'
import { codeOf } from './helpers/mesh.js'

/** Who may log in how often, and who waits for whom. */

const PASSWORD = 'correct horse battery'
const HOME = '10.1.1.1'

async function open(t: Test) {
  const domain = await openDomain(t)
  const { users, writer, clock } = domain
  const passwordHash = await hashPassword(PASSWORD)
  await users.add(ADMIN, { name: 'ann', role: 'user', passwordHash, limits: {} })
  await users.add(ADMIN, { name: 'silent', role: 'user', limits: {} })
  const queue = new HashQueue()
  const [seed, mesh] = [Buffer.alloc(32, 1), encodeKey(Buffer.alloc(32, 2))]
  const logins = new Logins({ writer, queue, mesh, seed, perMinute: 3, monotonic: () => clock.now })
  const login = (name: string, password: string, address: string) => codeOf(logins.login(name, password, address))
  return { ...domain, logins, login, queue, passwordHash }
}

test('a stranger who guesses runs out of guesses, from however many addresses, and locks nobody out', async (t) => {
  const { clock, login } = await open(t)
  t.is(await login('ann', PASSWORD, HOME), undefined)
  for (let i = 0; i < 3; i++) t.is(await login('ann', `guess ${i}`, `10.2.0.${i}`), 'LOGIN_FAILED')
  t.is(await login('ann', 'guess 4', '10.2.0.99'), 'RATE_LIMITED', 'another address has no other guesses')
  t.is(await login('ann', PASSWORD, HOME), undefined, 'where ann logged in before, ann logs in')
  t.is(await login('silent', 'guess', '10.2.0.99'), 'LOGIN_FAILED', 'other names are not affected')
  clock.now += 20_000
  t.is(await login('ann', PASSWORD, '10.3.0.1'), undefined, 'and elsewhere once a guess has come back')
})

test('whoever has the name of a removed user is not known where that one logged in', async (t) => {
  const { logins, login } = await open(t)
  t.is(await login('ann', PASSWORD, HOME), undefined)
  logins.forget('ann')
  for (let i = 0; i < 3; i++) t.is(await login('ann', `guess ${i}`, `10.2.0.${i}`), 'LOGIN_FAILED')
  t.is(await login('ann', 'a guess', HOME), 'RATE_LIMITED', 'there are no guesses besides')
})

test('wrong passwords from one address run out over all names, and right ones do not count', async (t) => {
  const { login } = await open(t)
  for (let i = 0; i < 9; i++) t.is(await login(`nobody-${i}`, 'x', '10.2.0.1'), 'LOGIN_FAILED')
  t.is(await login('nobody-9', 'x', '10.2.0.1'), 'RATE_LIMITED')
  t.is(await login('nobody-9', 'x', '10.2.0.2'), 'LOGIN_FAILED')
  t.is(await login('ann', PASSWORD, '10.2.0.3'), undefined)
  for (let i = 0; i < 3; i++) t.is(await login('ann', `guess ${i}`, '10.2.0.4'), 'LOGIN_FAILED')
})

test('one place is an IPv4 address, or the network that somebody has of IPv6', (t) => {
  t.is(originOf('10.1.1.1'), '10.1.1.1')
  t.is(originOf('::ffff:10.1.1.1'), '10.1.1.1')
  t.is(originOf('2001:db8:0:1::5'), originOf('2001:DB8::1:ffff:1:2:3%eth0'))
  t.not(originOf('2001:db8:0:1::5'), originOf('2001:db8:0:2::5'))
  t.is(originOf('::1'), '0:0:0:0::/64')
  t.is(originOf('no address'), 'no address')
})

test('a new password wants the old one or a fresh login, and a key is no proof', async (t) => {
  const { logins, clock, users, passwordHash } = await open(t)
  const key = { keyId: 'k1', user: 'ann', role: 'user' as const, scopes: scopesOf('user') }
  const withKey: Principal = { ...key, limits: { key: {}, parents: [], user: {} } }
  const withToken = (loggedInAt: number): Principal => ({ ...withKey, keyId: loginKeyId('ann'), loggedInAt })
  t.is(await codeOf(logins.prove(withKey, undefined)), 'FORBIDDEN')
  t.alike(await logins.prove(withKey, PASSWORD), { by: 'old password', passwordHash })
  t.is((await logins.prove(withToken(clock.now - 299_000), undefined)).by, 'login')
  t.is(await codeOf(logins.prove(withToken(clock.now - 300_000), undefined)), 'FORBIDDEN', 'five minutes later')
  for (let i = 0; i < 3; i++) t.is(await codeOf(logins.prove(withKey, `guess ${i}`)), 'LOGIN_FAILED')
  t.is(await codeOf(logins.prove(withKey, PASSWORD)), 'RATE_LIMITED', 'guesses with a key count as any')

  const scopes: Scope[] = [...scopesOf('user')]
  const silent: Principal = { ...withKey, user: 'silent', scopes }
  t.is(await codeOf(logins.prove(silent, undefined)), 'FORBIDDEN', 'nor gives a key itself a first password')
  t.is((await logins.prove({ ...silent, role: 'admin', scopes: scopesOf('admin') }, undefined)).by, 'admin')
  const proof = { by: 'login', passwordHash: 'another' } as const
  t.is(await codeOf(users.setPassword(ADMIN, 'ann', 'new', proof)), 'CONFLICT', 'what was proved is true no more')
})

test('passwords are hashed in turn: logins first, users in turn, and nobody’s without bound', async (t) => {
  const queue = new HashQueue()
  const done: string[] = []
  let open = () => {}
  const gate = new Promise<void>((resolve) => (open = resolve))
  const work = (name: string) => async () => {
    await gate
    done.push(name)
  }
  const runs = [queue.run('change', 'first', work('first'))]
  const refused = (lane: 'login' | 'change', owner: string) => {
    try {
      runs.push(queue.run(lane, owner, work(`${lane} ${owner}`)))
      return undefined
    } catch (err) {
      return MeshError.from(err).code
    }
  }
  t.is(refused('change', 'eve'), undefined)
  t.is(refused('change', 'eve'), undefined)
  t.is(refused('change', 'eve'), 'BUSY', 'one user has two that wait')
  t.is(refused('change', 'bob'), undefined)
  for (let i = 0; i < 32; i++) t.is(refused('login', `user-${i}`), undefined)
  t.is(refused('login', 'user-32'), 'BUSY', 'thirty-two logins wait at most')
  runs.push(queue.run('known', 'ann', work('known ann')))
  const controller = new AbortController()
  const left = queue.run('known', 'gone', work('gone'), controller.signal)
  controller.abort(new Error('left'))
  left.catch(() => {})
  open()
  await Promise.all(runs)
  await t.exception(left, /left/)
  t.alike(done.slice(0, 6), ['first', 'known ann', 'login user-0', 'login user-1', 'change eve', 'login user-2'])
  t.ok(done.indexOf('change bob') < done.lastIndexOf('change eve'), 'users take turns')
  t.is(done.length, 37)
})
