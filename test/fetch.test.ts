import test, { type Test } from 'brittle'
import OpenAI, {
  APIConnectionError,
  type APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
} from 'openai'
import { MeshClient, type MeshError } from '../lib/client/index.js'
import { encodeKey } from '../lib/protocol/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { startDoor } from './helpers/door.js'
import { adminKey, start, startAuth, testHome, testOptions, until, untilJoined } from './helpers/mesh.js'
import { testUnless } from './helpers/needs.js'

const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }]
const model = 'infermesh-tiny'

/** A client of a home's mesh, as a program of a user makes it. */
function client(t: Test, home: string, key?: string): MeshClient {
  const mesh = new MeshClient({ home, key })
  t.teardown(() => mesh.close())
  return mesh
}

/** What a promise fails with. */
async function failure<E>(promise: Promise<unknown>): Promise<E> {
  try {
    await promise
  } catch (err) {
    return err as E
  }
  throw new Error('did not fail')
}

test('the OpenAI SDK works over the mesh as it does over HTTP', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const mesh = client(t, door.home)
  const { fetch: meshFetch } = mesh
  const openai = new OpenAI({ apiKey: door.key, baseURL: 'http://mesh/v1', fetch: meshFetch })
  const overHttp = new OpenAI({ apiKey: door.key, baseURL: `${door.url}/v1` })

  await t.test('chat', async (t) => {
    const ask = (sdk: OpenAI) => sdk.chat.completions.create({ model, messages, temperature: 0 })
    const [mine, theirs] = [await ask(openai), await ask(overHttp)]
    t.ok(/Paris/.test(mine.choices[0]?.message.content ?? ''))
    t.alike(mine.choices, theirs.choices)
    t.alike(mine.usage?.completion_tokens, theirs.usage?.completion_tokens)
  })

  await t.test('a stream, chunk by chunk', async (t) => {
    const stream = await openai.chat.completions.create({
      model,
      messages,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    })
    let text = ''
    let chunks = 0
    let usage: number | undefined
    for await (const chunk of stream) {
      chunks++
      text += chunk.choices[0]?.delta.content ?? ''
      usage = chunk.usage?.completion_tokens ?? usage
    }
    t.ok(/Paris/.test(text), text)
    t.ok(chunks > 3 && (usage ?? 0) > 0, `${chunks} chunks`)
  })

  await t.test('models, one model, embeddings', async (t) => {
    const [mine, theirs] = [await openai.models.list(), await overHttp.models.list()]
    t.alike(mine.data, theirs.data)
    t.is((await openai.models.retrieve(model)).id, model)
    const input = { model, input: ['a fox', 'a sum'] }
    t.alike((await openai.embeddings.create(input)).data, (await overHttp.embeddings.create(input)).data)
  })

  await t.test('errors have their classes', async (t) => {
    const wrong = new OpenAI({
      apiKey: `im_${'y'.repeat(13)}_${'y'.repeat(52)}`,
      baseURL: 'http://mesh/v1',
      fetch: meshFetch,
    })
    t.ok((await failure(wrong.models.list().then())) instanceof AuthenticationError)
    const bad = await failure<BadRequestError>(
      openai.chat.completions.create({ model, messages: [], temperature: 0 }).then(),
    )
    t.ok(bad instanceof BadRequestError)
    t.ok(bad.requestID?.startsWith('req_'), bad.requestID ?? '')
  })

  await t.test('a client without a key of its own answer gets the mesh client’s', async (t) => {
    const placeholder = new OpenAI({ apiKey: 'none', baseURL: 'https://any.host/v1', fetch: meshFetch })
    t.is((await placeholder.models.list()).data.length, 1)
    t.is((await mesh.fetch('http://mesh/v1/models')).status, 200)
    t.is((await mesh.fetch('http://mesh/v1/models', { headers: { authorization: 'Bearer im_wrong' } })).status, 401)
  })

  await t.test('somebody who logged in chats with the token', async (t) => {
    const post = (path: string, body: object) =>
      mesh.fetch(`http://mesh/api/v1${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    const ann = { name: 'ann', password: 'correct horse battery' }
    t.is((await post('/users', { ...ann, limits: { budget: { tokens: 60, period: 'day' } } })).status, 201)
    const { token } = (await (await post('/login', ann)).json()) as { token: string }
    const hers = new OpenAI({ apiKey: token, baseURL: 'http://mesh/v1', fetch: meshFetch, maxRetries: 0 })
    const ask = () => hers.chat.completions.create({ model, messages, temperature: 0, max_tokens: 30 })
    t.ok(/Paris/.test((await ask()).choices[0]?.message.content ?? ''))
    t.is((await failure<APIError>(ask().then(() => ask()))).code, 'insufficient_quota', 'within the user’s limits')
  })

  await t.test('an abort ends the engine’s work at once, streamed or not', async (t) => {
    const long = { model, messages: [{ role: 'user' as const, content: 'Tell me a long story.' }], max_tokens: 4000 }
    const bias = { logit_bias: {}, temperature: 1, seed: 3 }
    const running = () => door.gateway.load().running
    const streaming = new AbortController()
    const stream = await openai.chat.completions.create(
      { ...long, ...bias, stream: true },
      { signal: streaming.signal },
    )
    let seen = 0
    let abortedAt = 0
    const stopped = (async () => {
      for await (const _ of stream) {
        if (++seen === 3) {
          abortedAt = performance.now()
          streaming.abort()
        }
      }
    })()
    await stopped.catch(() => {})
    await until(() => running() === 0, 'nothing runs', 1000)
    const afterStream = performance.now() - abortedAt
    t.ok(afterStream < 500, `stream: ${afterStream.toFixed(1)} ms after ${seen} chunks`)

    const whole = new AbortController()
    const answer = failure(
      openai.completions
        .create({ model, prompt: 'Once upon a time', max_tokens: 1500 }, { signal: whole.signal })
        .then(),
    )
    await until(() => running() === 1, 'the request runs', 5000)
    abortedAt = performance.now()
    whole.abort()
    t.ok((await answer) instanceof APIUserAbortError)
    await until(() => running() === 0, 'nothing runs', 1000)
    const afterWhole = performance.now() - abortedAt
    t.ok(afterWhole < 500, `whole: ${afterWhole.toFixed(1)} ms`)
  })

  await t.test('it is a fetch: bodies, headers, signals and failures', async (t) => {
    const url = 'http://mesh/v1/models'
    const body = JSON.stringify({ model, messages, max_tokens: 4, temperature: 0 })
    const headers = { 'content-type': 'application/json' }
    const post = (init: RequestInit) =>
      mesh.fetch('http://mesh/v1/chat/completions', { method: 'POST', headers, ...init })
    t.is((await post({ body })).status, 200, 'text')
    t.is((await post({ body: new TextEncoder().encode(body) })).status, 200, 'bytes')
    const stream = new Blob([body]).stream()
    t.is((await post({ body: stream, duplex: 'half' } as RequestInit)).status, 200, 'a stream')
    t.is((await post({ body: new Blob([body]) })).status, 200, 'a blob')
    t.is((await mesh.fetch(new Request(url))).status, 200, 'a Request')
    t.is((await mesh.fetch(new URL(url))).status, 200, 'a URL')
    const head = await mesh.fetch(url, { method: 'HEAD' })
    t.is(head.status, 200)
    t.is(head.body, null)
    const got = await mesh.fetch(url, { headers: { 'x-request-id': 'mine-1' } })
    t.is(got.headers.get('x-request-id'), 'mine-1')
    t.is(got.url, url)
    t.ok(got.headers.get('x-ratelimit-limit-requests') !== undefined)
    t.is((await failure<DOMException>(mesh.fetch(url, { signal: AbortSignal.abort() }))).name, 'AbortError')
    const reason = new Error('enough')
    t.is(await failure(mesh.fetch(url, { signal: AbortSignal.abort(reason) })), reason)
    t.ok((await failure(mesh.fetch('/relative'))) instanceof TypeError)
    t.ok((await failure(mesh.fetch(url, { method: 'GET', body: 'x' }))) instanceof TypeError)
    t.ok((await failure(mesh.fetch('file:///etc/passwd'))) instanceof TypeError)
    const broken = new ReadableStream({ start: (controller) => controller.error(new Error('source broke')) })
    t.ok((await failure(post({ body: broken, duplex: 'half' } as RequestInit))) instanceof TypeError)
    await got.body?.cancel()
  })

  await t.test('only the door’s paths are reached, and bodies are bounded', async (t) => {
    for (const path of [
      '/healthz',
      '/readyz',
      '/',
      '/v1/../healthz',
      '/v1/%2e%2e/readyz',
      '/api/v2/x',
      '//v1/models',
      '/docs',
    ]) {
      const response = await mesh.fetch(`http://mesh${path}`)
      t.is(response.status, 404, path)
      t.alike(Object.keys(((await response.json()) as { error: object }).error), ['message', 'type', 'param', 'code'])
    }
    for (const path of ['/v1/..//x/api/v1/users', '/\\x/api/v1/users', '//x/v1/models']) {
      t.is((await mesh.fetch(`http://mesh${path}`)).status, 404, path)
    }
    t.is((await mesh.fetch('http://mesh/v1/nothing')).status, 404)
    t.is((await mesh.fetch('http://mesh/openapi.json')).status, 200)
    const over = await mesh.fetch('http://mesh/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: new Uint8Array(9 * 1024 * 1024),
    })
    t.is(over.status, 413)
    const { error } = (await over.json()) as { error: { code: string } }
    t.is(error.code, 'message_too_large')
    // Its body never ends: the answer can only come from the headers.
    const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1024)) }, undefined)
    const stranger = await mesh.fetch('http://mesh/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer im_wrong' },
      body: endless,
      duplex: 'half',
    } as RequestInit)
    t.is(stranger.status, 401, 'a stranger is refused before the body is read')
    await stranger.body?.cancel()
    const large = JSON.stringify({ model, messages: [{ role: 'user', content: 'x '.repeat(750_000) }] })
    const long = await mesh.fetch('http://mesh/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: large,
    })
    t.is(long.status, 400, 'a body of 1.5 MB is read, and its prompt is too long')
    t.is((await mesh.fetch('http://mesh/v1/models')).status, 200)
  })

  await t.test('100 at once', async (t) => {
    const statuses = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const response = await mesh.fetch('http://mesh/v1/models')
        await response.text()
        return response.status
      }),
    )
    t.ok(statuses.every((status) => status === 200))
  })
})

