import { join } from 'node:path'
import test from 'brittle'
import { loginKeyId, scopesOf, TOKEN_MS } from '../lib/protocol/index.js'
import { NAME_RESTS_MS } from '../lib/store/index.js'
import { authorityAccountKeys } from '../workers/auth/accounts.js'
import type { Actor } from '../workers/auth/actor.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { type OtherGateway, Stored } from '../workers/gateway/stored/everywhere.js'
import { LocalStored } from '../workers/gateway/stored/local.js'
import { serveStored } from '../workers/gateway/stored/methods.js'
import { ADMIN, ALL, newKeyFor, openDomain } from './auth-kit.js'
import { startDoor } from './helpers/door.js'
import { codeOf, linked, start, testOptions, until } from './helpers/mesh.js'

/** A user who has the name of one who was removed: nothing of the former one is seen, changed or used. */

const ANN: Actor = { user: 'ann', scopes: scopesOf('user') }
const ann = { name: 'ann', role: 'user', limits: {} } as const
const password = 'correct horse battery'
const OWNER = { keyId: loginKeyId('ann'), user: 'ann' }

test('the name of a removed user is free again once nothing of that one can be taken for the next one’s', async (t) => {
  const { clock, accounts, users } = await openDomain(t)
  await users.add(ADMIN, ann)
  clock.now += 1000
  await users.remove(ADMIN, 'ann')
  const freeAt = clock.now + NAME_RESTS_MS
  t.is(NAME_RESTS_MS, 25 * 60_000)
  await t.exception(
    users.add(ADMIN, ann),
    new RegExp(`free again at ${new Date(freeAt).toISOString()}; .* another one`),
  )
  t.is(await codeOf(users.selfRegister('ann', 'hash', {})), 'CONFLICT', 'nor is it given to who registers')
  t.is((await users.add(ADMIN, { ...ann, name: 'anne' })).name, 'anne', 'another name may be used at once')
  clock.now = freeAt - 1
  t.is(await codeOf(users.add(ADMIN, ann)), 'CONFLICT')
  clock.now = freeAt
  const { createdAt } = await users.add(ADMIN, ann)
  const lastOfBefore = freeAt - NAME_RESTS_MS + TOKEN_MS
  t.ok(accounts.ownedFrom(OWNER.keyId, 'ann') > lastOfBefore, 'not even what a token made that was never taken back')
  t.ok(accounts.ownedFrom(OWNER.keyId, 'ann') < createdAt, 'what is made at a gateway whose clock is slow is kept')
})

test('that a name rests survives a restart and the move of the accounts, and is forgotten after that', async (t) => {
  const dir = await t.tmp()
  const before = await openDomain(t, dir)
  await before.users.add(ADMIN, ann)
  await before.users.add(ADMIN, { ...ann, name: 'bob' })
  await before.users.remove(ADMIN, 'ann')
  await before.writer.change((draft) =>
    draft.account(authorityAccountKeys.renewal('00'.repeat(32)), { at: before.clock.now }),
  )
  t.not(before.writer.accounts.core.key, before.accounts.core.key, 'the accounts have moved')
  t.is(await codeOf(before.users.add(ADMIN, ann)), 'CONFLICT')
  await before.writer.accounts.close()
  await before.store.stop()

  const { clock, users, accounts } = await openDomain(t, dir)
  t.is(await codeOf(users.add(ADMIN, ann)), 'CONFLICT')
  clock.now += NAME_RESTS_MS
  await users.remove(ADMIN, 'bob')
  t.alike([...accounts.left.keys()], ['bob'], 'ann’s rests no more')
  await users.add(ADMIN, ann)
})

test('keys of a former user are an admin’s to see, and nobody else’s', async (t) => {
  const { clock, keys, users } = await openDomain(t)
  await users.add(ADMIN, ann)
  const { entry: former } = await keys.create(ADMIN, newKeyFor({ user: 'ann', label: 'private' }))
  await users.remove(ADMIN, 'ann')
  clock.now += NAME_RESTS_MS
  await users.add(ADMIN, ann)
  const { entry: own } = await keys.create(ANN, newKeyFor({ label: 'mine' }))
  const idsOf = (by: Actor) => keys.list(by, { ...ALL, user: 'ann' }).items.map(({ id }) => id)
  t.alike(idsOf(ANN), [own.id])
  t.alike(keys.list(ANN, { ...ALL, id: former.id }).items, [])
  t.alike(idsOf(ADMIN), [own.id, former.id])
  t.absent(keys.has(ANN, former.id))
  t.ok(keys.has(ADMIN, former.id))
  t.is(await codeOf(keys.revoke(ANN, former.id)), 'NOT_FOUND')
  t.is(await codeOf(keys.update(ANN, { id: former.id, label: 'x' })), 'NOT_FOUND')

  clock.now -= NAME_RESTS_MS * 2
  const { entry: early } = await keys.create(ANN, newKeyFor())
  t.ok(keys.has(ANN, early.id), 'a clock that was put back takes no key from its user')
})

