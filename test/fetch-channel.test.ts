import { randomBytes } from 'node:crypto'
import test, { type Test } from 'brittle'
import c from 'compact-encoding'
import { FETCH_PROTOCOL, FETCH_WINDOW } from '../lib/link/exchange.js'
import type { FetchHandler } from '../lib/link/fetch.js'
import { acceptFetches, FetchCall, type FetchExchange, type FetchRequest } from '../lib/link/index.js'
import { encodeJson, newRequestId } from '../lib/protocol/index.js'
import { connect as connection } from './helpers/connection.js'
import { codeOf, until } from './helpers/wait.js'

/** Two ends of one real connection; the far end answers fetches with the handler. */
function connect(t: Test, handler: FetchHandler) {
  return connection(t, (mux) => acceptFetches(mux, handler))
}

const request = (fields: Partial<FetchRequest> = {}): FetchRequest => ({
  requestId: newRequestId(),
  method: 'POST',
  path: '/v1/echo',
  headers: [['content-type', 'text/plain']],
  body: true,
  ...fields,
})

async function whole(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Sends back what comes, as it comes. */
const echo: FetchHandler = async ({ path, headers }, exchange) => {
  exchange.respond({ status: 200, headers: [['x-path', path], ...headers] })
  for await (const chunk of exchange.body()) await exchange.write(chunk)
  exchange.end()
}

test('a request and its response are carried, bodies in both directions', async (t) => {
  const { mux } = await connect(t, echo)
  const small = new FetchCall(mux, request(), Buffer.from('hello'))
  t.alike(await small.response, {
    status: 200,
    headers: [
      ['x-path', '/v1/echo'],
      ['content-type', 'text/plain'],
    ],
  })
  t.is((await whole(small.body())).toString(), 'hello')
  t.is((await whole(new FetchCall(mux, request({ body: false })).body())).byteLength, 0)

  const bytes = randomBytes(5 * 1024 * 1024 + 7)
  t.ok(bytes.equals(await whole(new FetchCall(mux, request(), bytes).body())), '5 MiB came back as they were')
  async function* pieces() {
    for (let at = 0; at < bytes.byteLength; at += 100_000) yield bytes.subarray(at, at + 100_000)
  }
  t.ok(bytes.equals(await whole(new FetchCall(mux, request(), pieces()).body())), 'also from a stream')

  const many = await Promise.all(
    Array.from({ length: 200 }, async (_, i) =>
      (await whole(new FetchCall(mux, request(), Buffer.from(`${i}`)).body())).toString(),
    ),
  )
  t.alike(
    many,
    Array.from({ length: 200 }, (_, i) => `${i}`),
  )
})

test('a sender waits for a slow reader, in both directions, and a neighbour does not', async (t) => {
  let sent = 0
  let release = () => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  const { mux } = await connect(t, async (head, exchange) => {
    if (head.path === '/v1/echo') return echo(head, exchange)
    exchange.respond({ status: 200, headers: [] })
    if (head.path === '/v1/lazy') {
      await released
      await whole(exchange.body())
    }
    if (head.path === '/v1/flood') {
      for (let i = 0; i < 100; i++) {
        await exchange.write(Buffer.alloc(32 * 1024))
        sent += 32 * 1024
      }
    }
    exchange.end()
  })
  const flood = new FetchCall(mux, request({ path: '/v1/flood', body: false }))
  await flood.response
  let uploaded = 0
  async function* upload() {
    for (let i = 0; i < 100; i++) {
      yield Buffer.alloc(32 * 1024)
      uploaded += 32 * 1024
    }
  }
  const lazy = new FetchCall(mux, request({ path: '/v1/lazy' }), upload())
  await lazy.response
  await new Promise((resolve) => setTimeout(resolve, 200))
  t.ok(sent <= FETCH_WINDOW.bytes && sent > FETCH_WINDOW.bytes / 2, `${sent} bytes were sent to one that does not read`)
  t.ok(
    uploaded <= FETCH_WINDOW.bytes && uploaded > FETCH_WINDOW.bytes / 2,
    `${uploaded} bytes were sent by one that is not read`,
  )
  const startedAt = performance.now()
  await whole(new FetchCall(mux, request(), Buffer.from('hi')).body())
  t.ok(performance.now() - startedAt < 500)
  t.is((await whole(flood.body())).byteLength, 100 * 32 * 1024)
  release()
  await whole(lazy.body())
  t.is(uploaded, 100 * 32 * 1024)
})

test('a fetch that is cancelled, and a link that ends, reach the other side at once', async (t) => {
  const exchanges: FetchExchange[] = []
  const { mux, conn } = await connect(t, async (_, exchange) => {
    exchanges.push(exchange)
    exchange.respond({ status: 200, headers: [] })
    await exchange.write(Buffer.from('beginning'))
    await new Promise(() => {})
  })
  const first = new FetchCall(mux, request(), Buffer.from('x'))
  await first.response
  const startedAt = performance.now()
  first.cancel()
  await until(() => exchanges[0]?.signal.aborted === true, 'the other side knows', 1000)
  t.ok(performance.now() - startedAt < 500, `after ${(performance.now() - startedAt).toFixed(1)} ms`)
  t.is(await codeOf(whole(first.body())), 'CANCELLED')

  const second = new FetchCall(mux, request(), Buffer.from('x'))
  await second.response
  conn.destroy()
  t.is(await codeOf(whole(second.body())), 'LINK_CLOSED', 'a broken response does not look finished')
  await until(() => exchanges[1]?.signal.aborted === true, 'the other side knows', 15_000)
})

test('what a handler throws breaks the response off', async (t) => {
  const { mux } = await connect(t, async (_, exchange) => {
    exchange.respond({ status: 200, headers: [] })
    await exchange.write(Buffer.from('half'))
    throw new TypeError('a fault')
  })
  const call = new FetchCall(mux, request({ body: false }))
  t.is((await call.response).status, 200)
  t.is(await codeOf(whole(call.body())), 'INTERNAL')
})

test('malformed handshakes and frames end their own fetch only', { timeout: 60_000 }, async (t) => {
  const { mux } = await connect(t, echo)
  /** Opens a channel with these bytes and sends these frames. @returns the frames that came back until it was closed */
  const raw = (handshake: Uint8Array, frames: Uint8Array[]) =>
    new Promise<Buffer[]>((resolve) => {
      const answers: Buffer[] = []
      const channel = mux.createChannel({
        protocol: FETCH_PROTOCOL,
        id: Buffer.from(newRequestId()),
        handshake: c.raw,
        onclose: () => resolve(answers),
      })
      const message = channel?.addMessage({ encoding: c.raw, onmessage: (bytes) => answers.push(Buffer.from(bytes)) })
      channel?.open(handshake)
      for (const frame of frames) message?.send(frame)
      setTimeout(() => channel?.close(), 1000).unref()
    })
  const head = (fields: Record<string, unknown> = {}) => encodeJson({ ...request(), ...fields })
  const error = (answers: Buffer[]) =>
    JSON.parse(answers.find((bytes) => bytes[0] === 3)?.toString('utf8', 1) ?? '{}').code as string | undefined
  const data = (bytes: number) => Buffer.concat([Buffer.from([1]), Buffer.alloc(bytes)])

  const heads: [what: string, bytes: Uint8Array][] = [
    ['no JSON', Buffer.from('{')],
    ['nothing', Buffer.alloc(0)],
    ['invalid UTF-8', Buffer.from([0xff, 0xfe])],
    ['an unknown method', head({ method: 'BREW' })],
    ['a path without slash', head({ path: 'v1/models' })],
    ['a path with a line break', head({ path: '/v1/\r\nx' })],
    ['a header with a line break', head({ headers: [['x', 'a\r\nb: c']] })],
    ['a header name with a colon', head({ headers: [['x:', 'a']] })],
    ['headers that are no list', head({ headers: { x: 1 } })],
    ['a long path', head({ path: `/${'x'.repeat(10_000)}` })],
    ['__proto__', Buffer.from('{"__proto__":{"method":"GET"}}')],
  ]
  for (const [what, bytes] of heads) t.is(error(await raw(bytes, [])), 'BAD_REQUEST', what)
  t.is(error(await raw(head({ headers: [['x', 'y'.repeat(70_000)]] }), [])), 'MESSAGE_TOO_LARGE')

  const frames: [what: string, frames: Uint8Array[]][] = [
    ['an empty frame', [Buffer.alloc(0)]],
    ['an unknown tag', [Buffer.from([9, 9])]],
    ['a head where none belongs', [Buffer.from([0, 123, 125])]],
    ['an empty chunk', [Buffer.from([1])]],
    ['a chunk that is too long', [data(70_000)]],
    ['a credit of the wrong length', [Buffer.from([4, 1])]],
    ['data after the end', [Buffer.from([2]), data(1)]],
    ['two ends', [Buffer.from([2]), Buffer.from([2])]],
    ['an error that is none', [Buffer.from([3, 1, 2])]],
  ]
  for (const [what, sent] of frames) {
    const code = error(await raw(head(), sent))
    // The end of a body may be answered before what follows it is read.
    t.ok(code === 'BAD_REQUEST' || /end/.test(what), `${what}: ${code}`)
  }
  const overrun = Array.from({ length: 12 }, () => data(60_000))
  t.is(error(await raw(head({ path: '/v1/x' }), overrun)), 'BAD_REQUEST', 'more than the credit')

  for (let i = 0; i < 500; i++) {
    void raw(i % 2 ? head() : randomBytes(i), [randomBytes(1 + (i % 40)), randomBytes(1), randomBytes(5)])
  }
  t.is((await whole(new FetchCall(mux, request(), Buffer.from('still here')).body())).toString(), 'still here')
})