test('what the network cannot do rejects as fetch does', { timeout: 60_000 }, async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const nobody = new MeshClient({ mesh: { ...auth.profile, address: encodeKey(Buffer.alloc(32, 7)) }, timeoutMs: 1000 })
  t.teardown(() => nobody.close())
  const err = await failure<TypeError & { cause: MeshError }>(nobody.fetch('http://mesh/v1/models'))
  t.ok(err instanceof TypeError)
  t.is(err.message, 'fetch failed')
  t.is(err.cause.code, 'MESH_NOT_FOUND')
  const openai = new OpenAI({ apiKey: 'x', baseURL: 'http://mesh/v1', fetch: nobody.fetch, maxRetries: 0 })
  t.ok((await failure(openai.models.list().then())) instanceof APIConnectionError)

  const first = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  const second = await start(t, new GatewayWorker(testOptions(home, 'g2')))
  for (const gateway of [first, second]) {
    await untilJoined(gateway)
    const init = { headers: { authorization: `Bearer ${adminKey(home)}` } }
    await until(
      async () => (await fetch(`${gateway.status().addresses.http}/v1/models`, init)).ok,
      `${gateway.name} knows the key`,
    )
  }
  const mesh = client(t, home)
  t.is((await mesh.fetch('http://mesh/v1/models')).status, 200)
  const inUse = [first, second].find(({ publicKey }) => publicKey === mesh.gateway?.publicKey)
  let stopped = false
  const stopping = inUse?.stop().then(() => {
    stopped = true
  })
  const statuses = new Set<number>()
  while (!stopped) statuses.add((await mesh.fetch('http://mesh/v1/models')).status)
  await stopping
  t.alike([...statuses], [200], 'while it stops nobody notices')
  t.is((await mesh.fetch('http://mesh/v1/models')).status, 200, 'another gateway answers')
  t.not(mesh.gateway?.publicKey, inUse?.publicKey)
})

