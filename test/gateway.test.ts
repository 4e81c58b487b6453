import test, { type Test } from 'brittle'
import {
  type GenerateEvent,
  type InferenceInput,
  inferenceRequestSchema,
  type MeshError,
  newRequestId,
} from '../lib/protocol/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import {
  adminKey,
  codeOf,
  type Stranger,
  start,
  startAuth,
  startStranger,
  testHome,
  testOptions,
  until,
} from './helpers/mesh.js'

/** One authority, one gateway and one processor with the embedded model, and a client that is no member. */
async function startMesh(t: Test) {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  const processor = await start(t, new ProcessorWorker(testOptions(home, 'p1', { engine: { gpu: 'off' } })))
  await until(
    async () => (await fetch(`${gateway.status().addresses.http}/readyz`)).status === 200,
    'the gateway is ready',
    20_000,
  )
  const client = await startStranger(t, home, gateway.publicKey)
  const authority = await startStranger(t, home, auth.publicKey)
  return { home, auth, gateway, processor, client, authority, key: adminKey(home) }
}

const question: InferenceInput = {
  kind: 'chat',
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
  sampling: { temperature: 0 },
}

async function failure(promise: Promise<unknown>): Promise<MeshError> {
  try {
    await promise
  } catch (err) {
    return err as MeshError
  }
  throw new Error('did not fail')
}

async function collect(events: AsyncIterable<GenerateEvent>): Promise<GenerateEvent[]> {
  const all: GenerateEvent[] = []
  for await (const event of events) all.push(event)
  return all
}

function stream(client: Stranger, key: string | undefined, request: InferenceInput, signal?: AbortSignal) {
  return client.generate({ requestId: newRequestId(), key, request: inferenceRequestSchema.parse(request) }, signal)
}

