import { chmodSync, mkdirSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import test from 'brittle'
import { elsewhere, lasting, security, unseen } from '../cli/checks/security.js'
import type { ApiKeyInfo, MemberInfo } from '../lib/client/index.js'
import { homeFiles } from '../lib/home/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { adminKey, start, startAuth, testHome, testOptions, until, untilJoined } from './helpers/mesh.js'

const DAY_MS = 86_400_000
const NOW = 100 * DAY_MS
const HOME = '/homes/one'

const member = (name: string, more: Partial<MemberInfo>): MemberInfo => ({
  publicKey: name,
  role: 'processor',
  name,
  addedAt: 0,
  ...more,
})
const key = (id: string, more: Partial<ApiKeyInfo> = {}): ApiKeyInfo => ({
  id,
  user: 'ann',
  limits: { requestsPerMinute: 1 },
  scopes: ['inference'],
  createdAt: 0,
  expiresAt: NOW + 1,
  ...more,
})

test('members that were not linked for 30 days are named, also those that never were', (t) => {
  const seen = [member('here', { lastSeenAt: NOW - 29 * DAY_MS }), member('new', { addedAt: NOW - DAY_MS })]
  t.is(unseen(seen, NOW, HOME).state, 'ok')
  const lost = unseen([...seen, member('gone', { lastSeenAt: NOW - 31 * DAY_MS }), member('never', {})], NOW, HOME)
  t.is(lost.state, 'warn')
  t.ok(lost.advice?.endsWith('`infermesh members remove <role/name> --home /homes/one`'))
  t.ok(/processor\/gone.*processor\/never/.test(lost.message))
  t.absent(/here|new/.test(lost.message))
})

test('keys without an end, without limits and without scopes are named while they work', (t) => {
  t.alike(
    lasting([key('good')], NOW, HOME).map(({ state }) => state),
    ['ok'],
  )
  const { scopes: _, ...old } = key('old')
  const { expiresAt: __, ...endless } = key('endless')
  const found = lasting(
    [
      old,
      endless,
      key('free', { limits: {} }),
      key('over', { expiresAt: NOW, limits: {} }),
      { ...endless, id: 'revoked', revokedAt: 1 },
    ],
    NOW,
    HOME,
  )
  t.alike(
    found.map(({ message }) => /im_(\w+)_…/.exec(message)?.[1]),
    ['endless', 'free', 'old'],
  )
  t.ok(found[0]?.advice?.startsWith('`infermesh keys update <id> --expires 90d --home /homes/one`'))
  t.absent(/over|revoked/.test(found.map(({ message }) => message).join(' ')))
})

test('admin keys that came from another machine are named with where', (t) => {
  t.is(elsewhere([key('k')], NOW, HOME).state, 'ok')
  const { state, message } = elsewhere(
    [key('k', { elsewhere: { at: NOW, address: '10.0.0.7', gateway: 'g1' } })],
    NOW,
    HOME,
  )
  t.is(state, 'warn')
  t.ok(message.includes('im_k_… of ann from 10.0.0.7 through g1'))
})

test('a mesh is looked at: folders, listeners, an admin key over HTTP from another address', {
  timeout: 60_000,
}, async (t) => {
  const address = Object.values(networkInterfaces())
    .flat()
    .find((one) => one?.family === 'IPv4' && !one.internal)?.address
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1', { http: { host: '0.0.0.0' } })))
  await untilJoined(gateway)
  const look = () => security(home, { home }, [auth.status(), gateway.status()])
  const before = await look()
  const of = (findings: typeof before, check: string) => findings.filter((finding) => finding.check === check)
  t.alike(
    of(before, 'members').map(({ state }) => state),
    ['ok'],
    'both members are seen',
  )
  t.ok(of(before, 'listeners').some(({ message }) => message.includes('without TLS: whoever is on the way reads keys')))
  const open = { role: 'metrics', name: 'm1', addresses: { metrics: 'http://0.0.0.0:1/metrics' } } as const
  const [metrics] = of(await security(home, { home }, [{ ...auth.status(), ...open }]), 'listeners')
  t.ok(metrics?.message.endsWith('reads the token and the numbers') && metrics.advice?.includes('metrics.tlsCert'))
  t.ok(
    of(before, 'keys').some(({ message }) => message.includes('without an end')),
    'the admin’s first key',
  )
  t.is(of(before, 'admin keys')[0]?.state, 'ok')

  mkdirSync(homeFiles(home).logDir, { recursive: true })
  chmodSync(homeFiles(home).logDir, 0o755)
  chmodSync(home, 0o777)
  t.alike(
    of(await look(), 'folders').map(({ state, message }) => [state, message.split(' ')[0]]),
    [
      ['fail', home],
      ['fail', homeFiles(home).logDir],
    ],
  )
  chmodSync(home, 0o700)
  t.is(of(await look(), 'folders')[0]?.state, 'ok', 'what lies in a private home needs no more')

  if (address === undefined) return t.comment('this machine has no address but loopback')
  const { port } = new URL(gateway.status().addresses.http ?? '')
  const ask = (bearer: string) =>
    fetch(`http://${address}:${port}/v1/models`, { headers: { authorization: `Bearer ${bearer}` } })
  const refused = await ask('im_nobody_nothing')
  t.is(refused.status, 401, await refused.text())
  t.is((await ask(adminKey(home))).status, 200)
  await until(
    async () => of(await look(), 'admin keys')[0]?.message.includes(`from ${address} through g1`) === true,
    'the use is known to the authority',
    10_000,
  )
})