interface Settings {
  name: string
  baseURL: string
  fetch: typeof fetch
}
interface Question {
  model: unknown
  prompt: string
}
interface Ai {
  generateText(question: Question): Promise<{ text: string }>
  streamText(question: Question): { textStream: AsyncIterable<string> }
}
interface Compatible {
  createOpenAICompatible(settings: Settings): (id: string) => unknown
}

// Named by variables: they are development dependencies that may be absent.
const [core, provider] = ['ai', '@ai-sdk/openai-compatible']
const [ai, compatible] = (await Promise.all(
  [core, provider].map((name) => import(name as string).catch(() => undefined)),
)) as [Ai | undefined, Compatible | undefined]
const missing = ai && compatible ? undefined : `${core} and ${provider} are not installed`

testUnless(missing, 'the AI SDK works over the mesh', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const mesh = client(t, door.home)
  const infermesh = (compatible as Compatible).createOpenAICompatible({
    name: 'infermesh',
    baseURL: 'http://mesh/v1',
    fetch: mesh.fetch,
  })
  const question = { model: infermesh(model), prompt: 'What is the capital of France?', temperature: 0 }
  t.ok(/Paris/.test((await (ai as Ai).generateText(question)).text))
  let text = ''
  for await (const piece of (ai as Ai).streamText(question).textStream) text += piece
  t.ok(/Paris/.test(text), text)
})
