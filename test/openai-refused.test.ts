import { execFile, execFileSync } from 'node:child_process'
import { request as plainRequest } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import test, { type Test } from 'brittle'
import OpenAI from 'openai'
import { REFUSED_BODY } from '../lib/worker-base/http/refused-body.js'
import { adminKey, ready, spawnNode, startAuth, testHome, until } from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { schemaFault } from './helpers/openai-schemas.js'

/** What is refused is read as that by every client, whatever it was in the middle of sending. */

const CHAT = '/v1/chat/completions'
const MIB = 1024 * 1024
const LIMIT = 2 * MIB

interface Answer {
  status: number | undefined
  body: string
}
/** Sends so many bytes and gives what was read of the answer. */
type Way = (door: Door, key: string, bytes: number) => Promise<Answer>

interface Door {
  url: string
  key: string
}

/** A gateway that is a process of its own, as in life: nothing but the network is between it and a client. */
async function startGateway(t: Test, settings: string[] = []): Promise<Door> {
  const home = await testHome(t)
  await startAuth(t, home)
  const set = ['http.port=0', ...settings].flatMap((one) => ['--set', one])
  spawnNode(t, 'worker.js', ['--wtype', 'gateway', '--rack', 'g1', '--data-dir', home, ...set], {
    INFERMESH_LOG__LEVEL: 'silent',
  })
  const { addresses } = await ready(home, 'gateway', 'g1', undefined, 20_000)
  const door = { url: addresses.http ?? '', key: adminKey(home) }
  return door
}

const headersOf = (key: string) => ({ authorization: `Bearer ${key}`, 'content-type': 'application/json' })

/** A body of so many bytes, in pieces. */
function* pieces(bytes: number): Generator<Buffer> {
  const piece = Buffer.alloc(64 * 1024, 'x')
  for (let left = bytes; left > 0; left -= piece.length) yield left < piece.length ? piece.subarray(0, left) : piece
}

const sdk: Way = async (door, key, bytes) => {
  const openai = new OpenAI({ baseURL: `${door.url}/v1`, apiKey: key, maxRetries: 0 })
  try {
    await openai.chat.completions.create({ model: '', messages: [{ role: 'user', content: 'x'.repeat(bytes) }] })
    return { status: 200, body: '' }
  } catch (err) {
    if (!(err instanceof OpenAI.APIError) || err.status === undefined) throw err
    return { status: err.status, body: JSON.stringify({ error: err.error }) }
  }
}

const fetched =
  (chunked: boolean): Way =>
  async (door, key, bytes) => {
    const body = chunked ? Readable.toWeb(Readable.from(pieces(bytes))) : Buffer.alloc(bytes, 'x')
    const init = { method: 'POST', headers: headersOf(key), body, duplex: 'half' }
    const response = await fetch(door.url + CHAT, init as RequestInit)
    return { status: response.status, body: await response.text() }
  }

const requested =
  (chunked: boolean): Way =>
  (door, key, bytes) =>
    new Promise((resolve, reject) => {
      const request = door.url.startsWith('https') ? tlsRequest : plainRequest
      const headers = { ...headersOf(key), ...(!chunked && { 'content-length': bytes }) }
      const options = { method: 'POST', headers, rejectUnauthorized: false }
      const asked = request(door.url + CHAT, options, (response) => {
        text(response).then((body) => resolve({ status: response.statusCode, body }), reject)
      })
      asked.once('error', reject)
      Readable.from(pieces(bytes)).pipe(asked)
    })

const curled =
  (...args: string[]): Way =>
  (door, key, bytes) =>
    new Promise((resolve, reject) => {
      const headers = Object.entries(headersOf(key)).flatMap(([name, value]) => ['-H', `${name}: ${value}`])
      const all = ['-sS', '-k', '-w', '\n%{http_code}', ...headers, ...args, '--data-binary', '@-', door.url + CHAT]
      const child = execFile('curl', all, (err, stdout) => {
        if (err !== null) return reject(err)
        const [body = '', status] = stdout.split('\n')
        resolve({ status: Number(status), body })
      })
      child.stdin?.on('error', () => {})
      if (child.stdin !== null) Readable.from(pieces(bytes)).pipe(child.stdin)
    })

