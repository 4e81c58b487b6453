import { connect } from 'node:net'
import test, { type Test } from 'brittle'
import { type Door, startDoor } from './helpers/door.js'
import { schemaFault } from './helpers/openai-schemas.js'

/** Whatever comes over a connection is answered as HTTP has it, and every failure in one form. */

interface Answer {
  status: number
  headers: Map<string, string>
  body: string
}

/** Writes bytes, and reads all that comes until the gateway closes the connection. */
async function raw(t: Test, door: Door, ...pieces: (string | Buffer)[]): Promise<Answer[]> {
  const socket = connect({ port: Number(new URL(door.url).port), host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  const chunks: Buffer[] = []
  socket.on('data', (bytes) => chunks.push(bytes))
  socket.on('error', () => {})
  for (const piece of pieces) socket.write(piece)
  await new Promise<void>((resolve) => socket.once('end', resolve).once('close', () => resolve()))
  return answersIn(Buffer.concat(chunks).toString())
}

/** Answers that follow one another, each with its length. */
function answersIn(text: string): Answer[] {
  const answers: Answer[] = []
  for (let rest = text; rest !== ''; ) {
    const end = rest.indexOf('\r\n\r\n')
    const [first = '', ...lines] = rest.slice(0, end).split('\r\n')
    const headers = new Map(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    )
    const length = Number(headers.get('content-length') ?? Number.NaN)
    if (!/^HTTP\/1\.1 \d{3} /.test(first) || Number.isNaN(length)) throw new Error(`This is no answer: ${rest}`)
    answers.push({ status: Number(first.slice(9, 12)), headers, body: rest.slice(end + 4, end + 4 + length) })
    rest = rest.slice(end + 4 + length)
  }
  return answers
}

const HOST = 'host: localhost\r\nconnection: close\r\n'
const post = (door: Door, headers: string, path = '/v1/chat/completions') =>
  `POST ${path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${door.key}\r\ncontent-type: application/json\r\n${headers}\r\n\r\n`

test('what is no request is answered with all four keys and an id', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, { http: { requestTimeoutMs: 5000, headersTimeoutMs: 4000 } })
  const chunked = post(door, 'transfer-encoding: chunked')
  const cases: [what: string, bytes: (string | Buffer)[], status: number, code: string][] = [
    ['rubbish', ['rubbish\r\n\r\n'], 400, 'bad_request'],
    ['bytes', [Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])], 400, 'bad_request'],
    ['another version', [`GET /healthz HTTP/3.7\r\n${HOST}\r\n`], 400, 'bad_request'],
    ['HTTP/2', ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'], 400, 'bad_request'],
    ['an unknown method', [`FETCH /healthz HTTP/1.1\r\n${HOST}\r\n`], 400, 'bad_request'],
    ['a header without a colon', [`GET /healthz HTTP/1.1\r\nhost localhost\r\n\r\n`], 400, 'bad_request'],
    ['no host', ['GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n'], 400, 'bad_request'],
    ['two lengths', [post(door, 'content-length: 2\r\ncontent-length: 3')], 400, 'bad_request'],
    ['length and chunks', [post(door, 'content-length: 2\r\ntransfer-encoding: chunked')], 400, 'bad_request'],
    ['an unknown transfer coding', [post(door, 'transfer-encoding: magic')], 400, 'bad_request'],
    ['a chunk of no size', [chunked, 'xyz\r\n'], 400, 'bad_request'],
    ['a chunk longer than it said', [chunked, '2\r\n{}}}\r\n0\r\n\r\n'], 400, 'bad_request'],
    ['long extensions of a chunk', [chunked, `2;${'a'.repeat(40_000)}\r\n{}\r\n0\r\n\r\n`], 413, 'bad_request'],
    ['a long header', [`GET /healthz HTTP/1.1\r\n${HOST}x: ${'x'.repeat(20_000)}\r\n\r\n`], 431, 'bad_request'],
    ['a long path', [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\n${HOST}\r\n`], 431, 'bad_request'],
    ['a long name in a path', [`GET /v1/responses/${'x'.repeat(700)} HTTP/1.1\r\n${HOST}\r\n`], 414, 'bad_request'],
    ['a path that does not decode', [`GET /v1/%zz HTTP/1.1\r\n${HOST}\r\n`], 400, 'bad_request'],
    [
      'the same with a body',
      [post(door, 'connection: close\r\ncontent-length: 2', '/v1/%zz'), '{}'],
      400,
      'bad_request',
    ],
    ['a head that never ends', ['GET /healthz HTTP/1.1\r\n'], 408, 'timeout'],
    ['a body that never ends', [post(door, 'content-length: 200'), '{"a'], 408, 'timeout'],
    ['CONNECT', ['CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n'], 405, 'method_not_allowed'],
    ['TRACE', [`TRACE /v1/models HTTP/1.1\r\n${HOST}\r\n`], 405, 'method_not_allowed'],
    ['PROPFIND', [`PROPFIND /v1/models HTTP/1.1\r\n${HOST}\r\n`], 405, 'method_not_allowed'],
    ['another path', [`PROPFIND /nothing HTTP/1.1\r\n${HOST}\r\n`], 404, 'not_found'],
    ['an absolute URL', [`GET http://localhost/nothing HTTP/1.1\r\n${HOST}\r\n`], 404, 'not_found'],
    ['the star', [`OPTIONS * HTTP/1.1\r\n${HOST}\r\n`], 404, 'not_found'],
    [
      'a websocket',
      [
        `GET /v1/realtime HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\nsec-websocket-version: 13\r\n\r\n`,
      ],
      404,
      'not_found',
    ],
    ['HTTP/1.0', ['GET /nothing HTTP/1.0\r\n\r\n'], 404, 'not_found'],
  ]
  await Promise.all(
    cases.map(async ([what, bytes, status, code]) => {
      const [answer] = await raw(t, door, ...bytes)
      if (answer === undefined) return t.fail(`${what}: no answer`)
      t.is(answer.status, status, `${what}: ${answer.status} ${answer.body}`)
      t.ok(/^req_\w+$/.test(answer.headers.get('x-request-id') ?? ''), `${what}: an id`)
      t.is(answer.headers.get('content-type'), 'application/json; charset=utf-8')
      t.is(schemaFault('error', JSON.parse(answer.body)), undefined)
      t.ok(answer.body.includes(`"code":"${code}"`), answer.body)
      if (status === 405) t.ok(answer.headers.has('allow'), what)
    }),
  )
  t.is((await fetch(`${door.url}/healthz`)).status, 200)
})

test('rubbish behind good requests comes after their answers', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const asked = JSON.stringify({
    messages: [{ role: 'user', content: 'What is the capital of France?' }],
    max_tokens: 8,
  })
  const good = post(door, `content-length: ${asked.length}`) + asked
  for (const rubbish of ['rubbish\r\n\r\n', 'CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n']) {
    const answers = await raw(t, door, good + good + rubbish)
    t.alike(
      answers.map(({ status }) => status),
      [200, 200, rubbish.startsWith('CONNECT') ? 405 : 400],
    )
    for (const { body } of answers.slice(0, 2)) t.is(schemaFault('chat-completion', JSON.parse(body)), undefined)
  }
  // A body that comes apart after it was refused has its answer already.
  const refused = await raw(t, door, post({ ...door, key: 'im_wrong' }, 'transfer-encoding: chunked'), 'xyz\r\n')
  t.is(refused.length, 1)
  t.ok([400, 401].includes(refused[0]?.status ?? 0), `${refused[0]?.status}`)
})

