import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { jsonSchema, streamText, tool } from 'ai'
import test from 'brittle'
import OpenAI from 'openai'
import { startDoor } from './helpers/door.js'
import { checkedFetch } from './helpers/openai-schemas.js'

/** Several calls in one answer, and answers with calls that are cut, through the clients that people use. */

const model = 'infermesh-tiny'
const question = 'What is the weather in Paris, and what time is it?'
const messages = [{ role: 'user' as const, content: question }]
const parameters = {
  type: 'object',
  properties: { city: { type: 'string', enum: ['Paris', 'Rome'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
  required: ['city', 'days'],
  additionalProperties: false,
}
const nothing = { type: 'object', properties: {}, additionalProperties: false }
const functions = [
  { name: 'weather', description: 'Tells the weather', parameters },
  { name: 'clock', parameters: nothing },
]
const tools = functions.map((one) => ({ type: 'function' as const, function: one }))

/** Name and arguments of each call. */
type Calls = [name: string, json: string][]

interface Said {
  text: string
  calls: Calls
  /** `length`, or that the model is done. */
  cut: boolean
  tokens: number
}

const isObject = (json: string): boolean => {
  try {
    return typeof JSON.parse(json) === 'object'
  } catch {
    return false
  }
}

test('several calls, and calls that are cut, whole and streamed', { timeout: 240_000 }, async (t) => {
  // One slot, whose cache is the same for all: so the same seed gives the same answer.
  const door = await startDoor(t, { engine: { slots: 1 } })
  const checked = checkedFetch()
  const openai = new OpenAI({ baseURL: `${door.url}/v1`, apiKey: door.key, fetch: checked.fetch })
  const ask = { model, messages, tools, tool_choice: 'required' as const, temperature: 1.3, top_p: 1 }
  const callsOf = ({ message }: OpenAI.Chat.ChatCompletion.Choice): Calls =>
    (message.tool_calls ?? []).flatMap((one) =>
      one.type === 'function' ? [[one.function.name, one.function.arguments]] : [],
    )

  let seed = -1
  let calls: Calls = []
  await openai.chat.completions.create({ ...ask, max_tokens: 1 })
  while (calls.length < 2 && seed < 40) {
    const { choices } = await openai.chat.completions.create({ ...ask, seed: ++seed, max_tokens: 400 })
    if (choices[0]?.finish_reason === 'tool_calls') calls = callsOf(choices[0])
  }
  t.ok(calls.length > 1, `seed ${seed} makes ${calls.length} calls`)
  const seeded = { ...ask, seed, max_tokens: 400 }

  await t.test('the pieces of several calls add up to the same as the whole', async (t) => {
    const seen: { id: string; name: string; json: string }[] = []
    const stream = await openai.chat.completions.create({ ...seeded, stream: true })
    let last = 0
    for await (const { choices } of stream) {
      t.absent(choices[0]?.delta.content)
      for (const { index, id, type, function: called } of choices[0]?.delta.tool_calls ?? []) {
        if (index < last || index > last + 1) t.fail(`call ${index} behind call ${last}`)
        last = index
        // The first piece of each has its id, its type and its name, and no other has.
        const first = seen[index] === undefined
        if ((id !== undefined) !== first || (type !== undefined) !== first) t.fail(`id of call ${index}`)
        if ((called?.name !== undefined) !== first) t.fail(`name of call ${index}`)
        seen[index] ??= { id: id ?? '', name: called?.name ?? '', json: '' }
        seen[index].json += called?.arguments ?? ''
      }
    }
    t.alike(
      seen.map(({ name, json }) => [name, json]),
      calls,
    )
    t.is(new Set(seen.map(({ id }) => id)).size, calls.length)
    t.ok(seen.every(({ json }) => isObject(json)))
  })

  await t.test('the helper of the SDK assembles the same', async (t) => {
    const whole = await openai.chat.completions.create({ ...seeded, logprobs: true })
    const streamed = await openai.chat.completions.stream({ ...seeded, logprobs: true }).finalChatCompletion()
    const [one, other] = [whole.choices[0], streamed.choices[0]]
    if (one === undefined || other === undefined) throw new Error('there is no choice')
    t.alike(callsOf(other), callsOf(one))
    t.is(other.message.content, one.message.content)
    t.is(other.finish_reason, one.finish_reason)
    t.is(one.logprobs, null, 'nothing is said')
    t.is(other.logprobs, null)
  })

  await t.test('the AI SDK finds the same calls', async (t) => {
    const provider = createOpenAICompatible({ name: 'infermesh', baseURL: `${door.url}/v1`, apiKey: door.key })
    const { toolCalls } = streamText({
      model: provider(model),
      prompt: question,
      temperature: 1.3,
      topP: 1,
      seed,
      maxOutputTokens: 400,
      toolChoice: 'required',
      tools: {
        weather: tool({ description: 'Tells the weather', inputSchema: jsonSchema(parameters as object) }),
        clock: tool({ inputSchema: jsonSchema(nothing as object) }),
      },
    })
    const found = await toolCalls
    t.ok(found.length > 0)
    t.is(new Set(found.map(({ toolCallId }) => toolCallId)).size, found.length)
    for (const { toolName, input } of found) {
      if (toolName === 'clock') t.alike(input, {})
      else t.ok(['Paris', 'Rome'].includes((input as { city: string }).city))
    }
  })

  await t.test('responses tell each call as an item of its own', async (t) => {
    const body = {
      model,
      input: question,
      tools: functions.map((one) => ({ type: 'function' as const, strict: true, ...one })),
      tool_choice: 'required' as const,
      store: false,
    }
    let most = 0
    for (let i = 0; i < 6; i++) {
      const stream = await openai.responses.create({ ...body, temperature: 1.5, max_output_tokens: 400, stream: true })
      const items: { id: string; name: string; json: string; done: string; closed: boolean }[] = []
      for await (const event of stream) {
        if (event.type === 'response.output_item.added' && event.item.type === 'function_call') {
          t.is(event.output_index, items.length)
          t.ok(
            items.every(({ closed }) => closed),
            'one after another',
          )
          t.is(event.item.arguments, '')
          items.push({ id: event.item.id ?? '', name: event.item.name, json: '', done: '', closed: false })
        } else if (event.type === 'response.function_call_arguments.delta') {
          const item = items[event.output_index]
          if (item === undefined || item.id !== event.item_id || item.closed) t.fail(`${event.item_id} is not open`)
          else item.json += event.delta
        } else if (event.type === 'response.function_call_arguments.done') {
          const item = items[event.output_index]
          if (item !== undefined) item.done = event.arguments
        } else if (event.type === 'response.output_item.done' && event.item.type === 'function_call') {
          const item = items[event.output_index]
          if (item === undefined) continue
          item.closed = true
          t.is(event.item.arguments, item.json)
          t.is(event.item.name, item.name)
        } else if (event.type === 'response.completed') {
          t.alike(
            event.response.output.map((one) => one.type === 'function_call' && [one.id, one.arguments]),
            items.map(({ id, json }) => [id, json]),
          )
        }
      }
      t.ok(items.length > 0 && items.every(({ json, done, closed }) => isObject(json) && done === json && closed))
      t.is(new Set(items.map(({ id }) => id)).size, items.length)
      most = Math.max(most, items.length)
    }
    t.ok(most > 0)
  })

  const chatBody = { model, messages, temperature: 1.3, top_p: 1, seed }
  const fromChat = async (body: object, max_tokens: number): Promise<Said> => {
    const { choices, usage } = await openai.chat.completions.create({ ...chatBody, ...body, max_tokens })
    const [choice] = choices
    const old = choice?.message.function_call
    return {
      text: choice?.message.content ?? '',
      calls: old ? [[old.name, old.arguments]] : choice ? callsOf(choice) : [],
      cut: choice?.finish_reason === 'length',
      tokens: usage?.completion_tokens ?? 0,
    }
  }
  const fromStream = async (body: object, max_tokens: number): Promise<Said> => {
    const stream = await openai.chat.completions.create({
      ...chatBody,
      ...body,
      max_tokens,
      stream: true,
      stream_options: { include_usage: true },
    })
    const said: Said = { text: '', calls: [], cut: false, tokens: 0 }
    for await (const { choices, usage } of stream) {
      const { delta, finish_reason } = choices[0] ?? {}
      said.text += delta?.content ?? ''
      const pieces = delta?.tool_calls ?? (delta?.function_call ? [{ index: 0, function: delta.function_call }] : [])
      for (const { index, function: called } of pieces) {
        said.calls[index] ??= [called?.name ?? '', '']
        said.calls[index][1] += called?.arguments ?? ''
      }
      if (finish_reason === 'length') said.cut = true
      said.tokens = usage?.completion_tokens ?? said.tokens
    }
    return said
  }
  const fromResponse = async (_body: object, max_output_tokens: number): Promise<Said> => {
    const { output, output_text, status, incomplete_details, usage } = await openai.responses.create({
      model,
      input: question,
      tools: functions.map((one) => ({ type: 'function' as const, strict: true, ...one })),
      tool_choice: { type: 'function', name: 'weather' },
      temperature: 0,
      store: false,
      max_output_tokens,
    })
    const cut = status === 'incomplete' && incomplete_details?.reason === 'max_output_tokens'
    const calls = output.flatMap((one): Calls => (one.type === 'function_call' ? [[one.name, one.arguments]] : []))
    return { text: output_text, calls, cut, tokens: usage?.output_tokens ?? 0 }
  }
  for (const [what, say, body] of [
    ['a chat', fromChat, { tools, tool_choice: 'required' }],
    ['a streamed chat', fromStream, { tools, tool_choice: 'required' }],
    ['a chat with functions', fromChat, { functions, function_call: { name: 'weather' } }],
    ['a streamed chat with functions', fromStream, { functions, function_call: { name: 'weather' } }],
    ['a response', fromResponse, {}],
  ] as const) {
    await t.test(`${what} that is cut anywhere tells a beginning of its calls, and no markup`, async (t) => {
      await say(body, 16)
      const all = await say(body, 400)
      t.ok(all.calls.length > 0 && !all.cut, JSON.stringify(all))
      t.ok(all.calls.every(([, json]) => isObject(json)))
      let empty = 0
      // Each of the first, where the marks are, and then some: the engine's own test cuts at every token.
      for (let most = 1; most < Math.min(all.tokens, 70); most += most < 12 ? 1 : 5) {
        const part = await say(body, most)
        const where = `after ${most} tokens: ${JSON.stringify(part)} of ${JSON.stringify(all)}`
        if (part.text !== '') t.fail(`text ${where}`)
        if (part.tokens !== most) t.fail(`usage ${where}`)
        for (const [i, [name, json]] of part.calls.entries()) {
          if (name !== all.calls[i]?.[0] || !all.calls[i][1].startsWith(json)) t.fail(`calls ${where}`)
        }
        if (!part.cut && !(part.calls.length > 0 && part.calls.every(([, json]) => isObject(json)))) t.fail(where)
        if (part.calls.length === 0) empty++
      }
      t.ok(empty > 0, 'of a name that is half there nothing is told')
    })
  }

  const { faults, checked: count } = await checked.faults()
  t.alike(faults, [], `${count} answers were checked`)
})