const WAYS: [name: string, way: Way][] = [
  ['the SDK', sdk],
  ['fetch', fetched(false)],
  ['fetch, chunked', fetched(true)],
  ['http.request', requested(false)],
  ['http.request, chunked', requested(true)],
]
const curlLacks = missingProgram('curl --version')
if (curlLacks === undefined) {
  WAYS.push(
    ['curl', curled('-H', 'Expect:')],
    ['curl, asking first', curled('-H', 'Expect: 100-continue', '--expect100-timeout', '30')],
    ['curl, chunked', curled('-H', 'Expect:', '-H', 'Transfer-Encoding: chunked')],
  )
}

/** Sends all of the body before it looks for an answer. */
const PYTHON = `
import http.client, ssl, sys
from urllib.parse import urlsplit
url, key, size = urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if url.scheme == 'https': connection = http.client.HTTPSConnection(url.netloc, timeout=60, context=ssl._create_unverified_context())
else: connection = http.client.HTTPConnection(url.netloc, timeout=60)
connection.request('POST', url.path, b'x' * size, {'Authorization': 'Bearer ' + key, 'Content-Type': 'application/json'})
response = connection.getresponse()
print(response.status)
print(response.read().decode())
`
const blocking: Way = async (door, key, bytes) => {
  const { stdout } = await promisify(execFile)('python3', ['-c', PYTHON, door.url + CHAT, key, String(bytes)])
  const [status, body = ''] = stdout.split('\n')
  return { status: Number(status), body }
}

if (missingProgram('python3 --version') === undefined) WAYS.push(['Python', blocking])

/** @param sizes of bodies; each is sent twice, the second time maybe over the connection of the first */
async function check(t: Test, door: Door, ways: typeof WAYS, sizes: readonly number[]): Promise<void> {
  for (const [key, status, code] of [
    [door.key, 413, 'message_too_large'],
    ['im_wrong', 401, 'invalid_api_key'],
  ] as const) {
    for (const [name, way] of ways) {
      for (const bytes of sizes.flatMap((size) => [size, size])) {
        const what = `${name}, ${(bytes / MIB).toFixed(0)} MiB`
        try {
          const answer = await way(door, key, bytes)
          t.is(answer.status, status, `${what}: ${status}`)
          t.is(schemaFault('error', JSON.parse(answer.body)), undefined)
          t.ok(answer.body.includes(`"code":"${code}"`), answer.body)
        } catch (err) {
          t.fail(`${what}: ${status}: ${err}, ${err instanceof Error && err.cause}`)
        }
      }
    }
  }
}

test('what is refused before it is read can be read as that by every client', { timeout: 120_000 }, async (t) => {
  const door = await startGateway(t)
  await check(t, door, WAYS, [LIMIT + 1, 3 * MIB, 20 * MIB])
  // Far past what is read of a refused body: for those who read while they send.
  const reading = WAYS.filter(([name]) => /^(fetch|http|curl)/.test(name))
  await check(t, door, reading, [200 * MIB])
})

testUnless(missingProgram('openssl version'), 'the same over TLS', { timeout: 120_000 }, async (t) => {
  const dir = await t.tmp()
  const [tlsKey, tlsCert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const certificate = ['-keyout', tlsKey, '-out', tlsCert, '-days', '2', '-subj', '/CN=localhost']
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...certificate], { stdio: 'ignore' })
  const door = await startGateway(t, [`http.tlsKey=${tlsKey}`, `http.tlsCert=${tlsCert}`])
  const ways = WAYS.filter(([name]) => /^(http|curl|Python)/.test(name))
  await check(t, door, ways, [LIMIT + 1, 20 * MIB])
})