/** Paths, and what may be asked of them. */
const PATHS: [path: string, allow: string][] = [
  ['/v1/models', 'GET, HEAD, OPTIONS'],
  ['/v1/models/infermesh-tiny', 'GET, HEAD, OPTIONS'],
  ['/v1/models/with/slashes:Q4', 'GET, HEAD, OPTIONS'],
  ['/v1/chat/completions', 'GET, HEAD, OPTIONS, POST'],
  ['/v1/chat/completions/chatcmpl-1', 'DELETE, GET, HEAD, OPTIONS, POST'],
  ['/v1/chat/completions/chatcmpl-1/messages', 'GET, HEAD, OPTIONS'],
  ['/v1/completions', 'OPTIONS, POST'],
  ['/v1/embeddings', 'OPTIONS, POST'],
  ['/v1/responses', 'OPTIONS, POST'],
  ['/v1/responses/resp_1', 'DELETE, GET, HEAD, OPTIONS'],
  ['/v1/responses/resp_1/input_items', 'GET, HEAD, OPTIONS'],
  ['/v1/responses/resp_1/cancel', 'OPTIONS, POST'],
  ['/v1/tokenize', 'OPTIONS, POST'],
  ['/api/v1/users', 'GET, HEAD, OPTIONS, POST'],
  ['/api/v1/users/ann', 'DELETE, GET, HEAD, OPTIONS, PATCH'],
  ['/api/v1/login', 'OPTIONS, POST'],
  ['/healthz', 'GET, HEAD, OPTIONS'],
  ['/readyz', 'GET, HEAD, OPTIONS'],
  ['/openapi.json', 'GET, HEAD, OPTIONS'],
  ['/docs', 'GET, HEAD, OPTIONS'],
]
/** Headers that tell of one answer, not of what was asked for. */
const OWN = ['date', 'x-request-id', 'openai-processing-ms', 'keep-alive']

test('HEAD and OPTIONS say of every path what GET would, and what there is', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const ask = (path: string, method: string) =>
    fetch(door.url + path, { method, headers: { authorization: `Bearer ${door.key}` } })
  const headersOf = ({ headers }: Response) => [...headers].filter(([name]) => !OWN.includes(name)).sort()
  for (const [path, allow] of PATHS) {
    const options = await fetch(door.url + path, { method: 'OPTIONS' })
    t.is(options.status, 204, path)
    t.is(options.headers.get('allow'), allow, path)
    t.is(await options.text(), '')
    const head = await ask(path, 'HEAD')
    t.is(await head.text(), '')
    t.ok(head.headers.get('x-request-id'))
    if (!allow.includes('HEAD')) {
      t.is(head.status, 405, path)
      t.is(head.headers.get('allow'), allow)
      continue
    }
    const got = await ask(path, 'GET')
    t.is(head.status, got.status, path)
    t.alike(headersOf(head), headersOf(got), path)
    t.is(head.headers.get('content-length'), String((await got.arrayBuffer()).byteLength), path)
  }
  for (const [path, allow] of PATHS) {
    for (const method of ['PUT', 'DELETE', 'PATCH', 'POST', 'PROPFIND']) {
      if (allow.includes(method)) continue
      const answer = await ask(path, method)
      t.is(answer.status, 405, `${method} ${path}`)
      t.is(answer.headers.get('allow'), allow)
      t.is(schemaFault('error', await answer.json()), undefined)
    }
  }
  for (const path of ['/', '/v1', '/v1/', '/v1/nothing', '/api/v1/nothing', '/healthz/x']) {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'POST'])
      t.is((await ask(path, method)).status, 404, `${method} ${path}`)
  }
})
