import test from 'brittle'
import OpenAI from 'openai'
import { type Door, startDoor } from './helpers/door.js'
import { until } from './helpers/mesh.js'
import { checkedFetch } from './helpers/openai-schemas.js'
import { typed } from './helpers/openai-types.js'

/** The official SDK against the door, as it comes: nothing but the base URL and the key is set. */

const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }]
const tale = [{ role: 'user' as const, content: 'Tell me a story.' }]
const model = 'infermesh-tiny'
const story = { model, prompt: 'Once upon a time', max_tokens: 1500, temperature: 1, seed: 1 }

function client(door: Door, fetch?: typeof globalThis.fetch, apiKey = door.key): OpenAI {
  return new OpenAI({ baseURL: `${door.url}/v1`, apiKey, ...(fetch && { fetch }) })
}

/** Counts the requests that a client really makes. */
function counting(): { fetch: typeof fetch; statuses: number[] } {
  const statuses: number[] = []
  return {
    statuses,
    fetch: async (input, init) => {
      const response = await fetch(input, init)
      statuses.push(response.status)
      return response
    },
  }
}

async function failure(promise: PromiseLike<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  try {
    await promise
  } catch (err) {
    return err as InstanceType<typeof OpenAI.APIError>
  }
  throw new Error('did not fail')
}

