import test from 'brittle'
import { MeshError } from '../lib/errors/index.js'
import {
  bearerCredential,
  CONNECTION_HEADERS,
  errorAnswerOf,
  isLoopbackHost,
  isOwnHost,
  noRequestAnswer,
} from '../lib/protocol/http.js'
import { MAX_CREDENTIAL_CHARS } from '../lib/protocol/ids.js'
import { isLoopback } from '../lib/protocol/profile.js'

test('a bearer’s credential is what follows the scheme, whatever it is worth', (t) => {
  const cases: [header: string | undefined, credential: string | undefined][] = [
    ['Bearer im_a_b', 'im_a_b'],
    ['bearer im_a_b', 'im_a_b'],
    ['BEARER   im_a_b', 'im_a_b'],
    ['Bearer im_a_b  ', 'im_a_b'],
    ['Bearer correct horse', 'correct horse'],
    [`Bearer ${'x'.repeat(MAX_CREDENTIAL_CHARS)}`, 'x'.repeat(MAX_CREDENTIAL_CHARS)],
    [`Bearer ${'x'.repeat(MAX_CREDENTIAL_CHARS + 1)}`, undefined],
    ['Bearer', undefined],
    ['Bearer ', undefined],
    ['Bearerim_a_b', undefined],
    ['Bearer\tim_a_b', undefined],
    [' Bearer im_a_b', undefined],
    ['Basic im_a_b', undefined],
    ['im_a_b', undefined],
    ['', undefined],
    [undefined, undefined],
  ]
  for (const [header, credential] of cases) t.is(bearerCredential(header), credential, String(header).slice(0, 30))
})

test('a header of spaces is read in no time', (t) => {
  const startedAt = performance.now()
  t.is(bearerCredential(`Bearer ${' '.repeat(16_000)}\t`), undefined)
  t.is(bearerCredential(`Bearer ${'a '.repeat(8000)}\t`), undefined)
  t.ok(performance.now() - startedAt < 50)
})

test('a host is loopback only where it is so for sure', (t) => {
  for (const host of ['127.0.0.1', '127.0.1.1', '127.255.255.255', 'localhost', 'LocalHost', '::1', '[::1]']) {
    t.ok(isLoopbackHost(host), host)
  }
  for (const host of [
    '',
    '127.evil.com',
    '127.0.0.1.evil.com',
    '127.0.0.256',
    '127.1',
    'localhost.evil.com',
    'notlocalhost',
    '0.0.0.0',
    '::',
    '128.0.0.1',
    '10.0.0.1',
    '127.0.0.1:80',
    '[::1]:80',
  ]) {
    t.absent(isLoopbackHost(host), host)
  }
})

test('a host is this machine’s own where no other site can have its name', (t) => {
  for (const host of [
    undefined,
    'localhost',
    'LOCALHOST:8080',
    'a.localhost',
    '127.0.0.1:1',
    '[::1]:80',
    '192.168.1.2',
  ]) {
    t.ok(isOwnHost(host, []), String(host))
  }
  for (const host of [
    '',
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.nip.io',
    'a@localhost',
    'localhost:80:80',
    '[evil]',
  ]) {
    t.absent(isOwnHost(host, []), host)
  }
  t.ok(isOwnHost('Mesh.Example:443', ['mesh.example']))
  t.absent(isOwnHost('evil.example', ['mesh.example']))
  t.ok(isOwnHost('evil.example', ['*']))
})

test('a network is on this machine where its kind says so, or all of its bootstrap nodes are', (t) => {
  const isLocal = (...bootstrap: string[]) => isLoopback({ kind: 'private', bootstrap })
  t.ok(isLoopback({ kind: 'local', bootstrap: [] }))
  t.ok(isLocal('127.0.0.1:4000'))
  t.ok(isLocal('127.0.0.1:4000', '127.0.0.2:1', 'localhost:4000'))
  t.absent(isLocal())
  t.absent(isLocal('127.0.0.1:4000', '10.0.0.1:4000'))
  t.absent(isLocal('127.evil.com:4000'), 'a name that begins like an address')
  t.absent(isLoopback({ kind: 'public', bootstrap: [] }))
})

test('an error is answered with OpenAI’s object and with when to try again', (t) => {
  const answer = (err: MeshError) => errorAnswerOf(err)
  t.alike(answer(MeshError.RATE_LIMITED('slow down', { retryAfterMs: 1500 })), {
    status: 429,
    headers: { 'retry-after': '2', 'retry-after-ms': '1500', 'x-should-retry': 'true' },
    error: { message: 'slow down', type: 'rate_limit_error', param: null, code: 'rate_limit_exceeded' },
  })
  t.alike(answer(MeshError.QUOTA_EXCEEDED('spent', { retryAfterMs: 1500 })), {
    status: 429,
    headers: { 'retry-after': '2', 'retry-after-ms': '1500', 'x-should-retry': 'false' },
    error: { message: 'spent', type: 'insufficient_quota', param: null, code: 'insufficient_quota' },
  })
  t.alike(answer(MeshError.BAD_REQUEST('no', { param: 'messages[0]' })), {
    status: 400,
    headers: {},
    error: { message: 'no', type: 'invalid_request_error', param: 'messages[0]', code: 'bad_request' },
  })
  t.alike(answer(MeshError.INVALID_API_KEY('who?')).headers, { 'www-authenticate': 'Bearer' })
  t.is(answer(MeshError.FORBIDDEN('no')).error.type, 'permission_error')
  const busy = answer(MeshError.BUSY('later'))
  t.alike(busy.headers, { 'retry-after': '1', 'retry-after-ms': '1000', 'x-should-retry': 'true' })
  t.is(busy.error.type, 'server_error')
  t.alike(noRequestAnswer(404, 'nothing here', 'not_found'), {
    status: 404,
    headers: {},
    error: { message: 'nothing here', type: 'invalid_request_error', param: null, code: 'not_found' },
  })
})

test('an error from the wire keeps what is of the right type', (t) => {
  const details = { retryAfterMs: 'soon', param: 3, requestId: 'r1', model: 'm' }
  t.alike(MeshError.fromJSON({ code: 'BUSY', message: 'later', details }).toJSON(), {
    code: 'BUSY',
    message: 'later',
    details: { model: 'm', requestId: 'r1' },
  })
  t.is(MeshError.fromJSON({ code: 'BUSY', message: 'later', details: { retryAfterMs: 5 } }).retryAfterMs, 5)
  for (const body of [null, undefined, 'x', [], {}, { code: 'NONE', message: '' }, { code: 'toString', message: '' }]) {
    t.is(MeshError.fromJSON(body).code, 'INTERNAL')
  }
})

test('headers of one connection are not carried on, those of the request are', (t) => {
  for (const name of ['connection', 'te', 'upgrade', 'transfer-encoding', 'content-length']) {
    t.ok(CONNECTION_HEADERS.has(name), name)
  }
  for (const name of ['authorization', 'content-type', 'cookie']) t.absent(CONNECTION_HEADERS.has(name), name)
})
