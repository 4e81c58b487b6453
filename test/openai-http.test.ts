import { execFileSync } from 'node:child_process'
import { get as httpsGet } from 'node:https'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { type Door, startDoor } from './helpers/door.js'
import { until } from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { parseFrames, schemaFault } from './helpers/openai-schemas.js'

/** The door against clients that are slow, rude, many or gone. */

const CHAT = '/v1/chat/completions'
const story = { prompt: 'Once upon a time', max_tokens: 1500, temperature: 1, seed: 1 }

async function open(t: Test, door: Door): Promise<Socket> {
  const { port } = new URL(door.url)
  const socket = connect({ port: Number(port), host: '127.0.0.1' })
  socket.on('error', () => {})
  t.teardown(() => socket.destroy())
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return socket
}

function request(door: Door, method: string, path: string, body?: unknown): string {
  const json = body === undefined ? '' : JSON.stringify(body)
  return (
    `${method} ${path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${door.key}\r\ncontent-type: application/json\r\n` +
    `content-length: ${Buffer.byteLength(json)}\r\n\r\n${json}`
  )
}

/** Reads until the other side closes, or until the text has something. */
function read(socket: Socket, until?: RegExp): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    socket.on('data', (bytes) => {
      text += bytes.toString()
      if (until?.test(text)) resolve(text)
    })
    socket.once('close', () => resolve(text))
  })
}

async function runs(door: Door, count: number): Promise<void> {
  await until(() => door.gateway.load().running + door.gateway.load().queued === count, `${count} run`)
}

async function freedMs(door: Door, act: () => void): Promise<number> {
  const from = performance.now()
  act()
  await until(() => door.gateway.load().running + door.gateway.load().queued === 0, 'nothing runs', 2000)
  return performance.now() - from
}

/** How often requests ended with a code. */
async function served(door: Door, code: string): Promise<number> {
  const metrics = await door.gateway.registry.getMetricsAsJSON()
  const found = metrics.find(({ name }) => name === 'infermesh_requests_total')
  const values = (found?.values ?? []) as { value: number; labels: { code?: string } }[]
  return values.filter(({ labels }) => labels.code === code).reduce((sum, { value }) => sum + value, 0)
}

