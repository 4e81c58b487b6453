import { generateKeyPairSync, sign } from 'node:crypto'
import test from 'brittle'
import { MeshClient } from '../lib/client/index.js'
import { loadSeed } from '../lib/home/index.js'
import { type InputOf, type ResponseOf, signToken } from '../lib/protocol/index.js'
import type { TokenClaims } from '../lib/protocol/token.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { type Answer, type Json, startApi } from './helpers/api.js'
import { codeOf, start, startStranger, testOptions, until, untilJoined } from './helpers/mesh.js'

const password = 'correct horse battery'

/** A token with any claims and any signer. */
function forged(claims: Partial<TokenClaims> & Pick<TokenClaims, 'iss' | 'pwd'>, seed: Uint8Array): string {
  const now = Math.floor(Date.now() / 1000)
  return signToken({ sub: 'ann', role: 'admin', iat: now, exp: now + 900, jti: 'x', ...claims }, seed)
}

function claimsOf(token: string): TokenClaims {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as TokenClaims
}

test('users, keys, limits, usage, members, invites, workers, models and audit are managed over HTTP', {
  timeout: 60_000,
}, async (t) => {
  const { ask, home, auth, gateway } = await startApi(t)

  await t.test('users', async (t) => {
    const added = await ask('POST /users', { name: 'ann', password, limits: { requestsPerMinute: 60 } })
    t.is(added.status, 201)
    t.is(added.body.role, 'user')
    t.is(added.body.hasPassword, true)
    t.absent(JSON.stringify(added.body).includes('argon2'), 'no hash is shown')
    t.is((await ask('POST /users', { name: 'ann' })).body.error?.code, 'conflict')
    const { users } = (await ask('GET /users')).body as unknown as ResponseOf<'users.list'>
    t.alike(
      users.map(({ name }) => name),
      ['admin', 'ann'],
    )
    t.is((await ask('GET /users/ann')).body.name, 'ann')
    t.is((await ask('GET /users/bob')).status, 404)
    const limits = { tokensPerMinute: 5000, budget: { tokens: 100_000, period: 'day' } }
    t.alike((await ask('PATCH /users/ann', { limits })).body.limits, limits)
    t.is((await ask('POST /users/ann/password', { password: 'another password' })).status, 204)
    t.is((await ask('DELETE /users/ann')).status, 204)
    t.is((await ask('DELETE /users/ann')).status, 404)
    t.is((await ask('DELETE /users/admin')).status, 409, 'the last admin stays')
  })

  await t.test('keys', async (t) => {
    const made = await ask('POST /keys', { label: 'laptop', limits: { requestsPerMinute: 5 } })
    t.is(made.status, 201)
    t.is(made.headers.get('cache-control'), 'no-store')
    const { id, key } = made.body as unknown as ResponseOf<'keys.create'>
    t.is((await ask('GET /me', undefined, key)).body.keyId, id, 'it works at once')
    t.absent(JSON.stringify((await ask('GET /keys')).body).includes(key.slice(-52)), 'it is shown once')
    const changed = await ask(`PATCH /keys/${id}`, { label: 'desktop', limits: { requestsPerMinute: 7 } })
    t.is(changed.body.label, 'desktop')
    t.alike((await ask(`GET /keys/${id}`)).body.limits, { requestsPerMinute: 7 })
    t.ok((await ask(`DELETE /keys/${id}`)).body.revokedAt)
    await until(async () => (await ask('GET /me', undefined, key)).status === 401, 'it is refused', 1000)
    t.is((await ask(`PATCH /keys/${id}`, { label: 'x' })).status, 409)
    t.is((await ask('PATCH /keys/nothing', { label: 'x' })).body.error?.param, 'id')
  })

  await t.test('usage, workers, models, invites, members, audit', async (t) => {
    t.alike((await ask('GET /usage?from=0')).body, { rows: [], has_more: false })
    t.is((await ask('GET /usage?from=yesterday')).body.error?.param, 'from')
    t.is((await ask('GET /usage?colour=red')).status, 400)
    t.alike((await ask('GET /usage?by=user,model')).body, { rows: [], has_more: false })
    t.is((await ask('GET /usage?by=colour')).body.error?.param, 'by[0]')
    const { workers, mesh } = (await ask('GET /workers')).body as unknown as ResponseOf<'mesh.status'>
    t.is(mesh, auth.profile.address)
    t.alike(workers.map(({ role }) => role).sort(), ['auth', 'gateway'])
    t.alike((await ask('GET /models')).body, { models: [], has_more: false })
    t.is((await ask('POST /models', { path: '/nothing.gguf' })).body.error?.code, 'no_processor')
    t.is((await ask('DELETE /models/some/model:Q4')).body.error?.code, 'model_not_found')
    const invite = (await ask('POST /invites', { role: 'processor', name: 'p1' })).body
    t.ok(String(invite.invite).startsWith('imv_'))
    t.is((await ask('GET /invites')).status, 200)
    t.is((await ask(`DELETE /invites/${invite.id}`)).status, 204)
    const { members } = (await ask('GET /members')).body as unknown as ResponseOf<'members.list'>
    t.is(members.length, 2)
    const { entries } = (await ask('GET /audit?limit=1')).body as unknown as ResponseOf<'audit.list'>
    t.is(entries.length, 1)
    t.is(entries[0]?.action, 'invite.revoke')
    t.is(entries[0]?.actor, 'admin')
    const processor = await start(t, new ProcessorWorker(testOptions(home, 'p1', { engine: { gpu: 'off' } })))
    await untilJoined(processor)
    t.is((await ask('DELETE /members/processor%2Fp1')).body.name, 'p1')
    await until(() => gateway.net.linksTo('processor').length === 0, 'its link is cut')
  })

  await t.test('what is wrong is said in four keys', async (t) => {
    const bad: [line: string, body: unknown, status: number][] = [
      ['GET /nothing', undefined, 404],
      ['PUT /users', {}, 405],
      ['POST /users', '{', 400],
      ['POST /users', '[]', 400],
      ['POST /users', '"x"', 400],
      ['POST /users', {}, 400],
      ['POST /users', { name: 'has a space' }, 400],
      ['POST /users', { name: 'eve', role: 'owner' }, 400],
      ['POST /users', { name: 'eve', password: 'short' }, 400],
      ['POST /users', { name: 'eve', colour: 'red' }, 400],
      ['POST /users', '{"name":"eve","__proto__":{"role":"admin"}}', 400],
      ['POST /users', { name: 'eve', limits: { budget: { tokens: -1, period: 'day' } } }, 400],
      ['POST /keys', { user: 'nobody' }, 404],
      ['POST /keys', { expiresAt: 1 }, 400],
      ['POST /invites', { role: 'king' }, 400],
      ['DELETE /members/nobody', undefined, 404],
      ['GET /audit?limit=0', undefined, 400],
      ['GET /audit?limit=ten', undefined, 400],
      ['POST /login', { name: 'admin' }, 400],
      ['POST /login', { name: 'admin', password: 'x', address: '10.0.0.1' }, 401],
    ]
    for (const [line, body, status] of bad) {
      const answer = await ask(line, body)
      t.is(answer.status, status, `${line} ${JSON.stringify(body)}`)
      t.alike(Object.keys(answer.body.error ?? {}), ['message', 'type', 'param', 'code'])
      t.ok(answer.headers.get('x-request-id'))
    }
    const plain = await ask('POST /users', 'name=eve', undefined, { 'content-type': 'text/plain' })
    t.is(plain.status, 415)
    t.ok(plain.body.error?.message.includes('`Content-Type: application/json`'), plain.body.error?.message)
    t.is(
      (await ask('POST /users', 'name=eve', undefined, { 'content-type': 'application/x-www-form-urlencoded' })).status,
      415,
      'a form of another site is not read',
    )
    t.is((await ask('POST /users', JSON.stringify({ name: 'x'.repeat(9 * 1024 * 1024) }))).status, 413)
    const long = await ask('POST /users', { name: 'x'.repeat(64 * 1024) })
    t.is(long.status, 413)
    t.ok(long.body.error?.message.includes('65536 bytes'), long.body.error?.message)
    t.is(
      (await ask('GET /me', undefined, undefined, { origin: 'https://evil.example' })).headers.get(
        'access-control-allow-origin',
      ),
      null,
    )
  })
})

