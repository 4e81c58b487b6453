import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import test from 'brittle'
import { MeshClient } from '../lib/client/index.js'
import { findLogin, findProfile, homeFiles } from '../lib/home/index.js'
import { decodeConnectString, encodeConnectString } from '../lib/protocol/index.js'
import { bad, good } from './helpers/commands.js'
import { adminKey, CLI, cliEnv, infermesh, spawnProgram, testHome, until } from './helpers/mesh.js'

/** A colleague's way to a mesh that somebody else made: one line, a password, or a registration of one's own. */

const UP = [
  ...['up', '--detach', '--no-check', '--http-port', '0', '--metrics-port', '0', '--host', '0.0.0.0'],
  ...['--set', 'auth.selfRegistration=true', '--set', 'auth.registrationLimits={"requestsPerMinute":5}'],
]

interface Made {
  id: string
  key: string
  connect: string
  mesh: string
  baseURL: string
}

interface Whoami {
  user: string
  keyId: string
  expiresAt?: number
  scopes: string[]
  uses: { of: string; name: string; limit: string; most: number; used: number; left: number; resetsAt?: number }[]
}

test('a colleague on another machine', { timeout: 280_000 }, async (t) => {
  const home = await testHome(t)
  t.teardown(() => infermesh(['down', '--force'], { home }))
  await good(t, home, UP)
  await good(t, home, ['users', 'add', 'ann', '--password', '--budget', '1M/day'], { input: 'correct horse\n' })
  const create = ['keys', 'create', '--user', 'ann', '--rpm', '60', '--scope', 'inference', '--scope', 'manage:keys']
  const made = JSON.parse(await good(t, home, [...create, '--json'])) as Made
  const { key, connect } = made

  await t.test('keys create says in one line each what is needed, and each is enough', async (t) => {
    const shown = await good(t, home, ['keys', 'create', '--user', 'ann'])
    const [, text = '', other = ''] = /^(im_\S+)$[\s\S]+^infermesh login (imc_\S+)$/m.exec(shown) ?? []
    const { key: inside, profile } = decodeConnectString(other)
    t.is(inside, text)
    t.is(profile.address, findProfile(home)?.address)
    t.ok(shown.includes(`export INFERMESH_MESH=${made.mesh} INFERMESH_KEY=${text}\n`), shown)
    t.ok(shown.includes(`export OPENAI_BASE_URL=${made.baseURL} OPENAI_API_KEY=${text}\n`))
    t.ok(/`infermesh network lan` lets other machines find it/.test(shown), 'a mesh of one machine says so')

    const nowhere = '/nonexistent/infermesh'
    const run = ['run', 'Hello', '--max-tokens', '3']
    await good(t, nowhere, run, { env: { INFERMESH_MESH: made.mesh, INFERMESH_KEY: key } })
    await good(t, nowhere, run, { env: { INFERMESH_MESH: connect } })
    const host = new URL(made.baseURL).hostname
    t.absent(['0.0.0.0', '[::]', '127.0.0.1', 'localhost'].includes(host), `${host} is an address that others can use`)
    const models = await fetch(`${made.baseURL}/models`, { headers: { authorization: `Bearer ${key}` } })
    t.is(models.status, 200)
    await models.text()
    const client = await MeshClient.connect({ mesh: connect, home: nowhere })
    t.is((await client.whoami()).user, 'ann')
    await client.close()
  })

  await t.test('login keeps it, and every command works without more', async (t) => {
    const hers = await testHome(t)
    const told = await good(t, hers, ['login', '-'], { input: `${connect}\n` })
    t.ok(/^You are ann in the mesh /m.test(told) && !told.includes(key.slice(20)), told)
    const { login, mesh } = homeFiles(hers)
    t.is(statSync(login).mode & 0o777, 0o600)
    t.absent(existsSync(mesh), 'it joins nothing')
    const whoami = JSON.parse(await good(t, hers, ['whoami', '--json'])) as Whoami
    t.is(whoami.keyId, made.id)
    await good(t, hers, ['run', 'Hello', '--max-tokens', '3'])
    t.ok(/infermesh-tiny/.test(await good(t, hers, ['models', 'ls'])))
    await good(t, hers, ['chat'], { input: 'Hello\n/exit\n' })
    const proxy = spawnProgram(t, [process.execPath, CLI, 'proxy', '--port', '0', '--json'], { env: cliEnv(hers) })
    await until(() => proxy.stdout.includes('\n}'), 'the proxy listens')
    const { baseURL } = JSON.parse(proxy.stdout) as { baseURL: string }
    t.is((await fetch(`${baseURL}/models`)).status, 200)

    await bad(t, hers, ['up'], 78, /uses the mesh \S+ as ann, and has no workers of its own/)
    const out = await good(t, hers, ['logout'])
    t.ok(out.includes(`The key im_${made.id}_… is good still`), out)
    t.absent(existsSync(login))
    await bad(t, hers, ['whoami'], 78, /infermesh login/)
    await bad(t, hers, ['logout'], 64, /logged in to no mesh/)
    await good(t, '/nonexistent/infermesh', ['whoami'], { env: { INFERMESH_MESH: connect } })
  })

  await t.test('what is wrong is said, and nothing is kept or overwritten', async (t) => {
    await bad(t, home, ['login', connect], 64, /holds its mesh’s admin key/)
    const hers = await testHome(t)
    await bad(t, hers, ['login', connect.slice(0, -3)], 64, /damaged, or not whole/)
    await bad(t, hers, ['login', key], 64, /API key alone/)
    await bad(t, hers, ['login', `imv_${'y'.repeat(30)}`], 64, /infermesh join/)
    const revoked = JSON.parse(await good(t, home, [...create, '--json'])) as Made
    await good(t, home, ['keys', 'revoke', revoked.id])
    await bad(t, hers, ['login', revoked.connect], 77, /revoked/)
    t.absent(existsSync(homeFiles(hers).login))

    const { profile } = decodeConnectString(connect)
    const elsewhere = { ...profile, address: 'y'.repeat(52) }
    const foreign = encodeConnectString({ key, profile: elsewhere })
    await good(t, hers, ['login', connect])
    await bad(
      t,
      hers,
      ['login', foreign],
      64,
      /is logged in to the mesh \S+ as ann, and this is for y+: `infermesh logout` first/,
    )
    t.is(findLogin(hers)?.profile.address, profile.address)
    const joined = await testHome(t)
    writeFileSync(homeFiles(joined).mesh, JSON.stringify(elsewhere))
    await bad(t, joined, ['login', connect], 64, /belongs to the mesh y+ already/)
    const [, invite = ''] = /(imv_\S+)/.exec(await good(t, home, ['invite', '--same-machine'])) ?? []
    const { login } = homeFiles(hers)
    writeFileSync(login, readFileSync(login, 'utf8').replaceAll(profile.address, 'y'.repeat(52)))
    await bad(t, hers, ['join', invite], 64, /is logged in to the mesh y+, and this is \S+: `infermesh logout`/)
  })

  await t.test('a name and a password make a key of its own, which ends with logout', async (t) => {
    const hers = await testHome(t)
    const mesh = ['--mesh', made.mesh]
    await bad(t, hers, ['login', 'ann', ...mesh], 77, /No user has this name and password/, 'wrong\n')
    t.absent(existsSync(homeFiles(hers).login))
    await bad(t, hers, ['login', 'ann'], 78, /belongs to no mesh yet/, 'correct horse\n')
    await good(t, hers, ['login', 'ann', ...mesh], { input: 'correct horse\n' })
    const whoami = JSON.parse(await good(t, hers, ['whoami', '--json'])) as Whoami
    t.is(whoami.user, 'ann')
    t.alike(whoami.scopes, ['inference', 'read:usage', 'manage:keys'])
    const days = ((whoami.expiresAt ?? 0) - Date.now()) / 86_400_000
    t.ok(days > 89 && days <= 90, `it is good for ${days} days`)
    t.ok(new RegExp(`^${whoami.keyId} +ann +login on `, 'm').test(await good(t, hers, ['keys', 'ls'])))
    t.ok((await good(t, hers, ['logout'])).includes(`The key im_${whoami.keyId}_… is revoked`))
    t.ok(new RegExp(`^${whoami.keyId} +ann +login on \\S+ +revoked`, 'm').test(await good(t, home, ['keys', 'ls'])))
  })

  await t.test('register makes a user where the mesh allows it, over HTTP too', async (t) => {
    const his = await testHome(t)
    const register = ['register', 'bob', '--mesh', made.mesh]
    await bad(t, his, register, 64, /password/, 'short\n')
    t.ok(/^You are bob in the mesh /m.test(await good(t, his, register, { input: 'a long password\n' })))
    await good(t, his, ['run', 'Hello', '--max-tokens', '3'])
    await bad(t, await testHome(t), register, 64, /A user is named bob already/, 'a long password\n')

    const body = JSON.stringify({ name: 'eve', password: 'a long password' })
    const url = made.baseURL.replace(/\/v1$/, '/api/v1')
    const answer = await fetch(`${url}/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    t.is(answer.status, 201)
    const eve = (await answer.json()) as { key: string; connect: string; user: { name: string } }
    t.is(decodeConnectString(eve.connect).key, eve.key)
    const me = await fetch(`${url}/whoami`, { headers: { authorization: `Bearer ${eve.key}` } })
    t.is(me.status, 200, 'the key works at once')
    const { user, uses } = (await me.json()) as Whoami
    t.is(user, 'eve')
    t.alike(uses, [{ of: 'user', name: 'eve', limit: 'requestsPerMinute', most: 5, used: 0, left: 5 }])
  })

  await t.test('whoami shows what is used, what is left, and until when', async (t) => {
    const env = { INFERMESH_MESH: connect }
    const nowhere = '/nonexistent/infermesh'
    await good(t, nowhere, ['run', 'Hello', '--max-tokens', '3'], { env })
    const { uses } = JSON.parse(await good(t, nowhere, ['whoami', '--json'], { env })) as Whoami
    const [rate, budget] = uses
    t.ok(rate?.of === 'key' && rate.name === made.id && rate.most === 60 && rate.used >= 1)
    t.is(rate && rate.used + rate.left, 60)
    t.ok(rate?.resetsAt !== undefined && rate.resetsAt > Date.now() && rate.resetsAt < Date.now() + 61_000)
    t.ok(
      budget?.of === 'user' && budget.limit === 'budget' && budget.used > 0 && budget.used + budget.left === 1_000_000,
    )
    const tomorrow = new Date()
    tomorrow.setUTCHours(24, 0, 0, 0)
    t.is(budget?.resetsAt, tomorrow.getTime())
    const shown = await good(t, nowhere, ['whoami'], { env })
    t.ok(new RegExp(`^key +im_${made.id}_…, until it is revoked$`, 'm').test(shown), shown)
    t.ok(/^LIMIT +OF +MOST +USED +LEFT +FREE AGAIN$/m.test(shown))
    t.ok(new RegExp(`^requests/min +key im_${made.id}_… +60 +\\d+ +\\d+ +in \\d`, 'm').test(shown))
    t.ok(/^tokens\/day +user ann +1000000 +\d+ +\d+ +\d{4}-/m.test(shown))
    t.ok(/^user +admin \(admin\)$/m.test(await good(t, home, ['whoami'])))
    t.absent(shown.includes(key) || shown.includes(adminKey(home)))
  })
})
