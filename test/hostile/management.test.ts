import test, { type Test } from 'brittle'
import type { ResponseOf } from '../../lib/protocol/index.js'
import { startApi } from '../helpers/api.js'
import { codeOf, startStranger, until } from '../helpers/mesh.js'

/**
 * Attacks on the management of a running mesh by those who have a key of it. The bounds that they meet are in
 * docs/security.md.
 */

const PASSWORD = 'correct horse battery'

/** A mesh with users ann and bob, and a key of ann's that an admin limited and that may make keys. */
async function startMesh(t: Test, settings: Record<string, unknown> = {}) {
  const { home, auth, gateway, key: admin, ask, login } = await startApi(t, settings)
  for (const name of ['ann', 'bob']) await ask('POST /users', { name, password: PASSWORD })
  const limits = { requestsPerMinute: 10, budget: { tokens: 100, period: 'day' }, models: ['a'] }
  const expiresAt = Date.now() + 3_600_000
  const scopes = ['inference', 'manage:keys']
  const made = await ask('POST /keys', { user: 'ann', scopes, limits, expiresAt })
  const { id, key } = made.body as unknown as ResponseOf<'keys.create'>
  return { home, auth, gateway, admin, ask, login, id, key, expiresAt }
}

test('the holder of a key widens neither it, nor what it makes, nor its user’s account', {
  timeout: 60_000,
}, async (t) => {
  const { ask, login, id, key, expiresAt } = await startMesh(t)
  const denied = async (line: string, body: unknown, credential = key, status = 403) =>
    t.is((await ask(line, body, credential)).status, status, `${line} ${JSON.stringify(body)}`)
  const token = String((await login('ann', PASSWORD)).body.token)
  for (const credential of [key, token]) {
    await denied(`PATCH /keys/${id}`, { limits: {} }, credential)
    await denied(`PATCH /keys/${id}`, { limits: { requestsPerMinute: 1000 } }, credential)
    await denied(`PATCH /keys/${id}`, { expiresAt: expiresAt + 1 }, credential)
    await denied(`PATCH /keys/${id}`, { scopes: ['inference', 'read:usage'] }, credential)
    await denied('PATCH /users/ann', { limits: {} }, credential)
    await denied('POST /keys', { scopes: ['admin'] }, credential)
    await denied('POST /users', { name: 'eve', role: 'admin' }, credential)
  }
  await denied('POST /keys', { limits: { requestsPerMinute: 1000 } })
  await denied('POST /keys', { limits: { models: ['a', 'b'] } })
  await denied('POST /keys', { expiresAt: expiresAt + 1 })
  await denied('POST /keys', { scopes: ['read:usage'] })
  await denied('GET /usage', undefined)
  await denied('POST /me/password', { password: 'a new password' })
  await denied('POST /me/password', { password: 'a new password', oldPassword: 'a guess' }, key, 401)
  t.is((await login('ann', PASSWORD)).status, 200, 'the password is the old one')

  const child = (await ask('POST /keys', { scopes: ['inference', 'manage:keys'] }, key))
    .body as unknown as ResponseOf<'keys.create'>
  t.is(child.parent, id)
  t.is(child.expiresAt, expiresAt)
  await denied('POST /keys', { limits: { requestsPerMinute: 1000 } }, child.key)
  const me = (await ask('GET /me', undefined, child.key)).body as unknown as ResponseOf<'usage.self'>
  t.is(me.limits.parents[0]?.limits.requestsPerMinute, 10, 'the limits above it hold')
  await ask(`DELETE /keys/${id}`)
  await until(async () => (await ask('GET /me', undefined, child.key)).status === 401, 'it dies with its maker', 1000)
  t.is((await ask('POST /keys', {}, child.key)).status, 401)
})

