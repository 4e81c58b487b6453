import test from 'brittle'
import {
  encodeJson,
  hashSecret,
  newApiKey,
  type RequestOf,
  SCOPES,
  type Scope,
  scopesOf,
} from '../lib/protocol/index.js'
import { accountKeys, mustHaveScope } from '../lib/store/index.js'
import type { Actor } from '../workers/auth/actor.js'
import { readAudit } from '../workers/auth/audit.js'
import type { NewKey } from '../workers/auth/keys.js'
import { Limiter } from '../workers/gateway/requests/limiter.js'
import { ADMIN, ALL, newKeyFor, openDomain } from './auth-kit.js'
import { codeOf } from './helpers/mesh.js'

/** What a key may do, and that it frees neither itself nor what it makes. */

const ANN: Actor = { user: 'ann', scopes: scopesOf('user') }
/** Whoever has the key, and nothing else. */
const holderOf = ({ entry }: NewKey): Actor => ({ user: entry.user, scopes: entry.scopes ?? [], keyId: entry.id })

const MAKER: Scope[] = ['inference', 'manage:keys']

async function withAnn(...args: Parameters<typeof openDomain>) {
  const domain = await openDomain(...args)
  await domain.users.add(ADMIN, { name: 'ann', role: 'user', limits: {} })
  const { keys } = domain
  /** The code with which a change of a key is refused. */
  const changed = (by: Actor, id: string, request: Omit<RequestOf<'keys.update'>, 'id'>) =>
    codeOf(keys.update(by, { id, ...request }))
  return { ...domain, changed }
}

test('a key is good for its scopes and no more, and never for more than its user’s role', async (t) => {
  const { accounts, keys } = await withAnn(t)
  const { text } = await keys.create(ADMIN, newKeyFor({ user: 'ann' }))
  const principal = accounts.authenticate(text)
  t.alike(principal.scopes, ['inference'])
  mustHaveScope(principal, 'inference', 'chat')
  mustHaveScope(principal, 'key', 'usage.self')
  t.exception(() => mustHaveScope(principal, 'manage:keys', 'keys.list'), /wants the scope manage:keys.*has inference/)
  t.exception(() => mustHaveScope(principal, 'admin', 'users.list'), /for admins/)
  t.is(await codeOf(keys.create(ADMIN, newKeyFor({ user: 'ann', scopes: ['admin'] }))), 'FORBIDDEN')
  t.alike(scopesOf('admin', ['admin']), SCOPES, 'admin holds the others')
  t.alike(scopesOf('user', ['admin']), [], 'and is nothing to a user')
})

test('a scope that its user’s role does not allow is stored on no key', async (t) => {
  const { keys, changed } = await withAnn(t)
  const { entry } = await keys.create(ADMIN, newKeyFor({ user: 'ann', scopes: MAKER }))
  for (const by of [ANN, holderOf({ entry, text: '' }), ADMIN]) {
    t.is(await changed(by, entry.id, { scopes: ['inference', 'admin'] }), 'FORBIDDEN')
    t.is(await codeOf(keys.create(by, newKeyFor({ user: 'ann', scopes: ['inference', 'admin'] }))), 'FORBIDDEN')
  }
  t.alike(keys.list(ADMIN, { ...ALL, id: entry.id }).items[0]?.scopes, MAKER)
  t.alike(
    (await keys.update(ANN, { id: entry.id, scopes: ['inference'] })).scopes,
    ['inference'],
    'narrowing still goes',
  )
})

test('a key of an early build keeps the scopes of its user’s role, and its children lie within it', async (t) => {
  const { accounts, clock, keys } = await withAnn(t)
  const { id, secret, text } = newApiKey()
  const limits = { requestsPerMinute: 5 }
  const old = { id, user: 'ann', secretHash: hashSecret(secret), limits, createdAt: clock.now }
  await accounts.bee.put(accountKeys.apiKey(id), encodeJson(old))
  await accounts.refresh()
  const principal = accounts.authenticate(text)
  t.alike(principal.scopes, ['inference', 'read:usage', 'manage:keys'])
  const by: Actor = { user: 'ann', scopes: principal.scopes, keyId: id }
  t.is(await codeOf(keys.create(by, newKeyFor({ limits: { requestsPerMinute: 6 } }))), 'FORBIDDEN')
  t.is((await keys.create(by, newKeyFor())).entry.parent, id)
  t.is(await codeOf(keys.update(by, { id, limits: {} })), 'FORBIDDEN')
  t.alike((await keys.update(by, { id, scopes: ['inference'] })).scopes, ['inference'], 'it can be narrowed')
})