test('the openai SDK works unchanged, and everything it gets fits OpenAI’s shapes', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const checked = checkedFetch()
  const openai = client(door, checked.fetch)

  await t.test('chat', async (t) => {
    const { data, response } = await openai.chat.completions.create({ model, messages, temperature: 0 }).withResponse()
    t.ok(/Paris/.test(data.choices[0]?.message.content ?? ''), data.choices[0]?.message.content ?? 'nothing')
    t.is(data.choices[0]?.finish_reason, 'stop')
    t.is(data.choices[0]?.logprobs, null)
    t.is(data.choices[0]?.message.refusal, null)
    t.ok((data.usage?.total_tokens ?? 0) > 10)
    t.ok(response.headers.get('x-request-id')?.startsWith('req_'))
    t.ok(/^\d+$/.test(response.headers.get('openai-processing-ms') ?? ''))
  })

  await t.test('a streamed chat, with usage', async (t) => {
    const stream = await openai.chat.completions.create({
      model,
      messages,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks: OpenAI.ChatCompletionChunk[] = []
    for await (const chunk of stream) chunks.push(chunk)
    t.ok(/Paris/.test(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')))
    t.is(new Set(chunks.map(({ id }) => id)).size, 1)
    t.is(chunks[0]?.choices[0]?.delta.role, 'assistant')
    t.is(chunks.at(-2)?.choices[0]?.finish_reason, 'stop')
    t.alike(chunks.at(-1)?.choices, [])
    t.ok((chunks.at(-1)?.usage?.completion_tokens ?? 0) > 3)
    t.ok(chunks.slice(0, -1).every(({ usage }) => usage === null))
  })

  await t.test('the SDK’s own stream helper', async (t) => {
    const runner = openai.chat.completions.stream({ model, messages, temperature: 0 })
    t.ok(/Paris/.test((await runner.finalContent()) ?? ''))
  })

  await t.test('several answers, and the same ones for the same seed', async (t) => {
    const ask = () =>
      openai.chat.completions.create({ model, messages: tale, n: 3, seed: -7, temperature: 1.5, max_tokens: 12 })
    const [one, two] = [await ask(), await ask()]
    const texts = ({ choices }: OpenAI.ChatCompletion) => choices.map(({ message }) => message.content)
    t.alike(
      one.choices.map(({ index }) => index),
      [0, 1, 2],
    )
    t.alike(texts(one), texts(two))
    t.ok(new Set(texts(one)).size > 1, 'the answers differ among themselves')
    const single = await openai.chat.completions.create({ model, messages: tale, max_tokens: 12 })
    t.is(one.usage?.prompt_tokens, single.usage?.prompt_tokens, 'the prompt counts once')
    t.is(one.system_fingerprint, two.system_fingerprint)
    const stream = await openai.chat.completions.create({ model, messages, n: 2, stream: true, max_tokens: 5 })
    const seen = new Set<number>()
    let ended = 0
    for await (const { choices } of stream) {
      for (const { index, finish_reason } of choices) {
        seen.add(index)
        if (finish_reason !== null) ended++
      }
    }
    t.is(seen.size, 2)
    t.is(ended, 2)
  })

  await t.test('stop, length, penalties, and roles and content in all their forms', async (t) => {
    const short = await openai.chat.completions.create({
      model,
      messages,
      max_completion_tokens: 3,
      max_tokens: 50,
      presence_penalty: 0.5,
      frequency_penalty: 0.5,
    })
    t.is(short.choices[0]?.finish_reason, 'length')
    t.is(short.usage?.completion_tokens, 3)
    const stopped = await openai.chat.completions.create({ model, messages, temperature: 0, stop: [' of', ' is'] })
    t.is(stopped.choices[0]?.message.content, 'The capital')
    t.is(stopped.choices[0]?.finish_reason, 'stop')
    const forms = await openai.chat.completions.create({
      model,
      messages: [
        { role: 'developer', content: 'You answer in one sentence.' },
        { role: 'user', name: 'ann', content: [{ type: 'text', text: 'Hello.' }] },
        { role: 'assistant', content: [{ type: 'text', text: 'Hello!' }] },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'What is the capital' },
            { type: 'text', text: 'of France?' },
          ],
        },
      ],
      max_tokens: 4,
    })
    t.is(forms.choices.length, 1)
  })

  await t.test('json_schema, strict', async (t) => {
    const { choices } = await openai.chat.completions.create({
      model,
      messages: [{ role: 'user', content: 'Give me a city and its population.' }],
      max_tokens: 200,
      temperature: 0,
      response_format: {
        type: 'json_schema',
        json_schema: {
          name: 'city',
          strict: true,
          schema: {
            type: 'object',
            properties: { city: { type: 'string', maxLength: 12 }, population: { type: 'integer' } },
            required: ['city', 'population'],
            additionalProperties: false,
          },
        },
      },
    })
    const value = JSON.parse(choices[0]?.message.content ?? '') as { city: string; population: number }
    t.alike(Object.keys(value), ['city', 'population'])
    t.ok(Number.isInteger(value.population))
  })

  await t.test('json_object', async (t) => {
    const { choices } = await openai.chat.completions.create({
      model,
      messages: [{ role: 'user', content: 'Reply with JSON.' }],
      max_tokens: 400,
      temperature: 0,
      response_format: { type: 'json_object' },
    })
    if (choices[0]?.finish_reason === 'stop') t.is(typeof JSON.parse(choices[0].message.content ?? ''), 'object')
    else t.ok(choices[0]?.message.content?.startsWith('{'))
  })

  await t.test('completions: one prompt, many, token ids, echo, streamed', async (t) => {
    const one = await openai.completions.create({ model, prompt: 'Once upon a time', echo: true, max_tokens: 4 })
    t.ok(one.choices[0]?.text.startsWith('Once upon a time'))
    t.is(one.choices[0]?.finish_reason, 'length')
    const plain = await openai.completions.create({ model, prompt: 'Once upon a time', temperature: 0 })
    t.ok((plain.usage?.completion_tokens ?? 99) <= 16, 'sixteen tokens where nothing was said')
    const many = await openai.completions.create({ model, prompt: ['A fox', 'A dog'], n: 2, max_tokens: 3 })
    t.alike(
      many.choices.map(({ index }) => index),
      [0, 1, 2, 3],
    )
    const stream = await openai.completions.create({ model, prompt: 'Once', max_tokens: 5, stream: true })
    let ended = ''
    for await (const { choices } of stream) ended = choices[0]?.finish_reason ?? ended
    t.is(ended, 'length')
  })

  await t.test('embeddings: as base64, which the SDK asks for by default, and as numbers', async (t) => {
    const input = ['a fox', 'a sum']
    const base64 = await openai.embeddings.create({ model, input })
    const floats = await openai.embeddings.create({ model, input, encoding_format: 'float' })
    t.is(base64.data.length, 2)
    t.is(base64.data[1]?.embedding.length, 192)
    const far = base64.data.flatMap(({ embedding }, i) =>
      embedding.filter((value, j) => Math.abs(value - (floats.data[i]?.embedding[j] ?? 9)) > 1e-6),
    )
    t.is(far.length, 0, 'both say the same')
    t.ok(base64.usage.prompt_tokens > 0)
    const many = await openai.embeddings.create({ model, input: Array.from({ length: 70 }, (_, i) => `text ${i}`) })
    t.alike(
      many.data.map(({ index }) => index),
      Array.from({ length: 70 }, (_, i) => i),
    )
    t.is((await openai.embeddings.create({ model, input: 'one', dimensions: 192 })).data.length, 1)
    const cut = await failure(openai.embeddings.create({ model, input: 'one', dimensions: 64 }))
    t.is(cut.param, 'dimensions')
  })

  await t.test('models', async (t) => {
    const ids: string[] = []
    for await (const { id } of openai.models.list()) ids.push(id)
    t.alike(ids, [model])
    t.is((await openai.models.retrieve(model)).id, model)
    const missing = await failure(openai.models.retrieve('somebody/else:Q4'))
    t.ok(missing instanceof OpenAI.NotFoundError)
    t.ok(/somebody\/else:Q4/.test(missing.message), missing.message)
  })

  await t.test('errors come as the SDK’s classes, with all four keys', async (t) => {
    const nobody = await failure(client(door, checked.fetch, 'sk-123').models.list())
    t.ok(nobody instanceof OpenAI.AuthenticationError)
    t.is(nobody.code, 'invalid_api_key')
    const unknown = await failure(openai.chat.completions.create({ model: 'gpt-9', messages }))
    t.ok(unknown instanceof OpenAI.NotFoundError)
    t.alike([unknown.code, unknown.param, unknown.type], ['model_not_found', 'model', 'invalid_request_error'])
    const hot = await failure(openai.chat.completions.create({ model, messages, temperature: 9 }))
    t.ok(hot instanceof OpenAI.BadRequestError)
    t.is(hot.param, 'temperature')
    t.ok(hot.requestID?.startsWith('req_'))
    const streamed = await failure(openai.chat.completions.create({ model: 'gpt-9', messages, stream: true }))
    t.ok(streamed instanceof OpenAI.NotFoundError, 'a stream that never began has a status too')
  })

  await t.test('limits are told, and a used-up quota is not retried', async (t) => {
    const limited = await door.newKey({ requestsPerMinute: 5, tokensPerMinute: 5000 })
    const { response } = await client(door, checked.fetch, limited)
      .chat.completions.create({ model, messages, max_tokens: 5 })
      .withResponse()
    t.is(response.headers.get('x-ratelimit-limit-requests'), '5')
    t.is(response.headers.get('x-ratelimit-remaining-requests'), '4')
    t.ok(/^(\d+m)?[\d.]+m?s$/.test(response.headers.get('x-ratelimit-reset-requests') ?? ''))
    t.is(response.headers.get('x-ratelimit-limit-tokens'), '5000')
    t.ok(Number(response.headers.get('x-ratelimit-remaining-tokens')) < 5000)
    const poor = await door.newKey({ budget: { tokens: 10, period: 'day' } })
    const { fetch, statuses } = counting()
    const spent = await failure(client(door, fetch, poor).chat.completions.create({ model, messages }))
    t.ok(spent instanceof OpenAI.RateLimitError)
    t.is(spent.code, 'insufficient_quota')
    t.alike(statuses, [429])
  })

  await t.test('a 429 is retried after the time it names', async (t) => {
    const narrow = await door.newKey({ concurrentRequests: 1 })
    const { fetch, statuses } = counting()
    const busy = client(door, undefined, narrow)
    const stream = await busy.completions.create({ ...story, stream: true })
    setTimeout(() => stream.controller.abort(), 400)
    const answer = client(door, fetch, narrow).chat.completions.create({ model, messages, max_tokens: 4 })
    await Promise.all([drain(stream), answer])
    t.is(statuses[0], 429)
    t.is(statuses.at(-1), 200)
  })

  await t.test('a stream that is aborted frees its slot at once', async (t) => {
    const plain = client(door)
    const stream = await plain.completions.create({ ...story, stream: true })
    let tokens = 0
    let abortedAt = 0
    for await (const _ of stream) {
      if (++tokens !== 3) continue
      abortedAt = performance.now()
      stream.controller.abort()
    }
    await until(() => door.gateway.load().running === 0, 'nothing runs', 1000)
    const tookMs = performance.now() - abortedAt
    t.ok(tookMs < 500, `${tookMs.toFixed(1)} ms`)
    const controller = new AbortController()
    const whole = failure(plain.completions.create(story, { signal: controller.signal }))
    await until(() => door.gateway.load().running === 1, 'it runs')
    controller.abort()
    const from = performance.now()
    t.ok((await whole) instanceof OpenAI.APIUserAbortError)
    await until(() => door.gateway.load().running === 0, 'nothing runs', 1000)
    const wholeMs = performance.now() - from
    t.ok(wholeMs < 500, `${wholeMs.toFixed(1)} ms for one that is not streamed`)
  })

  const { faults, checked: count } = await checked.faults()
  t.alike(faults, [], `${count} answers were checked`)
  t.comment(`${typed.looked} objects, ${typed.fit} are of OpenAI’s types`)
})

test('a 503 is retried after the time it names', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, { gateway: { queueLimit: 0 }, engine: { slots: 1 } })
  const { fetch, statuses } = counting()
  const plain = client(door)
  const stream = await plain.completions.create({ ...story, stream: true })
  setTimeout(() => stream.controller.abort(), 400)
  const [, answer] = await Promise.all([
    drain(stream),
    client(door, fetch).chat.completions.create({ model, messages, max_tokens: 4 }),
  ])
  t.is(statuses[0], 503)
  t.is(statuses.at(-1), 200)
  t.is(answer.choices.length, 1)
})

/** Reads a stream to its end; that it was aborted is no failure. */
async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  try {
    for await (const _ of stream);
  } catch (err) {
    if (!(err instanceof OpenAI.APIUserAbortError)) throw err
  }
}