test('one user’s flood of keys and names ends at a bound, and hides nothing from the admin', {
  timeout: 60_000,
}, async (t) => {
  const { ask, login, key } = await startMesh(t)
  const names = Array.from({ length: 19_000 }, (_, i) => `m${i}`)
  t.is((await ask('POST /keys', { limits: { models: names.slice(0, 101) } }, key)).status, 400)
  t.is((await ask('POST /keys', { limits: { models: names } }, key)).status, 413)
  t.is((await ask('POST /keys', { label: 'x'.repeat(101) }, key)).status, 400)

  const token = String((await login('ann', PASSWORD)).body.token)
  const statuses: number[] = []
  const models = Array.from({ length: 100 }, (_, i) => `${'m'.repeat(190)}${i}`)
  while (statuses.at(-1) !== 429 && statuses.length < 500) {
    statuses.push((await ask('POST /keys', { limits: { models } }, token)).status)
  }
  t.ok(statuses.length <= 75, `${statuses.length} calls were answered before the first 429`)
  t.is(
    (await ask('GET /keys', undefined, String((await login('bob', PASSWORD)).body.token))).status,
    200,
    'bob goes on',
  )

  const audit = await ask('GET /audit?limit=1000')
  t.is(audit.status, 200)
  const { entries } = audit.body as unknown as ResponseOf<'audit.list'>
  for (const { detail } of entries) if (JSON.stringify(detail ?? {}).length > 4096) t.fail('a detail is too long')
  const seen = new Set<string>()
  let after = ''
  for (let pages = 0; pages < 20; pages++) {
    const page = (await ask(`GET /keys?limit=20${after}`)).body as unknown as ResponseOf<'keys.list'>
    for (const { id } of page.keys) seen.add(id)
    if (!page.has_more) break
    after = `&after=${encodeURIComponent(page.next ?? '')}`
  }
  t.is(seen.size, statuses.filter((status) => status === 201).length + 2, 'the admin sees every key')
})

test('one user’s password changes, and a stranger’s guesses, stop nobody’s login', { timeout: 60_000 }, async (t) => {
  const { home, auth, gateway, ask, login } = await startMesh(t, { loginsPerMinute: 3 })
  const token = String((await login('ann', PASSWORD)).body.token)
  const flood = Array.from({ length: 30 }, (_, i) => ask('POST /me/password', { password: `new password ${i}` }, token))
  const startedAt = performance.now()
  t.is((await login('bob', PASSWORD)).status, 200)
  const tookMs = performance.now() - startedAt
  t.ok(tookMs < 5000, `bob’s login took ${tookMs.toFixed(0)} ms`)
  const statuses = (await Promise.all(flood)).map(({ status }) => status)
  t.comment(`ann was answered ${[...new Set(statuses)].sort().join(', ')}, bob in ${tookMs.toFixed(0)} ms`)
  t.absent(statuses.includes(504), 'none ran into its deadline')
  t.ok(statuses.filter((status) => status === 204).length <= 3)

  // A gateway tells from where each attempt comes.
  const from = (address: string, password: string) =>
    codeOf(gateway.net.authority().call('login', { name: 'bob', password, address }))
  t.is(await from('10.0.0.1', PASSWORD), undefined)
  const codes: (string | undefined)[] = []
  for (let i = 0; i < 6; i++) codes.push(await from(`10.66.0.${i}`, 'a guess'))
  t.ok(codes.filter((code) => code === 'LOGIN_FAILED').length <= 4, 'guesses from six addresses share one bound')
  t.is(codes.at(-1), 'RATE_LIMITED')
  t.is(await from('10.0.0.1', PASSWORD), undefined, 'bob logs in from where bob did before')
  let refused = 0
  for (let i = 0; i < 2; i++) {
    const stranger = await startStranger(t, home, auth.publicKey)
    for (let j = 0; j < 6; j++) {
      if ((await codeOf(stranger.call('login', { name: `eve-${i}-${j}`, password: 'a guess' }))) === 'RATE_LIMITED')
        refused++
    }
    await stranger.close()
  }
  t.ok(refused > 0, 'new key pairs have no new guesses: their address is the same')
})
