import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool } from 'ai'
import test from 'brittle'
import OpenAI from 'openai'
import { z } from 'zod'
import { startDoor } from './helpers/door.js'
import { checkedFetch } from './helpers/openai-schemas.js'
import { typed } from './helpers/openai-types.js'

/** Agents as people write them: rounds of calls and what they gave back, with the two SDKs of most programs. */

const model = 'infermesh-tiny'
const question = 'What is the weather in Paris?'
const where = z.object({ city: z.enum(['Paris', 'Rome']), days: z.int().min(1).max(9) })
type Where = z.infer<typeof where>
const parameters = {
  type: 'object',
  properties: { city: { type: 'string', enum: ['Paris', 'Rome'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
  required: ['city', 'days'],
  additionalProperties: false,
}
const forecast = ({ city, days }: Where) => ({ city, sky: 'clear', days })

test('the AI SDK: objects, text, and rounds of tools', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const checked = checkedFetch()
  const mesh = createOpenAICompatible({
    name: 'mesh',
    baseURL: `${door.url}/v1`,
    apiKey: door.key,
    fetch: checked.fetch,
    supportsStructuredOutputs: true,
    includeUsage: true,
  })(model)
  const settings = { model: mesh, maxRetries: 0, maxOutputTokens: 300, seed: 1 }
  const person = z.object({
    name: z.string().max(12),
    age: z.int().min(0).max(120),
    tags: z.array(z.string().max(6)).max(2),
  })

  await t.test('generateObject and streamObject', async (t) => {
    const { object, usage } = await generateObject({ ...settings, schema: person, prompt: 'A person.' })
    t.ok(person.safeParse(object).success, JSON.stringify(object))
    t.ok((usage.outputTokens ?? 0) > 0)
    const stream = streamObject({ ...settings, schema: person, prompt: 'A person.' })
    let parts = 0
    for await (const _ of stream.partialObjectStream) parts++
    t.ok(parts > 1, `${parts} parts`)
    t.ok(person.safeParse(await stream.object).success)
  })

  await t.test('streamText', async (t) => {
    const stream = streamText({ ...settings, temperature: 0, prompt: 'What is the capital of France?' })
    let text = ''
    for await (const piece of stream.textStream) text += piece
    t.ok(/Paris/.test(text), text)
    t.is(await stream.finishReason, 'stop')
    t.ok(((await stream.usage).outputTokens ?? 0) > 0)
  })

  await t.test('tools that are called, answered, and spoken of', async (t) => {
    for (const toolChoice of ['required' as const, { type: 'tool' as const, toolName: 'weather' as const }]) {
      const asked: Where[] = []
      const weather = tool({
        description: 'Tells the weather',
        inputSchema: where,
        execute: async (input) => {
          asked.push(input)
          return forecast(input)
        },
      })
      const { steps, toolResults } = await generateText({
        ...settings,
        prompt: question,
        tools: { weather },
        toolChoice,
        stopWhen: stepCountIs(2),
        // The first round must call, the second may speak.
        prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? toolChoice : 'none' }),
      })
      t.is(steps.length, 2)
      t.is(steps[0]?.finishReason, 'tool-calls')
      t.ok((steps[0]?.toolCalls.length ?? 0) >= 1)
      t.ok(asked.length >= 1 && asked.every((input) => where.safeParse(input).success), JSON.stringify(asked))
      t.is(toolResults.length, 0, 'the last round has none')
      t.is(steps[1]?.toolCalls.length, 0)
    }
  })

  await t.test('streamed, with a tool that must be called', async (t) => {
    const stream = streamText({
      ...settings,
      prompt: question,
      tools: { weather: tool({ inputSchema: where, execute: async (input) => forecast(input) }) },
      toolChoice: 'required',
    })
    const kinds = new Set<string>()
    for await (const { type } of stream.fullStream) kinds.add(type)
    for (const kind of ['tool-input-start', 'tool-input-delta', 'tool-call', 'tool-result', 'finish']) {
      t.ok(kinds.has(kind), kind)
    }
    for (const { input } of await stream.toolCalls) t.ok(where.safeParse(input).success)
  })

  const { faults, checked: count } = await checked.faults()
  t.alike(faults, [], `${count} answers were checked`)
  t.comment(`${typed.looked} objects, ${typed.fit} are of OpenAI’s types`)
})