test('clients that go away, half close or pipeline', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, { engine: { slots: 2 } })

  await t.test('a client that disconnects frees its slot at once, streamed or not', async (t) => {
    for (const stream of [true, false]) {
      const socket = await open(t, door)
      socket.write(request(door, 'POST', '/v1/completions', { ...story, stream }))
      await runs(door, 1)
      const tookMs = await freedMs(door, () => socket.destroy())
      t.ok(tookMs < 500, `${tookMs.toFixed(1)} ms, stream: ${stream}`)
    }
    t.is(await served(door, 'CANCELLED'), 2)
  })

  await t.test('a client that half-closes its connection is gone too', async (t) => {
    const socket = await open(t, door)
    socket.write(request(door, 'POST', '/v1/completions', { ...story, stream: true }))
    await read(socket, /data: /)
    const tookMs = await freedMs(door, () => socket.end())
    t.ok(tookMs < 500, `${tookMs.toFixed(1)} ms`)
  })

  await t.test('pipelined requests are answered in their order', async (t) => {
    const socket = await open(t, door)
    const text = read(socket, /"last"|HTTP\/1\.1 404/)
    socket.write(
      request(door, 'GET', '/v1/models') +
        request(door, 'POST', '/v1/completions', { prompt: 'One', max_tokens: 20 }) +
        request(door, 'POST', '/v1/embeddings', { input: 'two' }) +
        request(door, 'GET', '/v1/models/none'),
    )
    const kinds = [...(await text).matchAll(/"object":"(list|text_completion)"|HTTP\/1\.1 (404)/g)].map(
      ([, object, status]) => object ?? status,
    )
    t.alike(kinds, ['list', 'text_completion', 'list', '404'])
  })

  await t.test('a pipelining client that disconnects frees all of its slots', async (t) => {
    const socket = await open(t, door)
    socket.write(request(door, 'POST', '/v1/completions', { ...story, stream: true }).repeat(3))
    await until(() => door.gateway.load().running + door.gateway.load().queued > 0, 'it runs')
    await new Promise((resolve) => setTimeout(resolve, 50))
    const tookMs = await freedMs(door, () => socket.destroy())
    t.ok(tookMs < 500, `${tookMs.toFixed(1)} ms`)
  })

  await t.test('what is no HTTP is answered as an error and cut', async (t) => {
    const socket = await open(t, door)
    socket.write('GARBAGE\r\n\r\n')
    const text = await read(socket)
    t.ok(text.startsWith('HTTP/1.1 400'), text.split('\r\n')[0])
    t.is(schemaFault('error', JSON.parse(text.split('\r\n\r\n')[1] ?? '')), undefined)
    const headers = await open(t, door)
    headers.write(`GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-long: ${'x'.repeat(20_000)}\r\n\r\n`)
    t.ok((await read(headers)).startsWith('HTTP/1.1 431'))
  })

  await t.test('a body of 10 MB is refused before it is read', async (t) => {
    const socket = await open(t, door)
    socket.write(
      `POST ${CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${door.key}\r\ncontent-type: application/json\r\ncontent-length: 10000000\r\n\r\n{"mess`,
    )
    const text = await read(socket, /message_too_large/)
    t.ok(text.startsWith('HTTP/1.1 413'), text.split('\r\n')[0])
    const chunked = await open(t, door)
    chunked.write(
      `POST ${CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${door.key}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
    )
    const answer = read(chunked, /message_too_large/)
    const piece = 'x'.repeat(1024 * 1024)
    for (let i = 0; i < 10 && chunked.writable; i++) chunked.write(`${piece.length.toString(16)}\r\n${piece}\r\n`)
    t.ok((await answer).startsWith('HTTP/1.1 413'))
  })

  await t.test('nobody’s prototype was touched', (t) => {
    t.absent(({} as { admin?: boolean }).admin)
  })

  await t.test('who waits is told the place, and answered', async (t) => {
    const holders = await Promise.all(
      [0, 1].map(async () => {
        const socket = await open(t, door)
        socket.write(request(door, 'POST', '/v1/completions', { ...story, stream: true }))
        await read(socket, /data: /)
        return socket
      }),
    )
    const waiting = [0, 1].map(async () => {
      const response = await door.ask(CHAT, {
        messages: [{ role: 'user', content: 'Hi' }],
        stream: true,
        max_tokens: 4,
      })
      return { status: response.status, frames: parseFrames(await response.text()) }
    })
    await until(() => door.gateway.load().queued === 2, 'two wait')
    for (const socket of holders) socket.destroy()
    for (const [i, { status, frames }] of (await Promise.all(waiting)).entries()) {
      t.is(status, 200)
      t.ok(/^queued, place [12]$/.test(frames[0]?.comment ?? ''), `${i}: ${frames[0]?.comment}`)
      t.is(frames.at(-1)?.data, '[DONE]')
    }
  })
})

test('a stream that fails does not look finished', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, { standIn: { STAND_IN_TOKENS_PER_S: '200', STAND_IN_DIE_AFTER: '40' } })
  for (const [path, body] of [
    [CHAT, { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 500 }],
    ['/v1/completions', { prompt: 'Hi', max_tokens: 500 }],
    ['/v1/responses', { input: 'Hi', max_output_tokens: 500 }],
  ] as const) {
    await until(async () => (await fetch(`${door.url}/readyz`)).ok, 'ready')
    const response = await door.ask(path, { ...body, stream: true })
    const frames = parseFrames(await response.text())
    const last = JSON.parse(frames.at(-1)?.data ?? 'null') as { type?: string; response?: { status: string } }
    if (path === '/v1/responses') {
      t.is(last.type, 'response.failed')
      t.is(schemaFault('response-event', last), undefined)
      t.is(last.response?.status, 'failed')
    } else t.is(schemaFault('error', last), undefined)
    t.absent(frames.some(({ data }) => data === '[DONE]'))
    t.ok(frames.length > 5, `${frames.length} frames came before it`)
  }
})

test('a client that reads one byte a second hurts only itself', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, {
    engine: { slots: 32 },
    standIn: { STAND_IN_TOKENS_PER_S: '100000', STAND_IN_DIE_AFTER: '0' },
  })
  const socket = await open(t, door)
  socket.pause()
  const trickle = setInterval(() => socket.read(1), 1000)
  t.teardown(() => clearInterval(trickle))
  const endless = { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 10_000_000, n: 8, stream: true }
  socket.write(request(door, 'POST', CHAT, endless))
  await runs(door, 8)
  const startedAt = performance.now()
  let slowestMs = 0
  while (door.gateway.load().running > 0 && performance.now() - startedAt < 40_000) {
    const from = performance.now()
    const answer = await door.ask(CHAT, { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 3 })
    await answer.json()
    slowestMs = Math.max(slowestMs, performance.now() - from)
  }
  t.is(door.gateway.load().running, 0, `cut after ${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
  t.is(await served(door, 'SLOW_READER'), 8)
  t.ok(slowestMs < 2000, `others were answered within ${slowestMs.toFixed(0)} ms meanwhile`)
})

test('slow senders and idle connections are cut', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, {
    http: { headersTimeoutMs: 300, requestTimeoutMs: 600, keepAliveTimeoutMs: 300 },
  })
  const cutWithin = async (what: string, send: (socket: Socket) => void): Promise<void> => {
    const socket = await open(t, door)
    const from = performance.now()
    send(socket)
    const text = await read(socket)
    const tookMs = performance.now() - from
    t.ok(tookMs < 5000, `${what}, ${tookMs.toFixed(0)} ms: ${text.split('\r\n')[0]}`)
  }
  await Promise.all([
    cutWithin('nothing is sent', () => {}),
    cutWithin('headers come byte by byte', (socket) => {
      socket.write('GET /v1/models HTTP/1.1\r\nhost: localhost\r\n')
      const drip = setInterval(() => socket.write('a'), 50)
      socket.once('close', () => clearInterval(drip))
    }),
    cutWithin('a body never ends', (socket) => {
      socket.write(request(door, 'POST', CHAT, {}).replace('content-length: 2', 'content-length: 200'))
    }),
    cutWithin('nothing is asked after an answer', (socket) => socket.write(request(door, 'GET', '/v1/models'))),
  ])
  t.is((await door.ask('/v1/models')).status, 200)
})