test('nobody but an admin widens a key', async (t) => {
  const { clock, keys, changed } = await withAnn(t)
  const limits = {
    requestsPerMinute: 60,
    tokensPerMinute: 1000,
    concurrentRequests: 2,
    budget: { tokens: 1000, period: 'day' as const },
    models: ['a', 'b'],
  }
  const expiresAt = clock.now + 1000
  const made = await keys.create(ADMIN, newKeyFor({ user: 'ann', scopes: MAKER, limits, expiresAt }))
  const { id } = made.entry
  for (const by of [holderOf(made), ANN]) {
    for (const wider of [
      {},
      { ...limits, requestsPerMinute: 61 },
      { ...limits, tokensPerMinute: undefined },
      { ...limits, concurrentRequests: 3 },
      { ...limits, budget: { tokens: 1001, period: 'day' as const } },
      { ...limits, budget: { tokens: 1000, period: 'total' as const } },
      { ...limits, budget: undefined },
      { ...limits, models: ['a', 'b', 'c'] },
      { ...limits, models: undefined },
    ]) {
      t.is(await changed(by, id, { limits: wider }), 'FORBIDDEN', JSON.stringify(wider))
    }
    t.is(await changed(by, id, { expiresAt: expiresAt + 1 }), 'FORBIDDEN')
    t.is(await changed(by, id, { scopes: ['inference', 'read:usage'] }), 'FORBIDDEN')
    t.is(await changed(by, id, { label: 'mine' }), undefined, 'its name is its owner’s')
  }
  const narrower = { ...limits, requestsPerMinute: 30, models: ['a'], budget: { tokens: 500, period: 'day' as const } }
  t.is(await changed(holderOf(made), id, { limits: narrower, expiresAt: expiresAt - 1 }), undefined)
  t.is(await changed(holderOf(made), id, { limits }), 'FORBIDDEN', 'and not back')
  t.is(await changed(ADMIN, id, { limits: {}, expiresAt: expiresAt + 9000 }), undefined)
})

test('what a key makes lies within it', async (t) => {
  const { clock, keys } = await withAnn(t)
  const limits = { requestsPerMinute: 60, budget: { tokens: 1000, period: 'day' as const }, models: ['a', 'b'] }
  const expiresAt = clock.now + 60_000
  const made = await keys.create(ADMIN, newKeyFor({ user: 'ann', scopes: MAKER, limits, expiresAt }))
  const by = holderOf(made)
  const refused = (request: Parameters<typeof newKeyFor>[0]) => codeOf(keys.create(by, newKeyFor(request)))
  t.is(await refused({ limits: { requestsPerMinute: 61 } }), 'FORBIDDEN')
  t.is(await refused({ limits: { budget: { tokens: 1001, period: 'day' } } }), 'FORBIDDEN')
  t.is(await refused({ limits: { models: ['c'] } }), 'FORBIDDEN')
  t.is(await refused({ expiresAt: expiresAt + 1 }), 'FORBIDDEN')
  t.is(await refused({ scopes: ['read:usage'] }), 'FORBIDDEN')
  t.is(await refused({ user: 'root' }), 'FORBIDDEN')
  const child = await keys.create(by, newKeyFor({ scopes: MAKER, limits: { budget: { tokens: 9, period: 'total' } } }))
  t.is(child.entry.expiresAt, expiresAt, 'it ends with it')
  t.is(child.entry.parent, made.entry.id)
  const grandchild = holderOf(child)
  t.is(
    await codeOf(keys.create(grandchild, newKeyFor({ limits: { requestsPerMinute: 61 } }))),
    'FORBIDDEN',
    'nor does a child',
  )
  t.is((await keys.create(ANN, newKeyFor())).entry.parent, undefined, 'what is made after a login stands alone')
  const byAdmin: Actor = { ...ADMIN, keyId: 'none' }
  t.is(
    (await keys.create(byAdmin, newKeyFor({ user: 'ann' }))).entry.parent,
    undefined,
    'and what an admin makes for another',
  )
})

test('what a key made dies with it', async (t) => {
  const { accounts, clock, keys } = await withAnn(t)
  const top = await keys.create(ADMIN, newKeyFor({ user: 'ann', scopes: MAKER, expiresAt: clock.now + 60_000 }))
  const line = [top]
  for (let i = 0; i < 4; i++) line.push(await keys.create(holderOf(line[i] ?? top), newKeyFor({ scopes: MAKER })))
  const last = line[4] ?? top
  t.is(accounts.authenticate(last.text, clock.now).limits.parents.length, 4)
  t.is(await codeOf(keys.create(holderOf(last), newKeyFor())), 'FORBIDDEN', 'no key stands below more than four')

  await keys.update(ADMIN, { id: top.entry.id, expiresAt: clock.now + 1000, scopes: ['inference'] })
  t.alike(accounts.authenticate(last.text, clock.now).scopes, ['inference'], 'narrowed with the first')
  t.is(accounts.keys.get(last.entry.id)?.expiresAt, clock.now + 1000, 'the list says when')
  t.exception(() => accounts.authenticate(last.text, clock.now + 1000), /was made with the API key .* expired/)

  await keys.revoke(ANN, line[1]?.entry.id ?? '')
  for (const { text } of line.slice(1)) t.exception(() => accounts.authenticate(text, clock.now), /was revoked/)
  t.exception(() => accounts.authenticate(last.text, clock.now), /was made with the API key im_.*, which was revoked/)
  t.is(accounts.authenticate(top.text, clock.now).user, 'ann', 'and nothing above it')
  t.is(
    await codeOf(keys.create(holderOf(last), newKeyFor())),
    'INVALID_API_KEY',
    'a call that was let in before makes none',
  )
})

