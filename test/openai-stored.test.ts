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

test('only gateways may ask what is stored', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const client = await startStranger(t, door.home, door.gateway.publicKey)
  const whose = { id: 'resp_x', keyId: 'k', user: 'admin' }
  for (const name of ['stored.find', 'stored.delete', 'stored.cancel'] as const) {
    t.is(await codeOf(client.call(name, whose, { key: door.key })), 'FORBIDDEN', name)
  }
})
