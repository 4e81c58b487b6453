import test from 'brittle'
import { MeshClient } from '../lib/client/index.js'
import { isOpenAiPath } from '../lib/protocol/index.js'
import { type Door, startDoor } from './helpers/door.js'
import { schemaFault } from './helpers/openai-schemas.js'

/** The paths of the OpenAI door, with and without `/v1`. */

interface Operation {
  method: string
  path: string
}

/** Every operation under `/v1/` that the gateway describes and that wants a key. */
async function operations(door: Door): Promise<Operation[]> {
  const { paths } = (await (await fetch(`${door.url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, { security?: unknown[] }>>
  }
  return Object.entries(paths)
    .filter(([path]) => path.startsWith('/v1/'))
    .flatMap(([path, item]) =>
      Object.entries(item)
        .filter(([method, { security }]) => method !== 'parameters' && security === undefined)
        .map(([method]) => ({ method: method.toUpperCase(), path: path.replace(/\{\w+\}/g, 'none') })),
    )
}

const bare = (path: string): string => path.replace(/^\/v1/, '')

/** An answer without what differs each time. */
async function told(response: Response): Promise<string> {
  const headers = [...response.headers.keys()].filter((name) => name !== 'connection').sort()
  const text = (await response.text()).replace(/\/v1\//g, '/').replace(/"(id|created)":("[^"]*"|\d+)/g, '"$1":0')
  return `${response.status} ${headers} ${text}`
}

test('each path without /v1 is the same one, for whoever asks', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const all = await operations(door)
  t.ok(all.length >= 9, `${all.length} operations`)
  const slow = await door.newKey({ requestsPerMinute: 1 })
  const stranger = `${door.key.slice(0, -1)}${door.key.endsWith('y') ? 'b' : 'y'}`
  for (const { method, path } of all) {
    const asked: [who: string, init: RequestInit][] = [
      ['nobody', { method }],
      ['a stranger', { method, headers: { 'x-api-key': stranger } }],
      ['the admin', { method, headers: { authorization: `Bearer ${door.key}` } }],
      ['a limited key', { method, headers: { 'x-api-key': slow } }],
      ['a wrong method', { method: method === 'PUT' ? 'PATCH' : 'PUT', headers: { 'x-api-key': door.key } }],
      ...(method === 'POST'
        ? ([
            ['no JSON', { method, body: '{', headers: { 'x-api-key': door.key, 'content-type': 'application/json' } }],
            ['a text', { method, body: 'x', headers: { 'x-api-key': door.key, 'content-type': 'text/plain' } }],
            ['nobody with a body', { method, body: '{', headers: { 'content-type': 'application/json' } }],
          ] as [string, RequestInit][])
        : []),
    ]
    for (const [who, init] of asked) {
      const [whole, short] = await Promise.all([
        fetch(door.url + path, init).then(told),
        fetch(door.url + bare(path), init).then(told),
      ])
      t.is(short, whole, `${method} ${bare(path)} for ${who}`)
      if (who === 'nobody') t.ok(whole.startsWith('401'), 'no key, no answer')
    }
  }

  await t.test('bodies have the same bounds', async (t) => {
    const long = (path: string, bytes: number) =>
      fetch(door.url + path, {
        method: 'POST',
        body: new Uint8Array(bytes),
        headers: { 'x-api-key': door.key, 'content-type': 'application/json' },
      })
    for (const path of ['/v1/chat/completions', '/chat/completions']) {
      t.is((await long(path, 2 * 1024 * 1024 + 1)).status, 413, path)
    }
    for (const path of ['/v1/embeddings', '/embeddings']) {
      t.is((await long(path, 2 * 1024 * 1024 + 1)).status, 400, `${path} takes more`)
      t.is((await long(path, 8 * 1024 * 1024 + 1)).status, 413, path)
    }
  })

  await t.test('they answer', async (t) => {
    const messages = [{ role: 'user', content: 'What is the capital of France?' }]
    const chat = await door.ask('/chat/completions', { messages, temperature: 0, max_tokens: 20 })
    t.ok(/Paris/.test(await chat.text()))
    t.is((await door.ask('/models/infermesh-tiny')).status, 200)
    const { id } = (await (await door.ask('/responses', { input: 'Hi', max_output_tokens: 2 })).json()) as {
      id: string
    }
    t.is((await door.ask(`/responses/${id}/input_items`)).status, 200)
  })

  await t.test('the mesh carries each of them', async (t) => {
    const mesh = new MeshClient({ mesh: door.gateway.profile, key: door.key, home: await t.tmp() })
    t.teardown(() => mesh.close(), { order: -1 })
    for (const { method, path } of all) {
      for (const one of [path, bare(path)]) {
        t.ok(isOpenAiPath(one), one)
        const overHttp = await fetch(door.url + one, { method, headers: { 'x-api-key': door.key } })
        t.is((await mesh.fetch(`http://mesh${one}`, { method })).status, overHttp.status, `${method} ${one}`)
      }
    }
    for (const path of ['/healthz', '/readyz', '/docs', '/modelsx', '/api/v2/me', '/'])
      t.absent(isOpenAiPath(path), path)
    t.is((await mesh.fetch('http://mesh/health')).status, 200)
  })
})

test('no path checks a key by accounts that may be old', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const all = [...(await operations(door)), { method: 'GET', path: '/api/v1/me' }]
  await door.auth.stop()
  // All of this process pauses, as a machine does that sleeps: the gateway cannot know what it missed.
  const paused = new Int32Array(new SharedArrayBuffer(4))
  Atomics.wait(paused, 0, 0, 1700)
  const began = performance.now()
  const waits = async (path: string, init: RequestInit): Promise<number> => {
    await (await fetch(door.url + path, init)).text()
    return performance.now() - began
  }
  const asked = all.flatMap(({ method, path }) =>
    [path, bare(path)].map((one) => ({
      one,
      method,
      waited: waits(one, { method, headers: { 'x-api-key': door.key } }),
    })),
  )
  const open = ['/health', '/v1/health', '/healthz', '/openapi.json'].map((path) => waits(path, {}))
  for (const waited of await Promise.all(open)) t.ok(waited < 2000, `open: ${Math.round(waited)} ms`)
  for (const { one, method, waited } of asked)
    t.ok((await waited) > 2000, `${method} ${one}: ${Math.round(await waited)} ms`)
})

test('GET /health says what llama-server says', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  for (const path of ['/health', '/v1/health']) {
    const response = await fetch(door.url + path)
    t.is(response.status, 200)
    t.alike(await response.json(), { status: 'ok' })
    const other = await fetch(door.url + path, { method: 'POST' })
    t.is(other.status, 405)
    t.is(other.headers.get('allow'), 'GET, HEAD, OPTIONS')
  }
  const lonely = await startDoor(t, { engine: { embedded: false }, isReady: false })
  for (const path of ['/health', '/v1/health']) {
    const response = await fetch(lonely.url + path)
    t.is(response.status, 503)
    t.ok(response.headers.get('retry-after'))
    const answer = (await response.json()) as { error: { type: string; code: string; message: string } }
    t.is(schemaFault('error', answer), undefined)
    t.is(answer.error.type, 'unavailable_error')
    t.is(answer.error.code, 'no_processor')
    t.ok(answer.error.message.includes('no processor that has a model'), answer.error.message)
  }
})
