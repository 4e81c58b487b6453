import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import OpenAI from 'openai'
import { homeFiles } from '../lib/home/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { type Door, startDoor } from './helpers/door.js'
import { codeOf, linked, start, startStranger, testOptions, until } from './helpers/mesh.js'

/** What lasts: responses and chats that are stored at one gateway and read at another, with the openai SDK. */

const model = 'infermesh-tiny'

/** A second gateway of the door's mesh, linked with the first. */
async function secondGateway(t: Test, door: Door, name = 'g2', flags: Record<string, unknown> = {}) {
  const gateway = await start(t, new GatewayWorker(testOptions(door.home, name, { http: { port: 0 }, gateway: flags })))
  await Promise.all([linked(door.gateway, gateway), linked(gateway, door.gateway)])
  const url = gateway.status().addresses.http ?? ''
  await until(async () => (await fetch(`${url}/readyz`)).status === 200, 'the second gateway is ready', 20_000)
  return { gateway, url }
}

function clientOf({ url }: { url: string }, apiKey: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })
}

type Failure = InstanceType<typeof OpenAI.APIError>
async function failure(promise: PromiseLike<unknown>): Promise<Failure> {
  try {
    await promise
  } catch (err) {
    return err as Failure
  }
  throw new Error('did not fail')
}

/** The files that a gateway keeps. */
function filesOf(door: Door, gateway: string): string[] {
  return readdirSync(join(homeFiles(door.home).worker('gateway', gateway), 'stored'))
}

