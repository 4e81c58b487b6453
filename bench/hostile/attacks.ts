import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import DHT from 'hyperdht'
import { MeshClient } from '../../lib/client/index.js'
import { readProfile } from '../../lib/home/index.js'
import { decodeKey } from '../../lib/protocol/index.js'
import { Dice } from '../../test/helpers/dice.js'
import { hostileBodies } from '../../test/helpers/hostile-bodies.js'
import { type Hostile, hostileSchema, ONCE_BROKEN } from '../../test/helpers/hostile-schemas.js'

/** What attackers know of the mesh: how it is reached, and what a user was given. */
export interface Target {
  home: string
  urls: string[]
  /** Public keys of the gateways. */
  gateways: string[]
  key: string
  user: string
  password: string
}

/** One attack, once. It ends by itself, and what it is answered does not matter to it. */
export type Attack = (target: Target) => Promise<void>

/** How long an attacker waits for an answer before it leaves. */
const PATIENCE_MS = 3000

const SEED = 20_261_121
let client: MeshClient | undefined
let dht: DHT | undefined
const agent = new Agent({ keepAlive: true, maxSockets: 64 })

const chat = (more: object) => JSON.stringify({ messages: [{ role: 'user', content: 'hi' }], max_tokens: 64, ...more })

/** Sends a body and reads what comes, at most for as long as an attacker has patience. */
async function send(
  { urls, key }: Target,
  path: string,
  body: string,
  {
    method = 'POST',
    bearer = key,
    leaveAfter = PATIENCE_MS,
  }: { method?: string; bearer?: string; leaveAfter?: number } = {},
): Promise<number> {
  const url = urls[Math.floor(Math.random() * urls.length)] ?? ''
  return new Promise((resolve) => {
    const headers = { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' }
    const one = request(`${url}${path}`, { method, agent, headers }, (response) => {
      response.resume().once('close', () => resolve(response.statusCode ?? 0))
    })
    const timer = setTimeout(() => one.destroy(), leaveAfter)
    one.once('close', () => clearTimeout(timer))
    one.once('error', () => resolve(0))
    one.end(body)
  })
}

const dice = new Dice(SEED)
const bodies = [...hostileBodies(15 * 1024), ...hostileBodies(2 * 1024 * 1024)]

/** What a request over HTTP says of a schema. A grammar comes over the mesh alone. */
function wireOf({ constraint }: Hostile): object | undefined {
  if ('tools' in constraint) {
    const tools = constraint.tools.map((tool) => ({ type: 'function', function: tool }))
    return { tools, tool_choice: 'required' }
  }
  const { format } = constraint
  if (format.type === 'grammar') return undefined
  return { response_format: { type: 'json_schema', json_schema: { name: 's', schema: format.schema } } }
}

async function sendSchema(target: Target, hostile: Hostile): Promise<void> {
  const wire = wireOf(hostile)
  if (wire !== undefined) await send(target, '/v1/chat/completions', chat(wire))
  else await overMesh(target, hostile.constraint, PATIENCE_MS)
}

/** One stream over the mesh, which is left after a while. */
async function overMesh({ home, key }: Target, more: object, leaveAfter: number): Promise<void> {
  client ??= new MeshClient({ home, key })
  try {
    const messages = [{ role: 'user' as const, content: 'once upon a time '.repeat(100) }]
    for await (const _ of client.chat(
      { messages, maxTokens: 64, ...more },
      { signal: AbortSignal.timeout(leaveAfter) },
    ));
  } catch {
    // It was refused, or left.
  }
}

/** Connections of strangers that say something else than the mesh's words. */
async function noise({ home, gateways }: Target): Promise<void> {
  dht ??= new DHT({ bootstrap: readProfile(home).network.bootstrap, host: '127.0.0.1' })
  const keyPair = DHT.keyPair()
  const conns = gateways.map((gateway) => dht?.connect(decodeKey(gateway), { keyPair }))
  for (const conn of conns) {
    conn?.on('error', () => {})
    conn?.on('open', () => {
      for (let i = 0; i < 40; i++) conn.write(dice.bytes(1 + dice.below(400)))
    })
  }
  await sleep(500)
  for (const conn of conns) conn?.destroy()
}

async function connections({ urls }: Target, text: string, count: number): Promise<void> {
  const { hostname, port } = new URL(urls[0] ?? '')
  const sockets = Array.from({ length: count }, () => connect(Number(port), hostname).on('error', () => {}))
  for (const socket of sockets) socket.write(text)
  await sleep(PATIENCE_MS)
  for (const socket of sockets) socket.destroy()
}

/** Each attack by its name. */
export const attacks: Record<string, Attack> = {
  'a body that costs': async (target) => {
    const { path, body } = dice.one(bodies)
    await send(target, path, body)
  },
  'a schema that once broke something': (target) => sendSchema(target, dice.one(ONCE_BROKEN)),
  'a schema made up': (target) => sendSchema(target, hostileSchema(dice)),
  'streams over the mesh, left at once': async (target) => {
    await Promise.all(Array.from({ length: 4 }, () => overMesh(target, {}, 20)))
  },
  'noise from strangers': noise,
  'a body without a key': async (target) => {
    await send(target, '/v1/chat/completions', 'x'.repeat(1_500_000), { bearer: 'im_nobody_nothing' })
  },
  'headers byte by byte': (target) => connections(target, 'POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-', 50),
  'a body that never ends': (target) =>
    connections(
      target,
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${target.key}\r\ncontent-length: 1000000\r\n\r\n{`,
      50,
    ),
  'wrong keys': async (target) => {
    const wrong = Array.from({ length: 50 }, (_, i) => `im_ybndrfg8ejkm${i % 10}_${'y'.repeat(52)}`)
    await Promise.all(wrong.map((bearer) => send(target, '/v1/models', '', { method: 'GET', bearer })))
  },
  'streams left at once': async (target) => {
    const body = chat({ stream: true, messages: [{ role: 'user', content: 'once upon a time '.repeat(300) }] })
    await Promise.all(Array.from({ length: 10 }, () => send(target, '/v1/chat/completions', body, { leaveAfter: 20 })))
  },
  'keys without end': async (target) => {
    const body = JSON.stringify({ label: 'x'.repeat(100) })
    await Promise.all(Array.from({ length: 50 }, () => send(target, '/api/v1/keys', body)))
  },
  'a key with many models': async (target) => {
    const models = Array.from({ length: 19_000 }, (_, i) => `model-${i}`)
    await send(target, '/api/v1/keys', JSON.stringify({ limits: { models } }))
  },
  passwords: async (target) => {
    const body = JSON.stringify({ password: 'a new long password', oldPassword: 'not it' })
    await Promise.all(Array.from({ length: 20 }, () => send(target, '/api/v1/me/password', body)))
  },
  logins: async (target) => {
    const body = (password: string) => JSON.stringify({ name: target.user, password })
    const wrong = Array.from({ length: 20 }, (_, i) => send(target, '/api/v1/login', body(`wrong ${i}`)))
    await Promise.all(wrong)
  },
  'usage by everything': async (target) => {
    const query = Array.from({ length: 300 }, () => 'hour,user,key,model').join(',')
    await send(target, `/api/v1/usage?by=${query}`, '', { method: 'GET' })
  },
}