test('a name and password give a token that is good wherever a key is', { timeout: 60_000 }, async (t) => {
  const { home, auth, gateway, ask, login, key } = await startApi(t)
  await ask('POST /users', { name: 'ann', password })
  await ask('POST /users', { name: 'root', password, role: 'admin' })
  const { status, body } = await login('ann', password)
  t.is(status, 200)
  const token = String(body.token)
  t.is(body.user, 'ann')
  t.is(body.role, 'user')
  t.ok(Math.abs(Number(body.expiresAt) - Date.now() - 15 * 60_000) < 5000)
  const claims = claimsOf(token)
  t.alike(Object.keys(claims).sort(), ['exp', 'iat', 'iss', 'jti', 'pwd', 'role', 'sub'])

  await t.test('on HTTP', async (t) => {
    const me = (await ask('GET /me', undefined, token)).body
    t.is(me.user, 'ann')
    t.is(me.role, 'user')
    t.is(me.expiresAt, body.expiresAt)
    t.is((await ask('POST /keys', { label: 'mine' }, token)).body.user, 'ann')
    t.is((await ask('GET /keys', undefined, token)).status, 200)
    for (const line of ['GET /users', 'GET /audit', 'GET /members', 'GET /invites', 'DELETE /users/root']) {
      const refused = await ask(line, undefined, token)
      t.is(refused.status, 403, line)
      t.is(refused.body.error?.code, 'forbidden')
    }
    t.is((await ask('POST /models', { path: '/x' }, token)).status, 403)
    t.is((await ask('GET /usage?user=root', undefined, token)).status, 403)
    const admin = String((await login('root', password)).body.token)
    t.is((await ask('GET /users', undefined, admin)).status, 200)
  })

  await t.test('on RPC, to a gateway and to the authority, and with the client library', async (t) => {
    const toGateway = await startStranger(t, home, gateway.publicKey)
    const toAuthority = await startStranger(t, home, auth.publicKey)
    t.is((await toGateway.call('usage.self', {}, { key: token })).user, 'ann')
    t.is((await toAuthority.call('keys.list', {}, { key: token })).keys.length, 1)
    t.is(await codeOf(toAuthority.call('users.list', {}, { key: token })), 'FORBIDDEN')
    const own = await toAuthority.call('login', { name: 'ann', password })
    t.is((await toGateway.call('usage.self', {}, { key: own.token })).user, 'ann')
    const mesh = new MeshClient({ home, key: token })
    t.teardown(() => mesh.close())
    t.is((await mesh.usage()).user, 'ann')
    t.is((await mesh.login({ name: 'ann', password })).user, 'ann')
    t.is((await mesh.fetch('http://mesh/api/v1/me')).status, 200)
    const wrong = await mesh.fetch('http://mesh/api/v1/users')
    t.is(wrong.status, 403)
  })

  await t.test('a login leaves an audit entry with the address, and no password', async (t) => {
    const { entries } = (await ask('GET /audit')).body as unknown as ResponseOf<'audit.list'>
    const entry = entries.find(({ action, actor }) => action === 'user.login' && actor === 'root')
    t.is(entry?.detail?.address, '127.0.0.1')
    t.absent(JSON.stringify(entries).includes(password))
  })

  await t.test('forged, changed, foreign and expired tokens are refused', async (t) => {
    const seed = loadSeed(auth.workerDir)
    const { iss, pwd } = claims
    t.is((await ask('GET /me', undefined, forged({ iss, pwd }, seed))).status, 200, 'the test’s own way to sign works')
    const now = Math.floor(Date.now() / 1000)
    const [header = '', payload = '', signature = ''] = token.split('.')
    const asAdmin = Buffer.from(JSON.stringify({ ...claims, role: 'admin', sub: 'root' })).toString('base64url')
    const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url')
    const { privateKey } = generateKeyPairSync('ed25519')
    const other = sign(null, Buffer.from(`${header}.${asAdmin}`), privateKey).toString('base64url')
    const refused: [what: string, token: string][] = [
      ['expired', forged({ iss, pwd, iat: now - 1000, exp: now - 1 }, seed)],
      ['from the future', forged({ iss, pwd, iat: now + 3600, exp: now + 7200 }, seed)],
      ['of another mesh', forged({ iss: 'y'.repeat(52), pwd }, seed)],
      ['for nobody', forged({ iss, pwd, sub: 'nobody' }, seed)],
      ['for another password', forged({ iss, pwd: 'x'.repeat(16) }, seed)],
      ['signed by another key', forged({ iss, pwd }, Buffer.alloc(32, 1))],
      ['signed by a stranger', `${header}.${asAdmin}.${other}`],
      ['with other claims', `${header}.${asAdmin}.${signature}`],
      ['with alg none', `${none}.${asAdmin}.${signature}`],
      ['without a signature', `${none}.${asAdmin}.`],
      ['cut', token.slice(0, -1)],
      ['doubled', `${token}.${payload}`],
      ['very long', `${header}.${'a'.repeat(5000)}.${signature}`],
      ['no claims', signToken({} as TokenClaims, seed)],
    ]
    for (const [what, bad] of refused) {
      const answer = await ask('GET /me', undefined, bad)
      t.is(answer.status, 401, what)
      t.is((await ask('GET /keys', undefined, bad)).status, 401, `${what}, at the authority`)
    }
    t.is((await ask('GET /me', undefined, '')).status, 401, 'none')
    const listed = forged({ iss, pwd, role: 'admin' }, seed)
    t.is((await ask('GET /users', undefined, listed)).status, 403, 'the role is the user’s own, not the token’s')
  })

  await t.test('a new password, and the removal of the user, end a token at once', async (t) => {
    t.is((await ask('POST /me/password', { password: 'a new password' }, token)).status, 204)
    t.is((await ask('GET /keys', undefined, token)).status, 401, 'the authority knows at once')
    await until(async () => (await ask('GET /me', undefined, token)).status === 401, 'the gateway knows', 1000)
    t.is((await login('ann', password)).status, 401)
    const next = String((await login('ann', 'a new password')).body.token)
    t.is((await ask('GET /me', undefined, next)).status, 200)
    await ask('DELETE /users/ann')
    t.is((await ask('GET /keys', undefined, next)).status, 401, 'the authority knows at once')
    const removedAt = performance.now()
    await until(async () => (await ask('GET /me', undefined, next)).status === 401, 'the gateway knows', 1000)
    t.comment(`refused after ${(performance.now() - removedAt).toFixed(1)} ms`)
    await ask('POST /users', { name: 'ann', password: 'a new password' }, key)
    t.is((await ask('GET /keys', undefined, next)).status, 401, 'nor does it come back with another user of that name')
  })
})

