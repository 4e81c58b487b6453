import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import test from 'brittle'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { adminKey, start, startAuth, startStranger, testHome, testOptions, until } from './helpers/mesh.js'

/** What test/fixtures/README.md says of the home. */
const MODEL = 'infermesh-tiny'
const USER = 'ann.b@x'
const PASSWORD = 'correct horse battery'
const KEY = 'im_rzm7ej81zzgee_yhj7wewsksu66y7cs94kjmbb1cb55mraacrs3iimq7fbwzmoc7py'
const REVOKED = 'im_xewzk8z6f7kzg_a8yjkb9teoqeyzfbwbqbdjt43d74ib4b4j7bouae4o8rmuwqzisy'

function unpack(fixture: string, home: string): void {
  const packed = gunzipSync(readFileSync(join(PACKAGE_ROOT, 'test', 'fixtures', fixture)))
  const files: Record<string, { mode: number; data: string }> = JSON.parse(packed.toString())
  for (const [name, { mode, data }] of Object.entries(files)) {
    const path = join(home, name)
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    writeFileSync(path, Buffer.from(data, 'base64'), { mode })
  }
}

test('a home that an earlier build made is opened, and serves its users as before', { timeout: 60_000 }, async (t) => {
  const home = await testHome(t)
  unpack('home-protocol-1.json.gz', home)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'gateway')))
  const processor = await start(t, new ProcessorWorker(testOptions(home, 'processor', { engine: { gpu: 'off' } })))
  const url = gateway.status().addresses.http
  await until(async () => (await fetch(`${url}/readyz`)).status === 200, 'the gateway is ready', 20_000)
  for (const worker of [auth, gateway, processor]) t.is(worker.load().unreadable, undefined, 'every entry is read')

  const ask = async (key: string) => {
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL, prompt: 'Once', max_tokens: 4, temperature: 0 }),
    })
    return { status: response.status, text: await response.text() }
  }
  t.is((await ask(KEY)).status, 200, 'a key works')
  t.ok(/was revoked/.test((await ask(REVOKED)).text), 'a revoked one does not')
  const authority = await startStranger(t, home, auth.publicKey)
  const admin = { key: adminKey(home) }
  const { token } = await authority.call('login', { name: USER, password: PASSWORD })
  t.is((await ask(token)).status, 200, 'a password works')
  const { users } = await authority.call('users.list', {}, admin)
  t.alike(
    users.map(({ name, limits }) => [name, limits]),
    [
      ['admin', {}],
      [USER, { requestsPerMinute: 1000, budget: { tokens: 100_000, period: 'total' }, models: [MODEL] }],
    ],
  )
  const { members } = await authority.call('members.list', {}, admin)
  t.alike(
    members.map(({ publicKey }) => publicKey).sort(),
    [auth, gateway, processor].map(({ publicKey }) => publicKey).sort(),
    'its members are those of before',
  )

  const client = await startStranger(t, home, gateway.publicKey)
  t.is((await client.call('usage.self', {}, { key: KEY })).total.requests, 5, 'a budget goes on where it was')
  const counted = async () => {
    const { rows } = await authority.call('usage.query', { by: ['key'] }, admin)
    return Object.fromEntries(rows.map(({ keyId, requests }) => [keyId, requests]))
  }
  await until(async () => (await counted())[`login:${USER}`] === 1, 'the authority counts a token’s request')
  t.alike(await counted(), { rzm7ej81zzgee: 5, [`login:${USER}`]: 1 }, 'also what was written while it was down')
})