test('a response that one gateway made is read, continued and deleted at another', { timeout: 90_000 }, async (t) => {
  const door = await startDoor(t)
  const other = await secondGateway(t, door)
  const [here, there] = [clientOf(door, door.key), clientOf(other, door.key)]
  const made = await here.responses.create({ model, input: 'What is the capital of France?', temperature: 0 })
  t.alike(made.usage?.input_tokens_details, { cached_tokens: 0, cache_write_tokens: 0 } as never)
  t.alike(await there.responses.retrieve(made.id), await here.responses.retrieve(made.id))
  t.is((await there.responses.retrieve(made.id)).output_text, made.output_text)
  t.is(filesOf(door, 'g1').length, 1)
  t.is(filesOf(door, 'g2').length, 0)

  await t.test('it is continued there, without any input too', async (t) => {
    const next = await there.responses.create({
      model,
      input: 'And of Spain?',
      previous_response_id: made.id,
      max_output_tokens: 4,
    })
    t.ok((next.usage?.input_tokens ?? 0) > (made.usage?.total_tokens ?? 0), 'the first exchange is part of the prompt')
    const more = await here.responses.create({ model, previous_response_id: next.id, max_output_tokens: 4 } as never)
    t.is((more as { status: string }).status, 'incomplete')
  })

  await t.test('what it said is referred to by its id', async (t) => {
    const question = { role: 'user' as const, content: 'What is the capital of France?' }
    const ask = (input: object[], of = there) =>
      of.responses.create({ model, input: input as never, temperature: 0, max_output_tokens: 4 })
    const [said] = made.output
    const whole = await ask([question, said as object, { role: 'user', content: 'And of Spain?' }])
    const reference = { type: 'item_reference', id: said?.id }
    const short = await ask([question, reference, { role: 'user', content: 'And of Spain?' }])
    t.alike([short.output_text, short.usage?.input_tokens], [whole.output_text, whole.usage?.input_tokens])
    t.is((await here.responses.inputItems.list(short.id, { order: 'asc' })).data[1]?.id, said?.id)
    const again = await ask([reference, reference, { type: 'item_reference', id: short.output[0]?.id }, question])
    t.is(again.status, 'incomplete', 'items of several responses, and one twice')
    for (const id of ['msg_none', `${said?.id}0`, said?.id?.replace('msg_', 'fc_'), made.id, '../x']) {
      const failed = await failure(ask([question, { type: 'item_reference', id }]))
      t.alike([failed.status, failed.param], [404, 'input[1].id'], id)
    }
    const none = await failure(ask([{ type: 'item_reference' }]))
    t.alike([none.status, none.param], [400, 'input[0].id'])
    const many = Array.from({ length: 65 }, (_, i) => ({ type: 'item_reference', id: `msg_${made.id.slice(5)}${i}_0` }))
    const tooMany = await failure(ask(many))
    t.alike([tooMany.status, tooMany.param], [400, 'input[64].id'])
    const include = ['message.output_text.logprobs' as const]
    const wide = await here.responses.create({ model, input: 'Hi', include, top_logprobs: 20, max_output_tokens: 30 })
    const wideReference = { type: 'item_reference', id: wide.output[0]?.id }
    const often = await failure(ask(Array.from({ length: 9000 }, () => wideReference)))
    t.is(often.status, 400, 'what is named often takes memory often')
    t.ok(/^input\[\d+\]\.id$/.test(String(often.param)), String(often.param))
  })

  await t.test('its input is listed in pages', async (t) => {
    const input = Array.from({ length: 45 }, (_, i) => ({ role: 'user' as const, content: `Line ${i}.` }))
    const long = await here.responses.create({ model, input, max_output_tokens: 2 })
    const lines = (data: readonly unknown[]) =>
      data.map((item) => (item as { content: { text: string }[] }).content[0]?.text)
    const first = await there.responses.inputItems.list(long.id)
    t.is(first.data.length, 20)
    t.is(first.has_more, true)
    t.is(lines(first.data)[0], 'Line 44.', 'the newest first')
    const all: unknown[] = []
    for await (const item of there.responses.inputItems.list(long.id, { order: 'asc', limit: 7 })) all.push(item)
    t.alike(
      lines(all),
      input.map(({ content }) => content),
    )
    const rest = await there.responses.inputItems.list(long.id, {
      order: 'asc',
      limit: 100,
      include: ['message.output_text.logprobs'],
    })
    t.alike([rest.data.length, rest.has_more], [45, false])
    for (const [query, param] of [
      [{ limit: 0 }, 'limit'],
      [{ limit: 101 }, 'limit'],
      [{ order: 'up' }, 'order'],
      [{ after: 'item_none' }, 'after'],
      [{ before: 'x' }, 'before'],
    ] as const) {
      const { status, param: named } = await failure(there.responses.inputItems.list(long.id, query as never))
      t.alike([status, named], [400, param])
    }
  })

  await t.test('items with the same id, or with none, are paged all the same', async (t) => {
    const ids = ['m1', 'm1', '', 'x'.repeat(300), undefined]
    const input = ids.map((id, i) => ({ type: 'message', role: 'user', content: `Line ${i}.`, id }))
    const { id } = await here.responses.create({ model, input: input as never, max_output_tokens: 2 })
    const seen = new Set<string>()
    for await (const item of there.responses.inputItems.list(id, { limit: 1, order: 'asc' })) seen.add(item.id ?? '')
    t.is(seen.size, ids.length)
    t.ok(seen.has('m1'))
  })

  await t.test('what is read by clients that leave takes no room afterwards', async (t) => {
    const skipped = { type: 'reasoning', summary: [], content: 'x'.repeat(1_500_000) }
    const input = [skipped, { role: 'user', content: 'Hi' }] as never
    const { id } = await here.responses.create({ model, input, max_output_tokens: 2 })
    const headers = { authorization: `Bearer ${door.key}` }
    for (let i = 0; i < 60; i++) {
      const leaving = new AbortController()
      const read = fetch(`${door.url}/v1/responses/${id}/input_items`, { headers, signal: leaving.signal })
      setTimeout(() => leaving.abort(), 2 + (i % 8))
      await read.then((response) => response.arrayBuffer()).catch(() => {})
    }
    const large = here.responses.create({ model, input, max_output_tokens: 2, store: false })
    t.is((await large).status, 'incomplete')
  })

  await t.test('what nobody has is not there, at either gateway', async (t) => {
    for (const client of [here, there]) {
      t.is((await failure(client.responses.retrieve('resp_none'))).status, 404)
      t.is((await failure(client.responses.delete('resp_none'))).status, 404)
      t.is((await failure(client.responses.inputItems.list('resp_none'))).status, 404)
      const unknown = await failure(client.responses.create({ model, input: 'Hi', previous_response_id: 'resp_none' }))
      t.alike(
        [unknown.status, unknown.code, unknown.param],
        [400, 'previous_response_not_found', 'previous_response_id'],
      )
    }
    const far = `resp_${'a'.repeat(150)}`
    for (const id of ['', far]) {
      const unknown = await failure(here.responses.create({ model, input: 'Hi', previous_response_id: id }))
      t.is(unknown.code, 'previous_response_not_found')
    }
    t.is((await failure(here.responses.delete(far))).status, 404)
    t.is((await failure(here.chat.completions.list({ after: far }))).param, 'after')
    const nothing = await failure(here.responses.create({ model } as never))
    t.alike([nothing.status, nothing.param], [400, 'input'])
  })

  await t.test('another key, of the same user too, does not see it', async (t) => {
    const stranger = await door.newKey({})
    const refused = await until(async () => {
      const { status } = await failure(clientOf(other, stranger).responses.retrieve(made.id))
      return status !== 401 && status
    }, 'the other gateway knows the key')
    t.is(refused, 404)
    t.is((await failure(clientOf(door, stranger).responses.retrieve(made.id))).status, 404)
    const input = [{ type: 'item_reference' as const, id: String(made.output[0]?.id) }]
    t.is((await failure(clientOf(other, stranger).responses.create({ model, input }))).status, 404)
    t.is((await failure(clientOf(other, stranger).responses.delete(made.id))).status, 404)
    t.ok(await here.responses.retrieve(made.id))
  })

  await t.test('deleted at the other gateway, it is gone from the disk of the first', async (t) => {
    const before = filesOf(door, 'g1').length
    await there.responses.delete(made.id)
    t.is(filesOf(door, 'g1').length, before - 1)
    t.is((await failure(here.responses.retrieve(made.id))).status, 404)
    t.is((await failure(there.responses.delete(made.id))).status, 404)
  })

  await t.test('a stream is stored by the time that it has ended', async (t) => {
    const stream = await there.responses.create({ model, input: 'Hi', max_output_tokens: 5, stream: true })
    let id = ''
    for await (const event of stream) if (event.type === 'response.incomplete') id = event.response.id
    t.is((await here.responses.retrieve(id)).id, id)
  })

  await t.test('a long one comes from the other gateway whole', async (t) => {
    const instructions = 'Be brief. '.repeat(150_000)
    const answer = await door.ask('/v1/responses', { input: 'x', instructions, max_output_tokens: 1 })
    if (answer.status === 200) {
      const { id } = (await answer.json()) as { id: string }
      t.is((await there.responses.retrieve(id)).instructions, instructions)
    } else {
      // Longer than the model's context: then what is long is what was sent and skipped.
      const reasoning = { type: 'reasoning', id: 'rs_1', summary: [{ type: 'summary_text', text: instructions }] }
      const sent = await door.ask('/v1/responses', {
        input: [reasoning, { role: 'user', content: 'x' }],
        max_output_tokens: 1,
      })
      const { id } = (await sent.json()) as { id: string }
      const { data } = await there.responses.inputItems.list(id, { order: 'asc' })
      t.alike(data[0], { status: 'completed', ...reasoning } as never)
      t.is(data.length, 2)
    }
  })
})