test('logins are throttled by name and by address, and tell nothing of who exists', { timeout: 60_000 }, async (t) => {
  const { auth, home, ask, login } = await startApi(t, { loginsPerMinute: 4 })
  await ask('POST /users', { name: 'ann', password })
  await ask('POST /users', { name: 'silent' })
  const body = ({ body: { error } }: Answer) => JSON.stringify({ ...error })
  const [wrong, unknown, none] = [await login('ann', 'x'), await login('nobody', 'x'), await login('silent', 'x')]
  t.is(wrong.status, 401)
  t.is(wrong.body.error?.code, 'login_failed')
  t.is(body(wrong), body(unknown))
  t.is(body(wrong), body(none))

  const timed = async (name: string) => {
    const startedAt = performance.now()
    await login(name, 'x')
    return performance.now() - startedAt
  }
  const [known, stranger] = [await timed('ann'), await timed('nobody')]
  t.comment(`a wrong password takes ${known.toFixed(0)} ms, an unknown name ${stranger.toFixed(0)} ms`)
  t.ok(stranger > known / 3 && known > stranger / 3)

  await login('ann', 'x')
  t.is((await login('ann', password)).status, 200, 'the fourth')
  for (let i = 0; i < 4; i++) t.is((await login('ann', 'x')).status, 401)
  const throttled = await login('ann', password)
  t.is(throttled.status, 429)
  t.is(throttled.body.error?.code, 'rate_limit_exceeded')
  t.ok(Number(throttled.headers.get('retry-after')) > 5)
  t.is((await login('silent', 'x')).status, 401, 'another name is not throttled yet')
  const statuses: number[] = []
  for (let i = 0; i < 12; i++) statuses.push((await login(`name-${i}`, 'x')).status)
  t.is(statuses[0], 401)
  t.is(statuses.at(-1), 429, 'the address is')

  const client = await startStranger(t, home, auth.publicKey)
  const attempt = (request: InputOf<'login'>) => codeOf(client.call('login', request))
  t.is(
    await attempt({ name: 'other', password: 'x', address: '10.9.9.9' }),
    'RATE_LIMITED',
    'a client over the mesh comes from the same address, whatever its key pair is and whatever it says',
  )
})