test('5,000 connections at a time', { timeout: 120_000 }, async (t) => {
  // Opening them all may take longer than an idle connection is given.
  const door = await startDoor(t, { http: { headersTimeoutMs: 60_000 } })
  const limit = Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim())
  // Both ends are in this process.
  const count = Math.min(5000, Math.floor((Number.isFinite(limit) ? limit : 20_000) / 2) - 500)
  t.ok(count >= 100, `${count} connections, as ulimit -n allows`)
  const sockets: Socket[] = []
  for (let i = 0; i < count; i += 100) {
    sockets.push(...(await Promise.all(Array.from({ length: Math.min(100, count - i) }, () => open(t, door)))))
  }
  const from = performance.now()
  const answers = sockets.map((socket) => read(socket, /"object":"list"/))
  for (const socket of sockets) socket.write(request(door, 'GET', '/v1/models'))
  const texts = await Promise.all(answers)
  t.is(texts.filter((text) => text.startsWith('HTTP/1.1 200')).length, count)
  t.comment(`${count} connections answered in ${(performance.now() - from).toFixed(0)} ms`)
  t.is((await door.ask(CHAT, { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2 })).status, 200)
  for (const socket of sockets) socket.destroy()
})

test('connections that are merely open keep nobody out of a gateway', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, { http: { maxConnections: 10 } })
  const sockets = await Promise.all(Array.from({ length: 40 }, () => open(t, door)))
  await until(() => sockets.filter(({ destroyed }) => destroyed).length >= 30, 'the oldest are closed')
  const honest = await open(t, door)
  const answer = read(honest, /"object":"list"/)
  honest.write(request(door, 'GET', '/v1/models'))
  t.ok((await answer).startsWith('HTTP/1.1 200'))
  await until(() => sockets.filter(({ destroyed }) => destroyed).length >= 31, 'one has given way')
  for (const socket of sockets) socket.destroy()
})

test('pages of other origins', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, { http: { corsOrigins: ['https://chat.example'] } })
  const preflight = (origin: string) =>
    fetch(`${door.url}${CHAT}`, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization, x-stainless-os',
      },
    })
  const allowed = await preflight('https://chat.example')
  t.is(allowed.status, 204)
  t.is(allowed.headers.get('access-control-allow-origin'), 'https://chat.example')
  t.is(allowed.headers.get('access-control-allow-headers'), 'authorization, x-stainless-os')
  const refused = await preflight('https://evil.example')
  t.is(refused.headers.get('allow'), 'GET, HEAD, OPTIONS, POST', 'it is told what anybody is')
  t.is(refused.headers.get('access-control-allow-origin'), null)
  const answer = await door.ask('/v1/models', undefined, { headers: { origin: 'https://chat.example' } })
  t.ok(/x-ratelimit-remaining-tokens/.test(answer.headers.get('access-control-expose-headers') ?? ''))
})

testUnless(missingProgram('openssl version'), 'TLS', { timeout: 60_000 }, async (t) => {
  const dir = await t.tmp()
  const [tlsKey, tlsCert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const certificate = ['-keyout', tlsKey, '-out', tlsCert, '-days', '2', '-subj', '/CN=localhost']
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...certificate], { stdio: 'ignore' })
  const door = await startDoor(t, { http: { tlsKey, tlsCert } })
  t.ok(door.url.startsWith('https://'))
  const status = await new Promise<number | undefined>((resolve, reject) => {
    httpsGet(`${door.url}/healthz`, { rejectUnauthorized: false }, (response) => {
      response.resume()
      resolve(response.statusCode)
    }).once('error', reject)
  })
  t.is(status, 200)
})

test('what there is is described', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const document = (await (await fetch(`${door.url}/openapi.json`)).json()) as {
    openapi: string
    paths: Record<string, Record<string, unknown>>
    components: { schemas: Record<string, { properties?: object }> }
  }
  t.is(document.openapi, '3.1.0')
  t.ok('messages' in (document.components.schemas.ChatBody?.properties ?? {}))
  for (const [path, item] of Object.entries(document.paths)) {
    for (const method of Object.keys(item).filter((name) => name !== 'parameters')) {
      const url = door.url + path.replace(/\{\w+\}/g, 'x')
      const { status } = await fetch(url, { method: method.toUpperCase() })
      t.ok(status !== 404 && status !== 405, `${method} ${path} exists: ${status}`)
    }
  }
  const page = await fetch(`${door.url}/docs`)
  t.ok(page.headers.get('content-type')?.startsWith('text/html'))
  const html = await page.text()
  t.ok(html.includes('/v1/chat/completions'))
  t.absent(/src=|https?:\/\//.test(html), 'it loads nothing')
})