test('stored chats: listed over all gateways, read, changed and deleted at any', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const other = await secondGateway(t, door)
  const [here, there] = [clientOf(door, door.key), clientOf(other, door.key)]
  const ask = { model, max_tokens: 3, temperature: 0 }
  const chat = (content: string) => [{ role: 'user' as const, content }]
  const unkept = await here.chat.completions.create({ ...ask, messages: chat('Not kept') })
  const ids: string[] = []
  for (let i = 0; i < 12; i++) {
    const client = i % 3 === 0 ? there : here
    const messages = chat(`Question ${i}`)
    const metadata = { turn: String(i), side: i % 2 === 0 ? 'even' : 'odd' }
    if (i % 4 === 0) {
      const stream = await client.chat.completions.create({ ...ask, messages, store: true, metadata, stream: true })
      let id = ''
      for await (const chunk of stream) {
        id = chunk.id
        t.absent('store' in chunk)
      }
      ids.push(id)
    } else ids.push((await client.chat.completions.create({ ...ask, messages, store: true, metadata })).id)
  }

  await t.test('lists', async (t) => {
    const listed = async (client: OpenAI, query: OpenAI.ChatCompletionListParams) => {
      const found: string[] = []
      for await (const { id } of client.chat.completions.list(query)) found.push(id)
      return found
    }
    t.alike(await listed(here, {}), ids, 'the oldest first, without what was not to be stored')
    t.alike(await listed(there, { limit: 5 }), ids, 'in pages, at the other gateway')
    t.alike(await listed(there, { limit: 1, order: 'desc' }), ids.toReversed())
    t.alike(
      await listed(here, { metadata: { side: 'odd' }, limit: 2 }),
      ids.filter((_, i) => i % 2 === 1),
    )
    t.alike(await listed(here, { metadata: { side: 'odd', turn: '3' }, model }), [ids[3]])
    t.alike(await listed(here, { metadata: { side: 'od' } }), [])
    t.alike(await listed(here, { model: 'another' }), [])
    const page = await here.chat.completions.list({ limit: 2 })
    t.is(page.data[0]?.choices[0]?.message.role, 'assistant')
    t.is(page.has_more, true)
    const last = await here.chat.completions.list({ limit: 2, after: ids[9] ?? '' })
    t.is(last.has_more, false)
    for (const [query, param] of [
      [{ limit: 101 }, 'limit'],
      [{ after: 'chatcmpl-none' }, 'after'],
      [{ order: 'up' }, 'order'],
      [{ metadata: 'a' }, 'metadata'],
    ] as const) {
      const { status, param: named } = await failure(here.chat.completions.list(query as never))
      t.alike([status, named], [400, param])
    }
  })

  await t.test('one of the other gateway', async (t) => {
    const id = ids[1] ?? ''
    const read = await there.chat.completions.retrieve(id)
    t.alike(read, await here.chat.completions.retrieve(id))
    t.alike((read as { metadata?: object }).metadata, { turn: '1', side: 'odd' })
    t.is(read.choices[0]?.finish_reason, 'length')
    const messages = await there.chat.completions.messages.list(id)
    t.alike(messages.data[0], { id: `${id}-0`, role: 'user', content: 'Question 1', content_parts: null } as never)
    t.is(messages.has_more, false)
    const streamed = await here.chat.completions.retrieve(ids[0] ?? '')
    const plain = await here.chat.completions.create({ ...ask, messages: chat('Question 0') })
    t.is(streamed.choices[0]?.message.content, plain.choices[0]?.message.content, 'what was streamed is kept whole')

    const changed = await there.chat.completions.update(id, { metadata: { turn: 'new' } })
    t.alike((changed as { metadata?: object }).metadata, { turn: 'new' })
    t.is(changed.choices[0]?.message.content, read.choices[0]?.message.content)
    t.alike(
      (await here.chat.completions.list({ metadata: { turn: 'new' } })).data.map((one) => one.id),
      [id],
    )
    t.alike((await here.chat.completions.list({ metadata: { turn: '1' } })).data, [])
    const wrong = await failure(there.chat.completions.update(id, { metadata: { a: 'x'.repeat(513) } }))
    t.alike([wrong.status, wrong.param], [400, 'metadata.a'])

    t.alike(await there.chat.completions.delete(id), { object: 'chat.completion.deleted', id, deleted: true })
    for (const client of [here, there]) {
      t.is((await failure(client.chat.completions.retrieve(id))).status, 404)
      t.is((await failure(client.chat.completions.delete(id))).status, 404)
      t.is((await failure(client.chat.completions.update(id, { metadata: {} }))).status, 404)
      t.is((await failure(client.chat.completions.messages.list(id))).status, 404)
    }
    t.is((await failure(here.chat.completions.retrieve(unkept.id))).status, 404)
    t.is((await failure(here.responses.retrieve(ids[2] ?? ''))).status, 404, 'a chat is no response')
  })

  await t.test('content in parts, tools, and many messages in pages', async (t) => {
    const parts = [
      { type: 'text' as const, text: 'One' },
      { type: 'text' as const, text: 'two' },
    ]
    const messages = Array.from({ length: 30 }, (_, i) => ({
      role: 'user' as const,
      content: i === 0 ? parts : `${i}`,
    }))
    const { id } = await here.chat.completions.create({ ...ask, messages, store: true })
    const all: string[] = []
    for await (const message of there.chat.completions.messages.list(id, { limit: 7 })) all.push(message.id)
    t.alike(
      all,
      messages.map((_, i) => `${id}-${i}`),
    )
    const first = (await there.chat.completions.messages.list(id)).data[0]
    t.alike(first?.content_parts, parts)
    t.is(first?.content, 'One\ntwo')
  })

  await t.test('metadata that is none is refused where it would be stored', async (t) => {
    const body = { ...ask, messages: chat('Hi'), metadata: { a: 1 } }
    const refused = await failure(here.chat.completions.create({ ...body, store: true } as never))
    t.alike([refused.status, refused.param], [400, 'metadata.a'])
    t.ok(await here.chat.completions.create(body as never))
  })

  await t.test('while a gateway is away, no list looks as if it were whole', async (t) => {
    await other.gateway.stop()
    const missed = await until(async () => {
      const err = await failure(here.chat.completions.list())
      return err.status === 503 && err
    }, 'it is missed')
    t.ok(missed.message.includes('g2'), missed.message)
  })
})

