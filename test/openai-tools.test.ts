import test from 'brittle'
import OpenAI from 'openai'
import { startDoor } from './helpers/door.js'
import { checkedFetch } from './helpers/openai-schemas.js'
import { typed } from './helpers/openai-types.js'

/** Tool calls, log-probabilities, biases and responses through the official SDK, with the embedded model. */

const model = 'infermesh-tiny'
const messages = [{ role: 'user' as const, content: 'What is the weather in Paris?' }]
const parameters = {
  type: 'object',
  properties: { city: { type: 'string', enum: ['Paris', 'Rome'] }, days: { type: 'integer' } },
  required: ['city', 'days'],
  additionalProperties: false,
}
const weather = {
  type: 'function' as const,
  function: { name: 'weather', description: 'Tells the weather', parameters },
}
const clock = {
  type: 'function' as const,
  function: { name: 'clock', parameters: { type: 'object', properties: {}, additionalProperties: false } },
}

function isWeather(text: string | undefined): boolean {
  const { city, days } = JSON.parse(text ?? '') as { city: string; days: number }
  return ['Paris', 'Rome'].includes(city) && Number.isInteger(days)
}

test('tools, log-probabilities, biases and responses', { timeout: 180_000 }, async (t) => {
  const door = await startDoor(t)
  const checked = checkedFetch()
  const openai = new OpenAI({ baseURL: `${door.url}/v1`, apiKey: door.key, fetch: checked.fetch })
  const named = { type: 'function' as const, function: { name: 'weather' } }

  await t.test('a tool that must be called is called, with arguments that fit', async (t) => {
    for (const tool_choice of ['required' as const, named]) {
      const tools = tool_choice === 'required' ? [weather] : [clock, weather]
      const { choices } = await openai.chat.completions.create({
        model,
        messages,
        tools,
        tool_choice,
        temperature: 0,
        max_tokens: 200,
      })
      const [call] = choices[0]?.message.tool_calls ?? []
      t.is(choices[0]?.finish_reason, 'tool_calls')
      t.ok(call?.type === 'function' && call.function.name === 'weather' && isWeather(call.function.arguments))
      t.ok(call?.id)
    }
  })

  await t.test('streamed, the pieces of a call add up to the same', async (t) => {
    const stream = await openai.chat.completions.create({
      model,
      messages,
      tools: [weather],
      tool_choice: named,
      temperature: 0,
      max_tokens: 200,
      stream: true,
    })
    let args = ''
    let name = ''
    let reason = ''
    let pieces = 0
    for await (const { choices } of stream) {
      const [delta] = choices[0]?.delta.tool_calls ?? []
      if (delta !== undefined) pieces++
      name += delta?.function?.name ?? ''
      args += delta?.function?.arguments ?? ''
      reason = choices[0]?.finish_reason ?? reason
    }
    t.is(name, 'weather')
    t.ok(isWeather(args), args)
    t.is(reason, 'tool_calls')
    t.ok(pieces > 1, `${pieces} pieces`)
  })

  await t.test('no tool is called where none may be', async (t) => {
    const { choices } = await openai.chat.completions.create({
      model,
      messages,
      tools: [weather],
      tool_choice: 'none',
      max_tokens: 20,
    })
    t.is(choices[0]?.message.tool_calls, undefined)
    t.not(choices[0]?.finish_reason, 'tool_calls')
  })

  await t.test('what a tool gave back goes into the conversation', async (t) => {
    const call = {
      id: 'call_1',
      type: 'function' as const,
      function: { name: 'weather', arguments: '{"city":"Paris","days":1}' },
    }
    const { choices } = await openai.chat.completions.create({
      model,
      messages: [
        ...messages,
        { role: 'assistant', content: null, tool_calls: [call] },
        { role: 'tool', tool_call_id: 'call_1', content: 'sunny' },
      ],
      tools: [weather],
      tool_choice: 'none',
      max_tokens: 20,
    })
    t.is(choices.length, 1)
  })

  await t.test('functions, the older way', async (t) => {
    const { choices } = await openai.chat.completions.create({
      model,
      messages,
      functions: [weather.function],
      function_call: { name: 'weather' },
      temperature: 0,
      max_tokens: 200,
    })
    t.is(choices[0]?.finish_reason, 'function_call')
    t.is(choices[0]?.message.function_call?.name, 'weather')
    t.ok(isWeather(choices[0]?.message.function_call?.arguments))
  })

  await t.test('log-probabilities of each token and of others', async (t) => {
    const ask = { model, messages, max_tokens: 5, temperature: 0, logprobs: true, top_logprobs: 3 }
    const { choices } = await openai.chat.completions.create(ask)
    const content = choices[0]?.logprobs?.content ?? []
    t.is(content.length, 5)
    for (const { token, bytes, logprob, top_logprobs } of content) {
      t.ok(logprob <= 0 && top_logprobs.length === 3)
      t.is(Buffer.from(bytes ?? []).toString(), token)
      t.ok(Math.abs((top_logprobs[0]?.logprob ?? 1) - logprob) < 1e-6, 'greedy takes the likeliest')
    }
    t.is(content.map(({ token }) => token).join(''), choices[0]?.message.content)
    const stream = await openai.chat.completions.create({ ...ask, stream: true })
    const streamed: string[] = []
    for await (const chunk of stream)
      for (const { token } of chunk.choices[0]?.logprobs?.content ?? []) streamed.push(token)
    t.alike(
      streamed,
      content.map(({ token }) => token),
    )
    const text = await openai.completions.create({
      model,
      prompt: 'Once upon',
      max_tokens: 3,
      logprobs: 2,
      temperature: 0,
    })
    t.is(text.choices[0]?.logprobs?.tokens?.length, 3)
    t.is(text.choices[0]?.logprobs?.text_offset?.[0], 0)
  })

  await t.test('a bias forces a token, or forbids it', async (t) => {
    const ask = { model, prompt: 'The capital of France is', max_tokens: 3, temperature: 0, logprobs: 0 }
    const tokensWith = async (logit_bias: Record<string, number>) =>
      (await openai.completions.create({ ...ask, logit_bias })).choices[0]?.logprobs?.tokens ?? []
    const forced = await tokensWith({ 1000: 100 })
    t.is(forced.length, 3)
    t.is(new Set(forced).size, 1, forced.join('|'))
    t.not((await tokensWith({ 1001: 100 }))[0], forced[0])
    t.not((await tokensWith({ 1000: -100 }))[0], forced[0])
  })

  await t.test('responses: whole, streamed, continued, read again and deleted', async (t) => {
    const first = await openai.responses.create({
      model,
      input: 'What is the capital of France?',
      instructions: 'Be brief.',
      temperature: 0,
    })
    t.ok(/Paris/.test(first.output_text), first.output_text)
    t.is(first.status, 'completed')
    t.is((await openai.responses.retrieve(first.id)).output_text, first.output_text)
    const items = await openai.responses.inputItems.list(first.id)
    t.is(items.data.length, 1)
    const next = await openai.responses.create({
      model,
      input: 'And of Spain?',
      previous_response_id: first.id,
      max_output_tokens: 4,
    })
    t.is(next.status, 'incomplete')
    t.is(next.incomplete_details?.reason, 'max_output_tokens')
    t.ok(
      (next.usage?.input_tokens ?? 0) > (first.usage?.output_tokens ?? 0) + 5,
      'the first exchange is part of the prompt',
    )
    const stream = await openai.responses.create({
      model,
      input: 'What is the capital of France?',
      temperature: 0,
      stream: true,
    })
    const types: string[] = []
    let text = ''
    for await (const event of stream) {
      types.push(event.type)
      if (event.type === 'response.output_text.delta') text += event.delta
      if (event.type === 'response.completed') t.is(event.response.output_text ?? text, text)
    }
    t.ok(/Paris/.test(text))
    t.alike(types.slice(0, 4), [
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
    ])
    t.alike(types.slice(-4), [
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ])
    await openai.responses.delete(first.id)
    t.is((await door.ask(`/v1/responses/${first.id}`)).status, 404)
    const forgotten = await openai.responses.create({ model, input: 'Hi', store: false, max_output_tokens: 2 })
    t.is((await door.ask(`/v1/responses/${forgotten.id}`)).status, 404)
    const other = await door.newKey({})
    const theirs = await fetch(`${door.url}/v1/responses/${next.id}`, { headers: { authorization: `Bearer ${other}` } })
    t.is(theirs.status, 404, 'another key does not see it')
  })

  await t.test('responses with a tool, and what it gave back', async (t) => {
    const tools = [{ type: 'function' as const, name: 'weather', parameters, strict: true }]
    const asked = await openai.responses.create({
      model,
      input: 'The weather in Paris?',
      tools,
      tool_choice: 'required',
      temperature: 0,
      max_output_tokens: 200,
    })
    const call = asked.output.find(({ type }) => type === 'function_call')
    t.ok(call?.type === 'function_call' && call.name === 'weather' && isWeather(call.arguments))
    if (call?.type !== 'function_call') return
    const told = await openai.responses.create({
      model,
      previous_response_id: asked.id,
      input: [{ type: 'function_call_output', call_id: call.call_id, output: 'sunny' }],
      tools,
      tool_choice: 'none',
      max_output_tokens: 8,
    })
    t.ok(told.output.some(({ type }) => type === 'message'))
    const stream = await openai.responses.create({
      model,
      input: 'The weather in Rome?',
      tools,
      tool_choice: 'required',
      max_output_tokens: 200,
      stream: true,
    })
    let args = ''
    let done = ''
    for await (const event of stream) {
      if (event.type === 'response.function_call_arguments.delta') args += event.delta
      if (event.type === 'response.function_call_arguments.done') done = event.arguments
    }
    t.ok(isWeather(args), args)
    t.is(args, done)
  })

  const { faults, checked: count } = await checked.faults()
  t.alike(faults, [], `${count} answers were checked`)
  t.comment(`${typed.looked} objects, ${typed.fit} are of OpenAI’s types`)
})
