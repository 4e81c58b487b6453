import test from 'brittle'
import { Answer } from '../lib/client/answer.js'
import { MeshClient, type TokenBatch } from '../lib/client/index.js'
import { type GenerateEvent, MeshError, SCOPES } from '../lib/protocol/index.js'
import { startDoor } from './helpers/door.js'
import { codeOf, start, startAuth, TestWorker, testHome, testOptions, untilJoined } from './helpers/mesh.js'

/** What a caller of the client library gets of an answer: in batches, whole, and where it breaks. */

const TOOL = {
  name: 'get_weather',
  parameters: {
    type: 'object',
    properties: { days: { type: 'integer', minimum: 1, maximum: 3 } },
    required: ['days'],
    additionalProperties: false,
  },
}
const question = { messages: [{ role: 'user' as const, content: 'What is the weather in Paris?' }] }
const greedy = { sampling: { temperature: 0 } }

/** What batches add up to. */
function sum(batches: readonly TokenBatch[]) {
  const calls: { id?: string; name?: string; arguments: string }[] = []
  for (const piece of batches.flatMap((batch) => batch.calls ?? [])) {
    const known = calls[piece.call]
    if (known === undefined) calls[piece.call] = { id: piece.id, name: piece.name, arguments: piece.arguments }
    else known.arguments += piece.arguments
  }
  return {
    text: batches.map(({ text }) => text).join(''),
    ids: batches.flatMap(({ ids }) => ids),
    calls,
    logprobs: batches.flatMap((batch) => batch.logprobs ?? []),
  }
}

async function collect(answer: Answer): Promise<TokenBatch[]> {
  const batches: TokenBatch[] = []
  for await (const batch of answer) batches.push(batch)
  return batches
}

test('a whole answer has what its batches had: text, calls of tools and log-probabilities', async (t) => {
  const { home } = await startDoor(t)
  const mesh = new MeshClient({ home })
  t.teardown(() => mesh.close(), { order: -1_000_000 })

  const calling = mesh.chat({ ...question, ...greedy, tools: [TOOL], toolChoice: 'required', logprobs: 2 })
  const batches = await collect(calling)
  const { text, toolCalls, logprobs, finish } = await calling.result
  const streamed = sum(batches)
  t.is(finish.reason, 'tool_calls')
  t.is(text, '')
  t.ok(toolCalls !== undefined && toolCalls.length > 0, `${toolCalls?.length} calls`)
  t.is(toolCalls?.[0]?.name, 'get_weather')
  const { days } = JSON.parse(toolCalls?.[0]?.arguments ?? '{}') as { days?: number }
  t.ok(days !== undefined && days >= 1 && days <= 3, `${days} days`)
  t.alike(toolCalls, streamed.calls)
  t.is(logprobs, undefined, 'none is of a text')
  t.alike(streamed.logprobs, [])
  t.is(streamed.ids.length, finish.usage.completionTokens)
  t.alike(
    batches.map(({ index }) => index),
    batches.map((_, i) => batches.slice(0, i).reduce((all, { ids }) => all + ids.length, 0)),
    'each batch says how many tokens stood before it',
  )

  const telling = mesh.chat({ ...question, ...greedy, maxTokens: 8, logprobs: 2 })
  const told = sum(await collect(telling))
  const said = await telling.result
  t.alike(said.logprobs, told.logprobs)
  t.is(said.logprobs?.map(({ text }) => text).join(''), said.text)
  t.ok(said.logprobs?.every(({ top }) => top.length === 2))

  const plain = await mesh.chat({ ...question, ...greedy, maxTokens: 5 }).result
  t.ok(plain.text.length > 0)
  t.absent('toolCalls' in plain || 'logprobs' in plain, 'nothing is there that was not asked for')

  const once = mesh.chat({ ...question, ...greedy, maxTokens: 5, logprobs: 0 })
  const whole = await once.result
  t.is(whole.text, plain.text)
  t.is(once.text, plain.text)
  t.alike(sum(await collect(once)).logprobs, whole.logprobs, 'read again after its end')
})

test('what had come of an answer that breaks half way is kept', async (t) => {
  const home = await testHome(t)
  await startAuth(t, home)
  const gateway = await start(t, new TestWorker('gateway', testOptions(home, 'g1')))
  gateway.net.dispatcher.authenticate = () => ({
    keyId: 'k',
    user: 'a',
    role: 'admin',
    scopes: SCOPES,
    limits: { key: {}, parents: [], user: {} },
  })
  gateway.net.onGenerate(['client'], async (_request, sink) => {
    sink.push({ type: 'tokens', index: 0, ids: [1], text: 'one ' })
    sink.push({ type: 'tokens', index: 1, ids: [2], text: 'two ' })
    sink.fail(MeshError.ENGINE_FAILED('The engine died'))
  })
  await untilJoined(gateway)
  const mesh = new MeshClient({ home })
  t.teardown(() => mesh.close(), { order: -1_000_000 })

  const answer = mesh.chat(question)
  const seen: string[] = []
  const reading = async () => {
    for await (const { text } of answer) seen.push(text)
  }
  t.is(await codeOf(reading()), 'ENGINE_FAILED')
  t.alike(seen, ['one ', 'two '])
  t.is(await codeOf(answer.result), 'ENGINE_FAILED')
  t.is(answer.text, 'one two ')
})

test('an answer takes its end, and no other, as its whole', async (t) => {
  const usage = { promptTokens: 1, cachedTokens: 0, completionTokens: 2 }
  const answerOf = (events: GenerateEvent[]) =>
    new Answer(
      'r1',
      async function* () {
        yield* events
      },
      undefined,
    )
  const tokens: GenerateEvent[] = [
    { type: 'queued', position: 1 },
    { type: 'started', processor: 'p1' },
    {
      type: 'tokens',
      index: 0,
      ids: [1],
      text: 'Let me see.',
      calls: [{ call: 0, id: 'a', name: 'now', arguments: '{' }],
    },
    { type: 'tokens', index: 1, ids: [2], text: '', calls: [{ call: 0, arguments: '}' }] },
  ]
  const answer = answerOf([...tokens, { type: 'finish', reason: 'tool_calls', usage }])
  t.alike(await answer.result, {
    requestId: 'r1',
    text: 'Let me see.',
    toolCalls: [{ id: 'a', name: 'now', arguments: '{}' }],
    finish: { reason: 'tool_calls', usage },
  })
  const types: string[] = []
  for await (const { type } of answer.events()) types.push(type)
  t.alike(types, ['queued', 'started', 'tokens', 'tokens', 'finish'])
  t.is((await collect(answer)).length, 2)

  const endless = answerOf(tokens)
  t.is(await codeOf(endless.result), 'INTERNAL', 'a source that ends without a finish')
  t.is(endless.text, 'Let me see.')
})