test('what a gateway keeps is there after its restart; without it that is said', { timeout: 90_000 }, async (t) => {
  const door = await startDoor(t)
  const other = await secondGateway(t, door)
  const [here, there] = [clientOf(door, door.key), clientOf(other, door.key)]
  const made = await there.responses.create({ model, input: 'Hi', max_output_tokens: 3 })
  await other.gateway.stop()
  const gone = await until(async () => {
    const err = await failure(here.responses.retrieve(made.id))
    return err.status === 503 && err
  }, 'the gateway is missed')
  t.is(gone.headers?.get('retry-after'), '2')
  t.ok(gone.message.includes('g2'), gone.message)
  const unknown = await failure(here.responses.create({ model, input: 'Hi', previous_response_id: made.id }))
  t.is(unknown.status, 503)
  t.is((await failure(here.responses.delete(made.id))).status, 503)
  const own = await here.responses.create({ model, input: 'Hi', max_output_tokens: 3 })
  t.is((await here.responses.retrieve(own.id)).id, own.id, 'what is here is read all the same')

  const again = await secondGateway(t, door)
  t.is((await here.responses.retrieve(made.id)).id, made.id)
  t.is((await clientOf(again, door.key).responses.retrieve(made.id)).id, made.id)
  t.is((await failure(here.responses.retrieve('resp_none'))).status, 404)
})