test('a gateway that knows only the former user is not believed', async (t) => {
  const addedAt = Date.now()
  const open = async (keptFrom: number) => {
    const local = new LocalStored({
      dir: join(await t.tmp(), 'stored'),
      days: 30,
      bytes: 64 * 1024 * 1024,
      hasRoom: () => true,
      keptFrom: () => keptFrom,
      interrupted: (object) => object,
      log: { warn() {} },
      failed() {},
      now: Date.now,
    })
    local.open()
    t.teardown(() => local.close())
    return local
  }
  const [here, behind] = [await open(addedAt), await open(0)]
  const handlers = new Map<string, (body: never) => unknown>()
  const respond = (name: string, handler: (body: never) => unknown) => void handlers.set(name, handler)
  serveStored({ dispatcher: { respond } } as never, behind)
  const call = async (name: string, body: unknown) => handlers.get(name)?.(body as never)
  const stored = new Stored(here, () => ({ linked: [{ name: 'g2', call } as OtherGateway], missing: [] }))
  const draft = (id: string, createdAt: number) => ({
    ...{ id, createdAt, kind: 'chat' as const, model: 'm', tags: [] },
    parts: { object: ['{}'] },
  })
  t.ok(await behind.put(OWNER, draft('chatcmpl-old', addedAt - 1)))
  const list = () => stored.list(OWNER, { kind: 'chat', order: 'desc', limit: 1 })
  t.alike(await list(), { items: [], hasMore: false })
  t.is(await stored.read(OWNER, 'chatcmpl-old', 'object'), undefined)
  t.is(await stored.place(OWNER, 'chatcmpl-old', 'desc'), undefined)
  t.ok(await here.put(OWNER, draft('chatcmpl-new', addedAt)))
  t.is((await list()).items[0]?.id, 'chatcmpl-new')
})

test('a new user sees nothing of a former one of the same name, at gateways that were away meanwhile too', {
  timeout: 120_000,
}, async (t) => {
  const now = Date.now
  const ahead = { ms: 0 }
  t.teardown(() => (Date.now = now), { order: -10 })
  Date.now = () => now() + ahead.ms
  const door = await startDoor(t)
  const gatewayNamed = async (name: string) => {
    const gateway = await start(t, new GatewayWorker(testOptions(door.home, name, { http: { port: 0 } })))
    const url = gateway.status().addresses.http ?? ''
    await until(async () => (await fetch(`${url}/readyz`)).ok, `${name} is ready`, 20_000)
    return { gateway, url }
  }
  const second = await gatewayNamed('g2')
  const third = await gatewayNamed('g3')
  const asker = (credential: string) => {
    return async (url: string, method: string, path: string, body?: unknown) => {
      const response = await fetch(url + path, {
        method,
        headers: { authorization: `Bearer ${credential}`, 'content-type': 'application/json' },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      return { status: response.status, text, body: text === '' ? {} : JSON.parse(text) }
    }
  }
  const admin = asker(door.key)
  const login = async () => {
    const { body } = await admin(second.url, 'POST', '/api/v1/login', { name: 'ann', password })
    return asker(String(body.token))
  }
  const chats = '/v1/chat/completions'

  t.is((await admin(second.url, 'POST', '/api/v1/users', { name: 'ann', password })).status, 201)
  const former = await login()
  const { body: key } = await former(second.url, 'POST', '/api/v1/keys', { label: 'private' })
  for (const { url } of [second, third]) {
    const messages = [{ role: 'user', content: 'my secret' }]
    const made = await former(url, 'POST', chats, { messages, store: true, max_tokens: 2 })
    t.is(made.status, 200, made.text)
  }
  t.is((await former(second.url, 'GET', chats)).body.data.length, 2)
  const used = await asker(key.key)(second.url, 'POST', chats, { messages: [{ role: 'user', content: 'hi' }] })
  t.is(used.status, 200, used.text)
  const usage = '/api/v1/usage?by=key'
  await until(async () => (await former(second.url, 'GET', usage)).text.includes(key.id), 'it was counted')
  await third.gateway.stop()
  t.is((await admin(second.url, 'DELETE', '/api/v1/users/ann')).status, 204)

  const refused = await admin(second.url, 'POST', '/api/v1/users', { name: 'ann', password })
  t.is(refused.status, 409)
  t.alike([refused.body.error.code, refused.body.error.param], ['conflict', 'name'])
  t.ok(/removed a short time ago.*free again at \d{4}-.*choose another one/.test(refused.body.error.message))

  ahead.ms = NAME_RESTS_MS
  t.is((await admin(second.url, 'POST', '/api/v1/users', { name: 'ann', password })).status, 201)
  const back = await gatewayNamed('g3')
  await Promise.all([linked(second.gateway, back.gateway), linked(back.gateway, second.gateway)])
  await Promise.all([linked(door.gateway, back.gateway), linked(back.gateway, door.gateway)])
  const next = await login()
  for (const { url } of [second, back]) {
    await until(async () => (await next(url, 'GET', '/api/v1/me')).status === 200, 'the new user is known')
    t.alike((await next(url, 'GET', chats)).body.data, [])
    t.alike((await next(url, 'GET', '/api/v1/keys')).body.keys, [])
    await until(async () => (await next(url, 'GET', '/api/v1/me')).body.total.requests === 0, 'no usage is its own')
  }
  t.absent((await next(second.url, 'GET', usage)).text.includes(key.id))
  t.is((await next(second.url, 'GET', `/api/v1/usage?keyId=${key.id}`)).status, 404)
  t.ok((await admin(second.url, 'GET', usage)).text.includes(key.id))
})
