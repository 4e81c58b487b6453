import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import test from 'brittle'
import { fastify } from 'fastify'
import OpenAI from 'openai'
import { BodyRoom, errorAnswer, holdBodies, keepJsonBodies } from '../workers/gateway/http/index.js'
import { startDoor } from './helpers/door.js'
import { schemaFault } from './helpers/openai-schemas.js'

/** Bodies that are compressed. */

const MIB = 1024 * 1024
const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }]

test('compressed bodies are read, within the bounds of others', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const send = (body: Uint8Array, coding: string, init: RequestInit = {}) =>
    door.ask('/v1/chat/completions', 'x', { body, headers: { 'content-encoding': coding }, ...init })
  const json = Buffer.from(JSON.stringify({ messages, temperature: 0, max_tokens: 20 }))
  const faultOf = async (response: Response): Promise<string> => {
    const body = (await response.json()) as { error: { code: string; message: string } }
    t.is(schemaFault('error', body), undefined)
    return `${response.status} ${body.error.code}: ${body.error.message}`
  }

  await t.test('gzip, deflate and none', async (t) => {
    for (const [coding, body] of [
      ['gzip', gzipSync(json)],
      ['GZIP', gzipSync(json)],
      ['x-gzip', gzipSync(json)],
      ['deflate', deflateSync(json)],
      ['identity', json],
      ['gzip', Buffer.concat([gzipSync(json.subarray(0, 20)), gzipSync(json.subarray(20))])],
    ] as const) {
      const response = await send(body, coding)
      t.is(response.status, 200, coding)
      t.ok(/Paris/.test(await response.text()))
    }
    // Without a length, and read by a thread.
    const long = JSON.stringify({ messages: [{ role: 'user', content: 'fox '.repeat(20_000) }] })
    const pieces = new ReadableStream({
      start(controller) {
        controller.enqueue(gzipSync(long))
        controller.close()
      },
    })
    const streamed = await send(json, 'gzip', { body: pieces, duplex: 'half' } as RequestInit)
    t.ok((await faultOf(streamed)).startsWith('400 context_length_exceeded'))
  })

  await t.test('an SDK whose fetch compresses', async (t) => {
    const openai = new OpenAI({
      baseURL: `${door.url}/v1`,
      apiKey: door.key,
      fetch: (url, init) => {
        const headers = new Headers(init?.headers)
        headers.set('content-encoding', 'gzip')
        headers.delete('content-length')
        return fetch(url, { ...init, headers, body: gzipSync(String(init?.body)) })
      },
    })
    const { choices } = await openai.chat.completions.create({ model: '', messages, temperature: 0 })
    t.ok(/Paris/.test(choices[0]?.message.content ?? ''))
  })

  await t.test('what is no such coding, or another one', async (t) => {
    const gzip = gzipSync(json)
    for (const [what, body, coding] of [
      ['plain text', json, 'gzip'],
      ['a part', gzip.subarray(0, gzip.length - 10), 'gzip'],
      ['broken', Buffer.concat([gzip.subarray(0, 20), Buffer.alloc(20), gzip.subarray(40)]), 'gzip'],
      ['nothing', Buffer.alloc(0), 'gzip'],
      ['gzip as deflate', gzip, 'deflate'],
      ['deflate without its head', deflateRawSync(json), 'deflate'],
    ] as const) {
      const fault = await faultOf(await send(body, coding))
      t.ok(fault.startsWith(`400 bad_request: The body is`), `${what}: ${fault}`)
    }
    for (const [coding, body] of [
      ['br', brotliCompressSync(json)],
      ['zstd', json],
      ['gzip, gzip', gzipSync(gzip)],
      ['toString', json],
    ] as const) {
      const response = await send(body, coding)
      t.is(response.headers.get('accept-encoding'), 'gzip, deflate')
      t.is(
        await faultOf(response),
        `415 unsupported_media_type: The body is of the coding "${coding}"; accepted are gzip, deflate, or none`,
      )
    }
    const users = await door.ask('/api/v1/users', 'x', { body: gzip, headers: { 'content-encoding': 'gzip' } })
    t.ok((await faultOf(users)).startsWith('400 bad_request'), 'the management reads them as well')
  })

  await t.test('what inflates past the limit is refused as it does, and costs little', async (t) => {
    const before = process.memoryUsage().rss
    const from = performance.now()
    for (const size of [2 * MIB + 1, 200 * MIB, 1024 * MIB]) {
      const body = gzipSync(Buffer.alloc(size))
      const sentAt = performance.now()
      t.ok((await faultOf(await send(body, 'gzip'))).startsWith('413 message_too_large'), `${body.length} bytes`)
      t.ok(performance.now() - sentAt < 2000)
    }
    const bombs = Array.from({ length: 20 }, () => send(gzipSync(Buffer.alloc(20 * MIB)), 'gzip'))
    for (const response of await Promise.all(bombs)) t.is(response.status, 413)
    t.comment(
      `${(performance.now() - from).toFixed(0)} ms, ${((process.memoryUsage().rss - before) / MIB).toFixed(0)} MiB`,
    )
    t.is((await send(gzipSync(json), 'gzip')).status, 200)
  })
})

test('room is taken for what a body inflates to', async (t) => {
  const room = new BodyRoom()
  const app = fastify({ bodyLimit: 2 * MIB })
  t.teardown(() => app.close())
  app.setErrorHandler(async (err, _request, reply) => reply.code(errorAnswer(err).status).send())
  keepJsonBodies(app)
  holdBodies(app, (_request, bytes) => room.hold('ann', bytes))
  app.post('/', async ({ body }) => ({ bytes: body instanceof Uint8Array ? body.byteLength : 0, held: room.sizeBytes }))
  const ask = (payload: Buffer, length: boolean) =>
    app.inject({
      method: 'POST',
      url: '/',
      payload,
      headers: {
        'content-type': 'application/json',
        'content-encoding': 'gzip',
        ...(length && { 'content-length': String(payload.length) }),
      },
    })
  const size = MIB + 7
  t.alike((await ask(gzipSync(Buffer.alloc(size, ' ')), true)).json(), { bytes: size, held: size })
  t.is((await ask(gzipSync(Buffer.alloc(3 * MIB)), true)).statusCode, 413)
  const held = Array.from({ length: 63 }, () => room.hold('ann', MIB))
  t.is((await ask(gzipSync(Buffer.alloc(size, ' ')), true)).statusCode, 429)
  for (const one of held) one.release()
  t.is(room.sizeBytes, 0)
})
