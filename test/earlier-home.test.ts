import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import test, { type Test } from 'brittle'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { adminKey, start, startAuth, startStranger, testHome, testOptions, until } from './helpers/mesh.js'

/** What test/fixtures/README.md says of the homes. */
const MODEL = 'infermesh-tiny'
const USER = 'ann.b@x'
const PASSWORD = 'correct horse battery'

interface EarlierHome {
  protocol: number
  gateways: string[]
  key: string
  revoked: string
  /** Requests of the key that the first gateway has recorded. */
  ofFirstGateway: number
  /** Requests in all journals, by key, whether or not the authority has counted them. */
  recorded: Record<string, number>
}

const HOMES: EarlierHome[] = [
  {
    protocol: 1,
    gateways: ['gateway'],
    key: 'im_rzm7ej81zzgee_yhj7wewsksu66y7cs94kjmbb1cb55mraacrs3iimq7fbwzmoc7py',
    revoked: 'im_xewzk8z6f7kzg_a8yjkb9teoqeyzfbwbqbdjt43d74ib4b4j7bouae4o8rmuwqzisy',
    ofFirstGateway: 4,
    // The authority of that build counted two requests by token for malformed.
    recorded: { rzm7ej81zzgee: 4 },
  },
  {
    protocol: 2,
    gateways: ['gateway', 'g2'],
    key: 'im_zsmmao3ab15ca_7qxkbmj4ignqhp8748sr7ihdw4k3f5jeif9for5bxpq87hsriwjy',
    revoked: 'im_b6chzbt5i8na1_gjm3kn3eh9oskpj3ao767sc35ats6adkkq68grgp445xw55s9npo',
    ofFirstGateway: 3,
    recorded: { zsmmao3ab15ca: 5, rmmij4okosfqy: 1, [`login:${USER}`]: 2 },
  },
  {
    protocol: 3,
    gateways: ['gateway', 'g2'],
    key: 'im_wmq3on8d74c5y_ja7u3w7b199ja856unjkxeo5zaj8b5aoymz8kiomuabwby9pecsy',
    revoked: 'im_zpruif7trfgks_7w1wr7myzfrkmqm7xknhtn9npws5qasotkaxcoe97xxej3ma9e9o',
    ofFirstGateway: 3,
    recorded: { wmq3on8d74c5y: 5, '3dg7qkho1ooqo': 1, [`login:${USER}`]: 2 },
  },
  {
    protocol: 4,
    gateways: ['gateway', 'g2'],
    key: 'im_xy4ydddhwpj6y_cpuu4t6rmqdmjciw8ybw5uai8o76mmi66a5h9mt3my1w9b4sjqzy',
    revoked: 'im_bo7m7znu4e9ih_fma1w8si9gimg1wc84xwuqspfr9ubz8x6gysm9k53it31of41ksy',
    ofFirstGateway: 3,
    recorded: { xy4ydddhwpj6y: 5, '8j84fxyxbrw9n': 1, [`login:${USER}`]: 2 },
  },
]

function unpack(fixture: string, home: string): void {
  const packed = gunzipSync(readFileSync(join(PACKAGE_ROOT, 'test', 'fixtures', fixture)))
  const files: Record<string, { mode: number; data: string }> = JSON.parse(packed.toString())
  for (const [name, { mode, data }] of Object.entries(files)) {
    const path = join(home, name)
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    writeFileSync(path, Buffer.from(data, 'base64'), { mode })
  }
}

for (const earlier of HOMES) {
  const title = `a home of protocol ${earlier.protocol} is opened, and serves its users as before`
  test(title, { timeout: 60_000 }, (t) => serves(t, earlier))
}

async function serves(t: Test, { protocol, gateways, key, revoked, ofFirstGateway, recorded }: EarlierHome) {
  const home = await testHome(t)
  unpack(`home-protocol-${protocol}.json.gz`, home)
  const auth = await startAuth(t, home)
  const started = []
  for (const name of gateways) started.push(await start(t, new GatewayWorker(testOptions(home, name))))
  const [gateway] = started
  if (gateway === undefined) throw new Error('every home has a gateway')
  const processor = await start(t, new ProcessorWorker(testOptions(home, 'processor', { engine: { gpu: 'off' } })))
  const url = gateway.status().addresses.http
  await until(async () => (await fetch(`${url}/readyz`)).status === 200, 'the gateway is ready', 20_000)
  for (const worker of [auth, ...started, processor]) t.is(worker.load().unreadable, undefined, 'every entry is read')

  const ask = async (bearer: string) => {
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL, prompt: 'Once', max_tokens: 4, temperature: 0 }),
    })
    return { status: response.status, text: await response.text() }
  }
  t.is((await ask(key)).status, 200, 'a key works')
  t.ok(/was revoked/.test((await ask(revoked)).text), 'a revoked one does not')
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
    [auth, ...started, processor].map(({ publicKey }) => publicKey).sort(),
    'its members are those of before',
  )

  const client = await startStranger(t, home, gateway.publicKey)
  const { total } = await client.call('usage.self', {}, { key })
  t.is(total.requests, ofFirstGateway + 1, 'a budget goes on where it was')
  const counted = async () => {
    const { rows } = await authority.call('usage.query', { by: ['key'] }, admin)
    return Object.fromEntries(rows.map(({ keyId, requests }) => [keyId, requests]))
  }
  const ofToken = recorded[`login:${USER}`] ?? 0
  await until(async () => (await counted())[`login:${USER}`] === ofToken + 1, 'the authority counts a token’s request')
  const keyId = key.split('_')[1] ?? ''
  const expected = { ...recorded, [keyId]: (recorded[keyId] ?? 0) + 1, [`login:${USER}`]: ofToken + 1 }
  t.alike(await counted(), expected, 'also what was written while it was down')
}