function ended(client: OpenAI, id: string) {
  return until(
    async () => {
      const response = await client.responses.retrieve(id)
      return response.status !== 'queued' && response.status !== 'in_progress' && response
    },
    'it has ended',
    30_000,
  )
}

/** An engine whose answers are as long as they may be, and come slowly. */
const SLOW = { STAND_IN_TOKENS_PER_S: '100', STAND_IN_DIE_AFTER: '0' }

test('a response in the background is followed from another gateway to its end', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const other = await secondGateway(t, door)
  const [here, there] = [clientOf(door, door.key), clientOf(other, door.key)]
  const made = await here.responses.create({
    model,
    input: 'What is the capital of France?',
    temperature: 0,
    background: true,
  })
  t.alike([made.status, made.background, made.output_text], ['queued', true, ''])
  const whole = await ended(there, made.id)
  t.is(whole.status, 'completed')
  t.ok(/Paris/.test(whole.output_text), whole.output_text)
  t.ok((whole.usage?.output_tokens ?? 0) > 2)
  t.is((await there.responses.inputItems.list(made.id)).data.length, 1)
  const next = await there.responses.create({
    model,
    input: 'And of Spain?',
    previous_response_id: made.id,
    max_output_tokens: 3,
  })
  t.ok((next.usage?.input_tokens ?? 0) > (whole.usage?.total_tokens ?? 0))
  t.is((await there.responses.cancel(made.id)).status, 'completed', 'what has ended stays as it is')
})