test('while the authority is down, what it decides answers 503 and the rest goes on', {
  timeout: 60_000,
}, async (t) => {
  const { auth, ask, login } = await startApi(t)
  await ask('POST /users', { name: 'ann', password })
  const token = String((await login('ann', password)).body.token)
  await auth.stop()
  const down = await ask('GET /users')
  t.is(down.status, 503)
  t.is(down.body.error?.code, 'authority_down')
  t.ok(/auth worker/.test(down.body.error?.message ?? ''), down.body.error?.message)
  t.ok(down.headers.get('retry-after'))
  t.is((await login('ann', password)).status, 503)
  t.is((await ask('GET /me')).status, 200)
  t.is((await ask('GET /me', undefined, token)).status, 200, 'tokens are checked without the authority')
  t.is((await ask('GET /workers')).status, 200)
})

test('the management API is described in the OpenAPI document', async (t) => {
  const { url, ask } = await startApi(t)
  const document = (await (await fetch(url.replace('/api/v1', '/openapi.json'))).json()) as {
    paths: Record<string, Record<string, Json & { security: unknown[] }>>
    components: { schemas: Json }
  }
  const described = Object.entries(document.paths).filter(([path]) => path.startsWith('/api/v1/'))
  t.ok(described.length >= 15, `${described.length} paths`)
  const ids = described.flatMap(([, item]) => Object.values(item).map(({ operationId }) => operationId))
  t.is(new Set(ids).size, ids.length, 'operations have names of their own')
  t.ok('Error' in document.components.schemas)
  t.alike(document.paths['/api/v1/login']?.post?.security, [])
  for (const [path, item] of described) {
    for (const method of Object.keys(item)) {
      const { status } = await ask(
        `${method.toUpperCase()} ${path.slice('/api/v1'.length).replace(/\{\w+\}/g, 'x')}`,
        undefined,
        '',
      )
      t.ok(
        status === 401 || (/\/(login|register)$/.test(path) && status === 400),
        `${method} ${path} wants a credential`,
      )
    }
  }
})