test('the OpenAI SDK: agent loops by hand and by its runner', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const checked = checkedFetch()
  const openai = new OpenAI({ baseURL: `${door.url}/v1`, apiKey: door.key, maxRetries: 0, fetch: checked.fetch })
  const weather = { type: 'function' as const, function: { name: 'weather', parameters } }
  const clock = {
    type: 'function' as const,
    function: { name: 'clock', parameters: { type: 'object', properties: {}, additionalProperties: false } },
  }
  const run = (name: string, args: string): string =>
    name === 'clock' ? '12:00' : JSON.stringify(forecast(where.parse(JSON.parse(args))))

  for (const stream of [false, true]) {
    await t.test(`three rounds by hand, ${stream ? 'streamed' : 'whole'}`, async (t) => {
      const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: question }]
      const choices: OpenAI.ChatCompletionToolChoiceOption[] = [
        'required',
        { type: 'function', function: { name: 'clock' } },
        'none',
      ]
      for (const [round, tool_choice] of choices.entries()) {
        const asked = { model, messages, tools: [weather, clock], tool_choice, max_tokens: 300, seed: round + 1 }
        const completion = stream
          ? await openai.chat.completions.stream(asked).finalChatCompletion()
          : await openai.chat.completions.create(asked)
        const message = completion.choices[0]?.message
        if (message === undefined) return t.fail('no answer')
        messages.push(message)
        const calls = message.tool_calls ?? []
        t.is(calls.length > 0, tool_choice !== 'none', `round ${round}: ${calls.length} calls`)
        if (round === 1) t.ok(calls.every((call) => call.type === 'function' && call.function.name === 'clock'))
        t.is(new Set(calls.map(({ id }) => id)).size, calls.length, 'each call has an id of its own')
        for (const call of calls) {
          if (call.type !== 'function') return t.fail('no function')
          messages.push({
            role: 'tool',
            tool_call_id: call.id,
            content: run(call.function.name, call.function.arguments),
          })
        }
      }
    })

    await t.test(`runTools, ${stream ? 'streamed' : 'whole'}`, async (t) => {
      const asked: Where[] = []
      const body = {
        model,
        messages: [{ role: 'user' as const, content: question }],
        max_tokens: 300,
        seed: 5,
        tool_choice: { type: 'function' as const, function: { name: 'weather' } },
        tools: [
          {
            type: 'function' as const,
            function: {
              name: 'weather',
              description: 'Tells the weather',
              parameters,
              parse: (input: string) => where.parse(JSON.parse(input)),
              function: (input: Where) => {
                asked.push(input)
                return forecast(input)
              },
            },
          },
        ],
      }
      const runner = stream
        ? openai.chat.completions.runTools({ ...body, stream: true })
        : openai.chat.completions.runTools(body)
      await runner.done()
      t.ok(asked.length >= 1)
      t.ok(runner.messages.some(({ role }) => role === 'tool'))
    })
  }

  await t.test('one call at a time where no more are wanted, and calls of one answer all answered', async (t) => {
    const asked = { model, tools: [weather, clock], tool_choice: 'required' as const, max_tokens: 300, seed: 2 }
    const messages = [{ role: 'user' as const, content: question }]
    const { choices } = await openai.chat.completions.create({ ...asked, messages, parallel_tool_calls: false })
    t.is(choices[0]?.message.tool_calls?.length, 1)
    const calls = ['Paris', 'Rome'].map((city, i) => ({
      id: `call_${i}`,
      type: 'function' as const,
      function: { name: 'weather', arguments: JSON.stringify({ city, days: 1 }) },
    }))
    const results = calls.map(({ id, function: { name, arguments: args } }) => ({
      role: 'tool' as const,
      tool_call_id: id,
      content: run(name, args),
    }))
    const told = await openai.chat.completions.create({
      ...asked,
      tool_choice: 'none',
      messages: [...messages, { role: 'assistant', content: null, tool_calls: calls }, ...results.reverse()],
    })
    t.is(told.choices[0]?.finish_reason === 'tool_calls', false)
  })

  const { faults, checked: count } = await checked.faults()
  t.alike(faults, [], `${count} answers were checked`)
  t.comment(`${typed.looked} objects, ${typed.fit} are of OpenAI’s types`)
})