test('responses in the background are cancelled and deleted at any gateway', { timeout: 90_000 }, async (t) => {
  const door = await startDoor(t, { standIn: SLOW })
  const other = await secondGateway(t, door)
  const [here, there] = [clientOf(door, door.key), clientOf(other, door.key)]
  const long = { model, input: 'Tell me a story.', background: true, temperature: 2, max_output_tokens: 4000 }
  await t.test('the output so far is told, and cancelling keeps it', async (t) => {
    const { id } = await here.responses.create(long)
    const soFar = await until(async () => {
      const response = await there.responses.retrieve(id)
      return response.output_text.length > 40 && response
    }, 'there is some output')
    t.is(soFar.status, 'in_progress')
    const early = await failure(there.responses.create({ model, input: 'Go on', previous_response_id: id }))
    t.alike([early.status, early.param], [400, 'previous_response_id'])
    const cancelled = await there.responses.cancel(id)
    t.is(cancelled.status, 'cancelled')
    const { output_text: kept } = await there.responses.retrieve(id)
    t.ok(kept.startsWith(soFar.output_text))
    t.is(door.gateway.load().running, 0, 'its slot is free')
    t.alike(await here.responses.retrieve(id), await there.responses.retrieve(id))
    t.is((await here.responses.cancel(id)).status, 'cancelled')
  })

  await t.test('deleting ends it, and nothing of it comes back', async (t) => {
    const { id } = await here.responses.create(long)
    const before = filesOf(door, 'g1').length
    await there.responses.delete(id)
    t.is((await failure(here.responses.retrieve(id))).status, 404)
    await until(() => door.gateway.load().running === 0, 'nothing runs')
    t.is(filesOf(door, 'g1').length, before - 1)
  })

  await t.test('a stream whose client goes away goes on', async (t) => {
    const stream = await here.responses.create({ ...long, max_output_tokens: 200, stream: true })
    let id = ''
    for await (const event of stream) {
      if (event.type === 'response.created') id = event.response.id
      if (event.type === 'response.output_text.delta') break
    }
    const whole = await ended(there, id)
    t.ok(['completed', 'incomplete'].includes(whole.status ?? ''), whole.status)
    const second = await here.responses.create({ ...long, max_output_tokens: 5, stream: true })
    const numbers: number[] = []
    let last = ''
    for await (const event of second) {
      numbers.push(event.sequence_number)
      last = event.type
    }
    t.alike(
      numbers,
      numbers.map((_, i) => i),
    )
    t.ok(['response.completed', 'response.incomplete'].includes(last), last)
  })

  await t.test('what cannot be done is refused at once', async (t) => {
    const unkept = await failure(here.responses.create({ ...long, store: false }))
    t.alike([unkept.status, unkept.param], [400, 'background'])
    t.is((await failure(here.responses.create({ ...long, model: 'none' }))).status, 404)
    const plain = await here.responses.create({ model, input: 'Hi', max_output_tokens: 2 })
    t.is((await failure(there.responses.cancel(plain.id))).status, 400)
    t.is((await failure(there.responses.cancel('resp_none'))).status, 404)
    const again = await failure(there.responses.retrieve(plain.id, { stream: true }))
    t.alike([again.status, again.param], [400, 'stream'])
    const narrow = clientOf(door, await door.newKey({ concurrentRequests: 1 }))
    const { id } = await narrow.responses.create(long)
    t.is((await failure(narrow.responses.create(long))).status, 429, 'it counts as any other')
    await narrow.responses.cancel(id)
  })
})

