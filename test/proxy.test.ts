import { request as httpRequest } from 'node:http'
import test from 'brittle'
import OpenAI from 'openai'
import { startProxy } from '../cli/shared/proxy.js'
import { MeshClient } from '../lib/client/index.js'
import { MeshError } from '../lib/protocol/index.js'
import { startDoor } from './helpers/door.js'
import { codeOf, until } from './helpers/wait.js'

const model = 'infermesh-tiny'
const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }]

/** Sends a request with exactly these headers, as `fetch` would not. */
function send(
  url: string,
  headers: Record<string, string>,
  method = 'GET',
  body?: string,
  path = new URL(url).pathname,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(url, { method, headers, path }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

test('the proxy serves the mesh’s door on this machine', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  // No home: a machine that runs no worker knows the mesh's address and a key.
  const mesh = new MeshClient({ mesh: door.gateway.profile, key: door.key, home: await t.tmp() })
  t.teardown(() => mesh.close(), { order: -1 })
  const proxy = await startProxy({ fetch: mesh.fetch, host: '127.0.0.1', port: 0 })
  t.teardown(() => proxy.close(), { order: -2 })
  const openai = new OpenAI({ apiKey: 'none', baseURL: `${proxy.url}/v1` })

  await t.test('chat, stream, models, embeddings, without a key', async (t) => {
    const { choices } = await openai.chat.completions.create({ model, messages, temperature: 0 })
    t.ok(/Paris/.test(choices[0]?.message.content ?? ''))
    let text = ''
    let chunks = 0
    for await (const chunk of await openai.chat.completions.create({ model, messages, temperature: 0, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? ''
      chunks++
    }
    t.ok(/Paris/.test(text) && chunks > 3, `${chunks} chunks`)
    t.is((await openai.models.list()).data[0]?.id, model)
    t.is((await openai.embeddings.create({ model, input: 'a fox' })).data.length, 1)
  })

  await t.test('a key that is sent is the one that counts', async (t) => {
    const limited = await door.newKey({ models: ['another-model'] })
    const models = async (key: string) => {
      const response = await fetch(`${proxy.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })
      return [response.status, ((await response.json()) as { data?: unknown[] }).data?.length]
    }
    t.alike(await models(limited), [200, 0])
    t.alike(await models('im_wrong'), [401, undefined])
  })

  await t.test('a client that leaves ends the work at once', async (t) => {
    const controller = new AbortController()
    const response = await fetch(`${proxy.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, prompt: 'Once upon a time', max_tokens: 1500, stream: true, seed: 3 }),
      signal: controller.signal,
    })
    await response.body?.getReader().read()
    t.is(door.gateway.load().running, 1)
    const abortedAt = performance.now()
    controller.abort()
    await until(() => door.gateway.load().running === 0, 'nothing runs', 1000)
    t.ok(performance.now() - abortedAt < 500, `${(performance.now() - abortedAt).toFixed(1)} ms`)
  })

  await t.test('a web page cannot use the key', async (t) => {
    const url = `${proxy.url}/v1/models`
    const host = new URL(proxy.url).host
    t.is((await send(url, { host })).status, 200)
    t.is((await send(url, { host: `localhost:${new URL(url).port}` })).status, 200)
    t.is((await send(url, { host, origin: 'https://evil.example' })).status, 403)
    t.is((await send(url, { host, origin: 'null' })).status, 403)
    t.is((await send(url, { host: 'rebound.evil.example' })).status, 403)
    t.is((await send(url, { host: '127.0.0.1.evil.example' })).status, 403)
    t.is((await send(url, { host, origin: 'http://localhost:3000' })).status, 200)
    const authorization = `Bearer ${door.key}`
    t.is((await send(url, { host: 'my.name', authorization })).status, 200, 'a key of its own may')
  })

  await t.test('administering wants a credential of its own', async (t) => {
    const paths = ['/api/v1/me', '/api/v1/users', '/v1/../api/v1/me', '/v1/%2e%2e/api/v1/users', '/v1/..\\api/v1/users']
    for (const path of paths) t.is((await send(proxy.url, {}, 'GET', undefined, path)).status, 401, path)
    for (const path of ['//api/v1/me', '//x/api/v1/users', '/v1/..//x/api/v1/users', '/\\x/api/v1/users']) {
      t.is((await send(proxy.url, {}, 'GET', undefined, path)).status, 404, path)
    }
    t.is((await send(proxy.url, {}, 'GET', undefined, 'http://x/api/v1/users')).status, 400, 'a whole URL')
    t.is((await fetch(`${proxy.url}/api/v1/me`, { headers: { authorization: `Bearer ${door.key}` } })).status, 200)
  })

  await t.test('bad input is answered', async (t) => {
    t.is((await fetch(`${proxy.url}/healthz`)).status, 404)
    const over = await send(
      `${proxy.url}/v1/chat/completions`,
      { 'content-type': 'application/json' },
      'POST',
      ' '.repeat(9 * 1024 * 1024),
    ).catch(() => ({ status: 413 }))
    t.is(over.status, 413)
    t.is((await send(`${proxy.url}/v1/models`, { host: new URL(proxy.url).host }, 'TRACE')).status, 400)
    t.is((await fetch(`${proxy.url}/v1/models`, { method: 'HEAD' })).status, 200)
    t.is(
      await codeOf(startProxy({ fetch: mesh.fetch, host: '127.0.0.1', port: Number(new URL(proxy.url).port) })),
      'PORT_IN_USE',
    )
  })

  await t.test('on an address that others reach, each request wants a key', async (t) => {
    const open = await startProxy({ fetch: mesh.fetch, host: '0.0.0.0', port: 0 })
    t.teardown(() => open.close())
    t.is(open.lendsKey, false)
    const url = `${open.url.replace('0.0.0.0', '127.0.0.1')}/v1/models`
    t.is((await fetch(url)).status, 401)
    t.is((await fetch(url, { headers: { authorization: 'Bearer none' } })).status, 401)
    t.is((await fetch(url, { headers: { authorization: `Bearer ${door.key}` } })).status, 200)
  })

  await t.test('what the mesh cannot do is an answer, and a broken stream looks broken', async (t) => {
    const down = await startProxy({
      host: '127.0.0.1',
      port: 0,
      fetch: async () => {
        throw new TypeError('fetch failed', { cause: MeshError.MESH_NOT_FOUND('Nobody announces this mesh') })
      },
    })
    t.teardown(() => down.close())
    const answer = await fetch(`${down.url}/v1/models`)
    t.is(answer.status, 503)
    const { error } = (await answer.json()) as { error: Record<string, unknown> }
    t.alike(error, { message: 'Nobody announces this mesh', type: 'server_error', param: null, code: 'mesh_not_found' })

    const half = await startProxy({
      host: '127.0.0.1',
      port: 0,
      fetch: async () =>
        new Response(
          new ReadableStream({
            pull: (controller) => {
              controller.enqueue(new TextEncoder().encode('data: {}\n\n'))
              controller.error(new TypeError('terminated'))
            },
          }),
        ),
    })
    t.teardown(() => half.close())
    const outcome = await fetch(`${half.url}/v1/models`)
      .then((response) => response.text())
      .then(
        () => 'finished',
        () => 'broken',
      )
    t.is(outcome, 'broken')
  })
})

test('what the proxy answers itself is what the door would answer', async (t) => {
  const failures = [
    MeshError.RATE_LIMITED('Too many requests', { retryAfterMs: 1500 }),
    MeshError.QUOTA_EXCEEDED('The budget is spent'),
    MeshError.BUSY('Every slot is taken'),
  ]
  const proxy = await startProxy({
    host: '127.0.0.1',
    port: 0,
    fetch: async () => {
      throw new TypeError('fetch failed', { cause: failures.shift() })
    },
  })
  t.teardown(() => proxy.close())
  const ask = async () => {
    const { status, headers, ...response } = await fetch(`${proxy.url}/v1/models`).then(async (response) => ({
      status: response.status,
      headers: response.headers,
      ...((await response.json()) as { error: { type: string; code: string } }),
    }))
    const { type, code } = response.error
    return [status, type, code, headers.get('retry-after-ms'), headers.get('x-should-retry')]
  }
  t.alike(await ask(), [429, 'rate_limit_error', 'rate_limit_exceeded', '1500', 'true'])
  t.alike(await ask(), [429, 'insufficient_quota', 'insufficient_quota', null, 'false'])
  t.alike(await ask(), [503, 'server_error', 'busy', '1000', 'true'])
})