test('a hundred keys that a key makes share its limits', async (t) => {
  const { accounts, clock, keys } = await withAnn(t)
  const limits = { requestsPerMinute: 3, budget: { tokens: 1000, period: 'day' as const } }
  const top = await keys.create(ADMIN, newKeyFor({ user: 'ann', scopes: MAKER, limits }))
  const made: NewKey[] = []
  for (let i = 0; i < 99; i++) made.push(await keys.create(holderOf(top), newKeyFor()))
  const spent: string[] = []
  const ledger = {
    resetMs: () => undefined,
    spent: (subject: string) => {
      spent.push(subject)
      return 0
    },
  }
  const limiter = new Limiter(ledger, () => clock.now)
  let admitted = 0
  for (const { text } of made) {
    const code = await codeOf(
      (async () => limiter.admit(accounts.authenticate(text, clock.now), 'm', { promptTokens: 1, maxTokens: 1 }))(),
    )
    if (code === undefined) admitted++
  }
  t.is(admitted, 3)
  t.ok(
    spent.every((subject) => subject === `key/${top.entry.id}`),
    'the budget is the one of the key that made them',
  )
})

test('a user has no more keys than it may, and those that work no more are not kept for ever', async (t) => {
  const { accounts, clock, keys } = await withAnn(t)
  for (let i = 0; i < 100; i++) await keys.create(ANN, newKeyFor({ expiresAt: clock.now + 1 + i }))
  t.is(await codeOf(keys.create(ANN, newKeyFor())), 'QUOTA_EXCEEDED')
  clock.now += 1
  t.is(await codeOf(keys.create(ANN, newKeyFor())), undefined, 'one that has expired makes room')

  const [first] = [...accounts.keys.values()].sort((a, b) => a.createdAt - b.createdAt)
  const batch = accounts.bee.batch()
  for (let i = 0; i < 1000; i++) {
    const dead = {
      id: `dead${i}`,
      user: 'ann',
      secretHash: 'x',
      scopes: ['inference'],
      limits: {},
      createdAt: clock.now + i,
      revokedAt: clock.now,
    }
    await batch.put(accountKeys.apiKey(dead.id), encodeJson(dead))
  }
  const home = { id: 'home', user: 'ann', secretHash: 'x', scopes: ['admin'], limits: {}, createdAt: 1, revokedAt: 2 }
  await batch.put(accountKeys.apiKey(home.id), encodeJson(home))
  await batch.flush()
  await accounts.refresh()
  clock.now += 1
  await keys.create(ANN, newKeyFor())
  t.absent(accounts.keys.has(first?.id ?? ''), 'the oldest is forgotten')
  t.ok(accounts.keys.has('home'), 'one that could administer never is: the home’s file may name it')
  t.ok(accounts.keys.size <= 1000 + 100 + 1, `${accounts.keys.size} entries`)
})

test('lists come in pages of a bounded length that miss nothing and repeat nothing', async (t) => {
  const { accounts, clock, keys, users } = await withAnn(t)
  const models = Array.from({ length: 100 }, (_, i) => `${'m'.repeat(190)}${i}`)
  const batch = accounts.bee.batch()
  for (let i = 0; i < 150; i++) {
    const key = { id: `key${i}`, user: 'ann', secretHash: 'x', limits: { models }, createdAt: clock.now + (i >> 1) }
    await batch.put(accountKeys.apiKey(key.id), encodeJson(key))
  }
  await batch.flush()
  await accounts.refresh()
  const seen: string[] = []
  let pages = 0
  let after: string | undefined
  do {
    const page = keys.list(ADMIN, { limit: 1000, ...(after !== undefined && { after }) })
    t.ok(JSON.stringify(page.items).length < 1_100_000, `${page.items.length} keys`)
    t.is(page.has_more, page.next !== undefined)
    for (const { id } of page.items) seen.push(id)
    pages++
    after = page.next
  } while (after !== undefined)
  t.is(seen.length, 150)
  t.is(new Set(seen).size, 150)
  t.ok(pages > 2)
  t.alike(
    keys.list(ADMIN, { limit: 2 }).items.map(({ createdAt }) => createdAt),
    [clock.now + 74, clock.now + 74],
    'newest first',
  )
  t.alike(keys.list(ADMIN, { ...ALL, id: 'key7' }).items.length, 1)
  const first = users.list({ limit: 1 })
  t.alike([first.items.length, first.has_more], [1, false])
})