/** A head of a request with a body, and what is read of its answers. */
async function begin(t: Test, door: Door, key: string, headers: string, type = 'application/json') {
  const socket = connect({ port: Number(new URL(door.url).port), host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  const got = { text: '', ended: false, closed: false }
  socket.on('data', (bytes) => {
    got.text += bytes.toString()
  })
  socket.once('end', () => {
    got.ended = true
  })
  socket.once('close', () => {
    got.closed = true
  })
  const head = `host: localhost\r\nauthorization: Bearer ${key}\r\ncontent-type: ${type}\r\n${headers}`
  socket.write(`POST ${CHAT} HTTP/1.1\r\n${head}\r\n\r\n`)
  return { socket, got }
}

test('a refused body is read up to a bound, and no longer', { timeout: 60_000 }, async (t) => {
  const door = await startGateway(t)
  const from = performance.now()

  const endless = await begin(t, door, 'im_wrong', 'content-length: 99999999999')
  const piece = Buffer.alloc(MIB)
  let taken = 0
  const pour = (): void => {
    while (!endless.got.closed && taken < 500 * MIB) {
      taken += piece.length
      if (!endless.socket.write(piece)) return void endless.socket.once('drain', pour)
    }
  }
  pour()
  const silent = await begin(t, door, 'im_wrong', 'content-length: 2000000')
  await until(() => /"code":"invalid_api_key"/.test(endless.got.text), 'the answer comes')
  t.ok(/connection: close/i.test(endless.got.text))
  await until(() => endless.got.ended, 'the gateway says that nothing follows')
  t.absent(endless.got.closed, 'and does not close yet')
  await until(() => endless.got.closed && silent.got.ended, 'both are cut', 15_000)
  const tookMs = performance.now() - from
  t.ok(tookMs > REFUSED_BODY.silentMs - 100 && tookMs < REFUSED_BODY.silentMs + 4000, `${tookMs.toFixed(0)} ms`)
  // What lies in the buffers of both ends was taken by nobody.
  t.ok(taken > REFUSED_BODY.bytes && taken < REFUSED_BODY.bytes + 24 * MIB, `${(taken / MIB).toFixed(0)} MiB`)
})

test('a connection goes on after a refused body that was read', { timeout: 30_000 }, async (t) => {
  const door = await startGateway(t)
  const { socket, got } = await begin(t, door, door.key, `content-length: ${3 * MIB}`)
  socket.write(Buffer.alloc(3 * MIB, 'x'))
  await until(() => /"code":"message_too_large"/.test(got.text), 'it is refused')
  t.absent(/connection: close/i.test(got.text))
  socket.write(`GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n`)
  await until(() => /"status":"ok"/.test(got.text), 'the next request is answered')
})

test('a client that asks before it sends is told to only where its body is read', { timeout: 30_000 }, async (t) => {
  const door = await startGateway(t)
  for (const [what, key, headers, status, type] of [
    ['no key', 'im_wrong', 'content-length: 2', 401, undefined],
    ['too long', door.key, 'content-length: 99999999', 413, undefined],
    ['of another kind', door.key, 'content-length: 2', 415, 'text/plain'],
  ] as const) {
    const { got } = await begin(t, door, key, `${headers}\r\nexpect: 100-continue`, type)
    await until(() => got.ended, 'it is answered')
    t.ok(got.text.startsWith(`HTTP/1.1 ${status} `), `${what}: ${got.text.split('\r\n')[0]}`)
    t.ok(/connection: close/i.test(got.text), 'what would have been the body is not read as a request')
  }
  const good = await begin(t, door, door.key, 'content-length: 2\r\nexpect: 100-continue')
  await until(() => good.got.text !== '', 'it is told to go on')
  t.is(good.got.text, 'HTTP/1.1 100 Continue\r\n\r\n')
  good.socket.write('{}')
  await until(() => /"param":"messages"/.test(good.got.text), 'what it sent is read')
  const other = await begin(t, door, door.key, 'content-length: 2\r\nexpect: miracles')
  other.socket.write('{}')
  await until(() => /"param":"messages"/.test(other.got.text), 'another expectation says nothing')
})