test('a response in the background fails with its gateway, and says so after the restart', {
  timeout: 90_000,
}, async (t) => {
  const door = await startDoor(t, { standIn: SLOW })
  const settings = { gateway: {}, worker: { drainMs: 100 } }
  const gateway = await start(t, new GatewayWorker(testOptions(door.home, 'g2', { http: { port: 0 }, ...settings })))
  await until(async () => (await fetch(`${gateway.status().addresses.http}/readyz`)).ok, 'ready', 20_000)
  const there = clientOf({ url: gateway.status().addresses.http ?? '' }, door.key)
  const { id } = await there.responses.create({
    model,
    input: 'Tell me a story.',
    background: true,
    temperature: 2,
    max_output_tokens: 6000,
  })
  await until(async () => (await there.responses.retrieve(id)).output_text.length > 20, 'there is some output')
  await gateway.stop()
  const again = await secondGateway(t, door)
  for (const url of [again.url, door.url]) {
    const response = await clientOf({ url }, door.key).responses.retrieve(id)
    t.is(response.status, 'failed')
    t.is(response.error?.code as string, 'interrupted')
  }
})

test('a revoked key’s responses leave the disk', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const key = await door.newKey({})
  await clientOf(door, key).responses.create({ model, input: 'Hi', max_output_tokens: 2 })
  await clientOf(door, door.key).responses.create({ model, input: 'Hi', max_output_tokens: 2 })
  t.is(filesOf(door, 'g1').length, 2)
  await door.authority.call('keys.revoke', { id: key.split('_')[1] ?? '' }, { key: door.key })
  await until(() => filesOf(door, 'g1').length === 1, 'its response is gone')
})

test('where nothing is stored, every answer says so', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, { gateway: { storedBytes: 0 } })
  const client = clientOf(door, door.key)
  const made = await client.responses.create({ model, input: 'Hi', max_output_tokens: 2 })
  t.is((made as { store?: boolean }).store, false)
  t.is((await failure(client.responses.retrieve(made.id))).status, 404)
  const stream = await client.responses.create({ model, input: 'Hi', max_output_tokens: 2, stream: true })
  for await (const event of stream) {
    if (event.type === 'response.incomplete') t.is((event.response as { store?: boolean }).store, false)
  }
})

test('a response in the background whose end cannot be stored has failed, and says so', {
  timeout: 60_000,
}, async (t) => {
  const door = await startDoor(t, { gateway: { storedBytes: 160_000 } })
  const client = clientOf(door, door.key)
  const include = ['message.output_text.logprobs' as const]
  const long = { model, input: 'Tell me a story.', max_output_tokens: 100, top_logprobs: 20, include }
  const made = await client.responses.create({ ...long, background: true })
  const whole = await ended(client, made.id)
  t.alike([whole.status, whole.error?.code], ['failed', 'not_stored'])
})

test('only gateways may ask what is stored', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const client = await startStranger(t, door.home, door.gateway.publicKey)
  const whose = { id: 'resp_x', keyId: 'k', user: 'admin' }
  for (const name of ['stored.find', 'stored.delete', 'stored.cancel'] as const) {
    t.is(await codeOf(client.call(name, whose, { key: door.key })), 'FORBIDDEN', name)
  }
})