test('an audit entry takes 4 KiB, and one that is longer hides none of the others', async (t) => {
  const { accounts, clock, keys } = await withAnn(t)
  const models = Array.from({ length: 100 }, (_, i) => `${'m'.repeat(190)}${i}`)
  const lastDetail = async () => (await readAudit(accounts.bee, { limit: 1 })).items[0]?.detail ?? {}
  const limits = { models, requestsPerMinute: 1, budget: { tokens: 5, period: 'day' as const } }
  const shown = { requestsPerMinute: 1, budget: limits.budget, models: [models[0], '… 100 in all'] }
  const { entry } = await keys.create(ADMIN, newKeyFor({ user: 'ann', limits }))
  const made = await lastDetail()
  t.ok(JSON.stringify(made).length <= 4096)
  t.alike(made.cut, ['limits'])
  t.alike(
    { user: made.user, scopes: made.scopes, limits: made.limits },
    { user: 'ann', scopes: ['inference'], limits: shown },
  )

  const scopes = ['inference', 'manage:keys'] as const
  const expiresAt = clock.now + 60_000
  await keys.update(ADMIN, {
    id: entry.id,
    scopes: [...scopes],
    expiresAt,
    limits: { ...limits, requestsPerMinute: 2 },
  })
  const { cut, before, after } = await lastDetail()
  t.alike(cut, ['before', 'after'])
  t.alike(before, { scopes: ['inference'], limits: shown })
  t.alike(after, { scopes, expiresAt, limits: { ...shown, requestsPerMinute: 2 } }, 'what was given is told in full')

  // As a build without this bound wrote it.
  const seq = accounts.nextAudit
  const detail = { user: 'ann', before: { models: Array(19_000).fill('x'.repeat(190)) }, after: {} }
  const value = { seq, at: 1, actor: 'ann', action: 'key.update', target: 'k', detail }
  await accounts.bee.put(accountKeys.audit(seq), encodeJson(value))
  await accounts.refresh()
  await keys.create(ADMIN, newKeyFor({ user: 'ann' }))
  const { items, has_more, next } = await readAudit(accounts.bee, { limit: 2 })
  t.ok(JSON.stringify(items).length < 10_000)
  t.alike(
    items.map(({ action }) => action),
    ['key.create', 'key.update'],
  )
  t.alike(items[1]?.detail?.cut, ['before'])
  t.is(has_more, true)
  t.is(
    (await readAudit(accounts.bee, { limit: 1, after: next ?? '' })).items[0]?.target,
    entry.id,
    'the next page goes on',
  )
})

test('an admin’s key may make one that stands alone, and the last that can administer is given no end', async (t) => {
  const { accounts, clock, keys, users, changed } = await withAnn(t)
  await users.add(ADMIN, { name: 'boss', role: 'admin', limits: {} })
  const first = await keys.create(ADMIN, newKeyFor({ user: 'boss', scopes: [...SCOPES] }))
  const admin: Actor = { user: 'boss', scopes: SCOPES, keyId: first.entry.id }
  const { id } = first.entry
  for (const other of accounts.keys.values()) if (other.id !== id) await keys.revoke(ADMIN, other.id)
  t.is(await changed(admin, id, { expiresAt: clock.now + 1000 }), 'CONFLICT')
  const child = await keys.create(admin, newKeyFor({ scopes: ['admin'] }))
  t.is(child.entry.parent, id)
  t.is(await changed(admin, id, { expiresAt: clock.now + 1000 }), 'CONFLICT', 'a child ends with it')
  const alone = await keys.create(admin, newKeyFor({ scopes: ['admin'], alone: true, expiresAt: clock.now + 500 }))
  t.is(alone.entry.parent, undefined)
  t.is(await changed(admin, id, { expiresAt: clock.now + 1000 }), 'CONFLICT', 'another that ends before it is no help')
  await keys.update(admin, { id: alone.entry.id, expiresAt: clock.now + 2000 })
  t.is((await keys.update(admin, { id, expiresAt: clock.now + 1000 })).expiresAt, clock.now + 1000)

  const user = await keys.create(ADMIN, newKeyFor({ user: 'ann', scopes: MAKER }))
  t.is(await codeOf(keys.create(holderOf(user), newKeyFor({ alone: true }))), 'FORBIDDEN', 'no user’s key may')
})