test('a question goes through gateway and processor to the model, and its usage is recorded', {
  timeout: 60_000,
}, async (t) => {
  const { client, authority, key, gateway } = await startMesh(t)

  await t.test('a unary chat is answered with usage, timing and route', async (t) => {
    const { text, finish } = await client.call('chat', question, { key })
    t.ok(/Paris/.test(text), text)
    t.is(finish.reason, 'stop')
    t.is(finish.route?.processor, 'p1')
    t.is(finish.route?.gateway, 'g1')
    t.is(finish.route?.quantisation, 'Q8_0')
    t.ok(finish.usage.promptTokens > 0 && finish.usage.completionTokens > 0)
    t.ok((finish.timing?.totalMs ?? 0) > 0)
  })

  await t.test('a stream carries every token once and in order, and then the finish', async (t) => {
    const events = await collect(stream(client, key, question))
    let next = 0
    let text = ''
    for (const event of events) {
      if (event.type !== 'tokens') continue
      t.is(event.index, next)
      next += event.ids.length
      text += event.text
    }
    t.ok(/Paris/.test(text), text)
    const finish = events.at(-1)
    t.is(finish?.type, 'finish')
    if (finish?.type === 'finish') t.is(finish.usage.completionTokens, next)
  })

  await t.test('a plain completion and embeddings work', async (t) => {
    const completion = await client.call(
      'complete',
      { kind: 'completion', prompt: 'Once upon a time', maxTokens: 8, sampling: { temperature: 0 } },
      { key },
    )
    t.is(completion.finish.reason, 'length')
    t.is(completion.finish.usage.completionTokens, 8)
    const { embeddings, usage } = await client.call('embed', { input: ['a fox', 'a sum'] }, { key })
    t.is(embeddings.length, 2)
    t.is(embeddings[0]?.length, 192)
    t.ok(usage.promptTokens > 0)
  })

  await t.test('models, status and own usage are told', async (t) => {
    const { models } = await client.call('models', {}, { key })
    t.is(models[0]?.name, 'infermesh-tiny')
    t.alike(models[0]?.processors, ['p1'])
    const { workers } = await client.call('mesh.status', {}, { key })
    t.alike(workers.map(({ role, state }) => `${role} ${state}`).sort(), [
      'auth ready',
      'gateway ready',
      'processor ready',
    ])
    const usage = await client.call('usage.self', {}, { key })
    t.is(usage.total.requests, 4)
    t.ok(usage.day.completionTokens > 8)
  })

  await t.test('the authority folds the same usage out of the journal', async (t) => {
    await until(async () => {
      const { rows } = await authority.call('usage.query', {}, { key })
      return rows.reduce((sum, row) => sum + row.requests, 0) === 4
    }, 'four requests are folded')
    const own = await client.call('usage.self', {}, { key })
    const { rows } = await authority.call('usage.query', {}, { key })
    t.is(
      rows.reduce((sum, row) => sum + row.completionTokens, 0),
      own.total.completionTokens,
    )
  })

  await t.test('what is wrong with a request is said, with its place', async (t) => {
    const ask = (request: unknown) => failure(client.call('chat', request as InferenceInput, { key }))
    const unknown = await ask({ ...question, model: 'gpt-9' })
    t.is(unknown.code, 'MODEL_NOT_FOUND')
    t.ok(/infermesh-tiny/.test(unknown.message), unknown.message)
    const role = await ask({ kind: 'chat', messages: [{ role: 'wizard', content: 'hi' }] })
    t.is(role.code, 'BAD_REQUEST')
    t.is(role.details.param, 'messages[0].role')
    t.is((await ask({ kind: 'chat', messages: [] })).details.param, 'messages')
    t.is((await ask({ kind: 'chat', messages: [{ role: 'user', content: 7 }] })).details.param, 'messages[0].content')
    t.is((await ask({ ...question, sampling: { temperature: 'hot' } })).details.param, 'sampling.temperature')
    t.is((await ask({ ...question, maxTokens: -1 })).details.param, 'maxTokens')
    t.is((await ask({ ...question, colour: 'red' })).details.param, 'colour')
    t.is((await ask({ kind: 'completion', prompt: 7 })).details.param, 'prompt')
    const schema = await ask({ ...question, format: { type: 'json_schema', schema: { type: 'no-such-type' } } })
    t.is(schema.code, 'BAD_REQUEST')
    const long = await ask({ ...question, messages: [{ role: 'user', content: 'fox '.repeat(20_000) }] })
    t.is(long.code, 'CONTEXT_LENGTH_EXCEEDED')
    t.ok(/\d{4,}.*\d{4}/.test(long.message), long.message)
  })

  await t.test('a key that is missing, malformed, unknown or of somebody without the right is refused', async (t) => {
    t.is(await codeOf(client.call('chat', question)), 'INVALID_API_KEY')
    t.is(await codeOf(client.call('chat', question, { key: 'sk-123' })), 'INVALID_API_KEY')
    t.is(
      await codeOf(client.call('chat', question, { key: `${key.slice(0, -1)}${key.endsWith('y') ? 'b' : 'y'}` })),
      'INVALID_API_KEY',
    )
    t.is(await codeOf(collect(stream(client, undefined, question))), 'INVALID_API_KEY')
    t.is(await codeOf(client.call('processor.embed', { input: ['x'] }, { key })), 'UNKNOWN_METHOD')
    await authority.call('users.add', { name: 'bob' }, { key })
    const bob = await authority.call('keys.create', { user: 'bob' }, { key })
    await until(
      async () => (await codeOf(client.call('models', {}, { key: bob.key }))) === undefined,
      'the new key is known',
    )
    t.is(await codeOf(client.call('models.remove', { name: 'infermesh-tiny' }, { key: bob.key })), 'FORBIDDEN')
  })

  await t.test('a revoked key is refused within a second, an expired one at once', async (t) => {
    const short = await authority.call('keys.create', { expiresAt: Date.now() + 400 }, { key })
    const created = await authority.call('keys.create', { label: 'to be revoked' }, { key })
    await until(
      async () => (await codeOf(client.call('models', {}, { key: created.key }))) === undefined,
      'the new key is known',
    )
    await authority.call('keys.revoke', { id: created.id }, { key })
    const revokedAt = performance.now()
    await until(
      async () => (await codeOf(client.call('models', {}, { key: created.key }))) === 'INVALID_API_KEY',
      'the key is refused',
      1000,
    )
    t.comment(`refused after ${(performance.now() - revokedAt).toFixed(1)} ms`)
    await until(
      async () => (await codeOf(client.call('models', {}, { key: short.key }))) === 'INVALID_API_KEY',
      'the key has expired',
      1000,
    )
    t.pass()
  })

  await t.test('limits of a key hold: requests, budget and models', async (t) => {
    const limited = await authority.call('keys.create', { limits: { requestsPerMinute: 1 } }, { key })
    const poor = await authority.call('keys.create', { limits: { budget: { tokens: 40, period: 'day' } } }, { key })
    await until(
      async () => (await codeOf(client.call('models', {}, { key: poor.key }))) === undefined,
      'the new keys are known',
    )
    await client.call('chat', question, { key: limited.key })
    const refused = await failure(client.call('chat', question, { key: limited.key }))
    t.is(refused.code, 'RATE_LIMITED')
    t.ok((refused.retryAfterMs ?? 0) > 50_000)
    await client.call('chat', { ...question, maxTokens: 8 }, { key: poor.key })
    const spent = await failure(client.call('chat', { ...question, maxTokens: 30 }, { key: poor.key }))
    t.is(spent.code, 'QUOTA_EXCEEDED', spent.message)
  })

  await t.test('a client that cancels frees its slot at once', async (t) => {
    const controller = new AbortController()
    const story: InferenceInput = {
      kind: 'completion',
      prompt: 'Once upon a time',
      maxTokens: 1500,
      sampling: { temperature: 1, seed: 1 },
    }
    const reading = (async () => {
      for await (const event of stream(client, key, story, controller.signal)) if (event.type === 'tokens') break
    })()
    await reading
    controller.abort()
    await until(() => gateway.load().running === 0, 'nothing runs', 1000)
    t.pass()
  })

  await t.test('more requests than slots wait, learn their place, and are all answered', async (t) => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => collect(stream(client, key, { ...question, maxTokens: 20 }))),
    )
    t.ok(answers.every((events) => events.at(-1)?.type === 'finish'))
    t.ok(
      answers.some((events) => events[0]?.type === 'queued'),
      'some were told that they wait',
    )
  })
})
