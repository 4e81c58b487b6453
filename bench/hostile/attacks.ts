import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** What attackers over HTTP know of the mesh: its gateways' addresses, and what a user was given. */
export interface Target {
  urls: string[]
  key: string
  user: string
  password: string
}

/** One attack, once. It ends by itself, and what it is answered does not matter to it. */
export type Attack = (target: Target) => Promise<void>

/** How long an attacker waits for an answer before it leaves. */
const PATIENCE_MS = 3000

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

/** The key of an object, many times; a bracket, many times; and other bodies that cost more than they look. */
const bodies: Record<string, () => string> = {
  'nested arrays': () => '['.repeat(2_000_000),
  'nested arrays in a message': () =>
    chat({ metadata: 0 }).replace('0', `${'['.repeat(100_000)}${']'.repeat(100_000)}`),
  'nested objects': () => '{"a":'.repeat(300_000),
  'repeated keys': () => `{${'"model":"x",'.repeat(150_000)}"model":"x"}`,
  'many messages': () => chat({ messages: Array(40_000).fill({ role: 'user', content: '' }) }),
  'many tools': () =>
    chat({ tools: Array.from({ length: 5000 }, (_, i) => ({ type: 'function', function: { name: `f${i}` } })) }),
  'a wide logit_bias': () =>
    chat({ logit_bias: Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [i, 1])) }),
  'many stops': () => chat({ stop: Array(100_000).fill('x') }),
  'a long prompt': () => JSON.stringify({ prompt: 'a '.repeat(900_000), max_tokens: 1 }),
  numbers: () => JSON.stringify({ input: Array.from({ length: 300_000 }, (_, i) => i) }),
  'strings to embed': () => JSON.stringify({ input: Array(2048).fill('once upon a time') }),
  'wrong types': () => chat({ messages: Array(20_000).fill({ role: 7 }) }),
}

/** Schemas that once held an engine. */
const schemas: Record<string, () => unknown> = {
  'references that multiply': () => ({
    $defs: Object.fromEntries(
      Array.from({ length: 25 }, (_, i) => [
        `d${i}`,
        i === 24 ? { type: 'string' } : { allOf: Array(6).fill({ $ref: `#/$defs/d${i + 1}` }) },
      ]),
    ),
    $ref: '#/$defs/d0',
  }),
  'optional groups': () => ({ type: 'string', pattern: `^${'([a-z]?)'.repeat(3000)}$` }),
  'a counted optional group': () => ({ type: 'string', pattern: '^([a-z]?){3000}$' }),
  'a range beyond the first plane': () => ({ type: 'string', pattern: '^[\\u{10000}-\\u{10ffff}]{0,2000}$' }),
  'many values': () => ({ enum: Array.from({ length: 9000 }, (_, i) => `value ${i}`) }),
  'many properties': () => ({
    type: 'object',
    properties: Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`p${i}`, { type: 'string' }])),
  }),
  itself: () => ({ $ref: '#' }),
  'choices of choices': () => {
    let schema: unknown = { type: 'integer' }
    for (let i = 0; i < 12; i++) schema = { anyOf: [schema, { type: 'array', items: schema }, { type: 'null' }] }
    return schema
  },
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
  ...Object.fromEntries(
    Object.entries(bodies).map(([name, body]): [string, Attack] => [
      `body: ${name}`,
      async (target) => {
        await send(
          target,
          name.includes('embed') || name === 'numbers' ? '/v1/embeddings' : '/v1/chat/completions',
          body(),
        )
      },
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(schemas).map(([name, schema]): [string, Attack] => [
      `schema: ${name}`,
      async (target) => {
        const format = { type: 'json_schema', json_schema: { name: 's', schema: schema() } }
        await send(target, '/v1/chat/completions', chat({ response_format: format }))
      },
    ]),
  ),
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
    const body = JSON.stringify({ password: 'a new long password', current: 'not it' })
    const path = `/api/v1/users/${encodeURIComponent(target.user)}/password`
    await Promise.all(Array.from({ length: 20 }, () => send(target, path, body, { method: 'PUT' })))
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
