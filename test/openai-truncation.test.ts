import test from 'brittle'
import OpenAI from 'openai'
import type { ChatMessage } from '../lib/protocol/index.js'
import { MeshError } from '../lib/protocol/index.js'
import { type Counted, dropOrder, fewestDrops } from '../workers/gateway/openai/truncation.js'
import { inOpenAiWords } from '../workers/gateway/openai/words.js'
import { Tokens } from '../workers/gateway/requests/tokens.js'
import { Dice } from './helpers/dice.js'
import { startDoor } from './helpers/door.js'
import { until } from './helpers/mesh.js'

/** Conversations that are longer than the model's context, which is 2,048 tokens. */

const model = 'infermesh-tiny'
const CONTEXT = 2048
type Input = OpenAI.Responses.ResponseInputItem[]
type Asked = OpenAI.Responses.ResponseCreateParamsNonStreaming
type Failure = InstanceType<typeof OpenAI.APIError>

const said = (role: 'user' | 'assistant' | 'developer', content: string) => ({ role, content })
const turnOf = (i: number, words = 30): Input => [
  said('user', `Question ${i}: ${'what is this about and why '.repeat(words / 6)}?`),
  said('assistant', `Answer ${i}: ${'it is about something else '.repeat(words / 6)}.`),
]
const step = (i: number, words = 60): Input => [
  { type: 'function_call', call_id: `call_${i}`, name: 'look', arguments: JSON.stringify({ at: i }) },
  { type: 'function_call_output', call_id: `call_${i}`, output: 'some lines of a file '.repeat(words / 5) },
]
const tools = [
  { type: 'function' as const, name: 'look', parameters: { type: 'object', properties: {} }, strict: false },
]

test('long conversations are answered with their newest turns', { timeout: 240_000 }, async (t) => {
  const door = await startDoor(t)
  const openai = new OpenAI({ baseURL: `${door.url}/v1`, apiKey: door.key, maxRetries: 0 })
  const failure = (asked: Partial<Asked>): Promise<Failure> =>
    openai.responses.create({ model, ...asked } as Asked).then(
      () => {
        throw new Error('did not fail')
      },
      (err: Failure) => err,
    )
  /** Tokens of a prompt that is not cut; more than any context where it does not fit. */
  const tokensOf = async (asked: object): Promise<number> => {
    const counted = await openai.responses.inputTokens.count({ model, ...asked }).catch((err: Failure) => err)
    return 'input_tokens' in counted ? counted.input_tokens : Number.POSITIVE_INFINITY
  }
  const auto = { model, truncation: 'auto', temperature: 0 } as const

  const turns = Array.from({ length: 40 }, (_, i) => turnOf(i))
  const last = said('user', 'What is the capital of France?')
  const first = said('developer', 'You are a helpful assistant. Be short.')
  const input: Input = [first, ...turns.flat(), last]
  const from = (k: number): Input => [first, ...turns.slice(k).flat(), last]
  /** How few turns have to go. */
  const fewest = async (asked: object, room: number, inputFrom = from): Promise<number> => {
    for (let k = 39; k >= 0; k--) if ((await tokensOf({ ...asked, input: inputFrom(k) })) > CONTEXT - room) return k + 1
    return 0
  }

  await t.test('as many turns stay as leave room for the answer', async (t) => {
    const disabled = await failure({ input, max_output_tokens: 40 })
    t.alike([disabled.status, disabled.code], [400, 'context_length_exceeded'])
    t.is((await failure({ input, max_output_tokens: 40, truncation: 'disabled' })).message, disabled.message)
    const instructions = 'Answer in one sentence.'
    for (const max_output_tokens of [40, 700]) {
      const asked = { ...auto, instructions, max_output_tokens }
      const drops = await fewest({ instructions }, max_output_tokens)
      t.ok(drops > 0 && drops < 40, `${drops} turns have to go`)
      const made = await openai.responses.create({ ...asked, input })
      t.is(made.truncation, 'auto')
      t.is(made.usage?.input_tokens, await tokensOf({ instructions, input: from(drops) }))
      t.is(await tokensOf({ ...asked, input }), made.usage?.input_tokens, 'counted as it is sent')
      const alone = await openai.responses.create({ ...asked, truncation: 'disabled', input: from(drops) })
      t.is(made.output_text, alone.output_text)
      t.is((await openai.responses.inputItems.list(made.id, { limit: 100 })).data.length, input.length, 'all is stored')
    }
    const unbounded = await openai.responses.create({ ...auto, input })
    t.is(unbounded.usage?.input_tokens, await tokensOf({ input: from(await fewest({}, CONTEXT / 8)) }))
    const greedy = await openai.responses.create({ ...auto, input, max_output_tokens: 5000 })
    t.is(greedy.usage?.input_tokens, await tokensOf({ input: from(await fewest({}, CONTEXT / 2)) }))
  })

  await t.test('what fits is sent as it is', async (t) => {
    const short = { input: from(38), max_output_tokens: 40 }
    const [cut, whole] = [
      await openai.responses.create({ ...auto, ...short }),
      await openai.responses.create({ model, temperature: 0, ...short }),
    ]
    t.is(whole.truncation, 'disabled')
    t.is(cut.usage?.input_tokens, whole.usage?.input_tokens)
    t.is(cut.output_text, whole.output_text)
  })

  await t.test('calls and their outputs go together, and the newest stay', async (t) => {
    const steps = Array.from({ length: 40 }, (_, i) => step(i))
    const stepsFrom = (k: number): Input => [first, last, ...steps.slice(k).flat()]
    const asked = { ...auto, tools, max_output_tokens: 30 }
    const drops = await fewest({ tools }, 30, stepsFrom)
    t.ok(drops > 0 && drops < 39, `${drops} steps have to go`)
    const made = await openai.responses.create({ ...asked, input: [first, ...turns.flat(), last, ...steps.flat()] })
    t.is(made.usage?.input_tokens, await tokensOf({ tools, input: stepsFrom(drops) }))

    // A call whose output came turns later takes these with it.
    const [call, output] = step(1) as [Input[0], Input[0]]
    const late = [first, call, ...turns.slice(0, 20).flat(), output, ...turns.slice(20).flat(), last]
    const cut = await openai.responses.create({ ...asked, input: late })
    const expected = await fewest({ tools }, 30)
    t.is(cut.usage?.input_tokens, await tokensOf({ tools, input: from(Math.max(20, expected)) }))
  })

  await t.test('streamed, in the background, and with what earlier responses said', async (t) => {
    const asked = { ...auto, max_output_tokens: 20 }
    const whole = await openai.responses.create({ ...asked, input })
    const types: string[] = []
    let streamed: OpenAI.Responses.Response | undefined
    for await (const event of await openai.responses.create({ ...asked, input, stream: true })) {
      types.push(event.type)
      if (event.type === 'response.completed' || event.type === 'response.incomplete') streamed = event.response
    }
    t.is(types[0], 'response.created')
    t.alike([streamed?.usage?.input_tokens, streamed?.truncation], [whole.usage?.input_tokens, 'auto'])
    t.is(streamed?.output_text ?? textOf(streamed), whole.output_text)

    const queued = await openai.responses.create({ ...asked, input, background: true })
    t.alike([queued.status, queued.truncation], ['queued', 'auto'])
    const ended = await until(async () => {
      const now = await openai.responses.retrieve(queued.id)
      return now.status !== 'queued' && now.status !== 'in_progress' && now
    }, 'the response has ended')
    t.is(ended.output_text, whole.output_text)
    t.is(ended.usage?.input_tokens, whole.usage?.input_tokens)

    let previous_response_id: string | undefined
    const told: Input = []
    for (let i = 0; i < 12; i++) {
      const question = said('user', `Question ${i}: ${'what is this about and why '.repeat(25)}?`)
      const next: OpenAI.Responses.Response = await openai.responses.create({
        ...asked,
        input: [question],
        ...(previous_response_id !== undefined && { previous_response_id }),
      })
      t.ok((next.usage?.input_tokens ?? CONTEXT) <= CONTEXT - 20, `${next.usage?.input_tokens} tokens`)
      previous_response_id = next.id
      told.push(question, said('assistant', next.output_text))
    }
    t.is(await tokensOf({ input: told }), Number.POSITIVE_INFINITY)
    // All of it is kept: what is cut from the chain is what is cut from the same input.
    const [chained, same] = [
      await openai.responses.create({ ...asked, input: [last], previous_response_id: previous_response_id as string }),
      await openai.responses.create({ ...asked, input: [...told, last] }),
    ]
    t.is(chained.usage?.input_tokens, same.usage?.input_tokens)
    t.is(chained.output_text, same.output_text)
    const refused = await failure({ input: [last], previous_response_id: previous_response_id as string })
    t.is(refused.code, 'context_length_exceeded')
  })

  await t.test('a last message that is too long alone is refused as ever', async (t) => {
    const long = said('user', 'word '.repeat(4000))
    for (const before of [[], turns.flat()]) {
      const tooLong = { input: [...before, long] }
      const [cut, whole] = [await failure({ ...tooLong, truncation: 'auto' }), await failure(tooLong)]
      t.alike([cut.status, cut.code, cut.param], [400, 'context_length_exceeded', 'input'])
      t.is(cut.message, whole.message)
    }
    const alone = { input: [...turns.flat(), long], truncation: 'auto' as const }
    t.is((await failure({ ...alone, stream: true } as unknown as Partial<Asked>)).code, 'context_length_exceeded')
    const { id } = await openai.responses.create({ model, ...alone, background: true })
    const failed = await until(async () => {
      const now = await openai.responses.retrieve(id)
      return now.status === 'failed' && now
    }, 'the response has failed')
    t.is(String(failed.error?.code), 'context_length_exceeded')
    const many = [...Array.from({ length: 30 }, () => said('developer', 'word '.repeat(100))), last]
    t.is((await failure({ input: many, truncation: 'auto' })).code, 'context_length_exceeded')
  })

  await t.test('each counts as one request, of what was evaluated', async (t) => {
    const ask = async (key: string) =>
      door.ask(
        '/v1/responses',
        { ...auto, input, max_output_tokens: 5 },
        { headers: { authorization: `Bearer ${key}` } },
      )
    const rated = await door.newKey({ requestsPerMinute: 12, tokensPerMinute: 5000 })
    const answered = await ask(rated)
    const { usage } = (await answered.json()) as { usage: { total_tokens: number } }
    const { headers } = await ask(rated)
    t.is(headers.get('x-ratelimit-remaining-tokens'), String(5000 - usage.total_tokens * 2))
    t.is(answered.status, 200)
    t.is(headers.get('x-ratelimit-remaining-requests'), '10')
    t.is((await ask(await door.newKey({ models: ['another-model'] }))).status, 403)
    const free = await door.newKey({})
    const all = await Promise.all(Array.from({ length: 12 }, async () => (await ask(free)).status))
    t.alike(all, Array(12).fill(200), 'more than are counted at a time wait for their turn')
  })
})

function textOf(response: OpenAI.Responses.Response | undefined): string {
  const [item] = response?.output ?? []
  const part = item?.type === 'message' ? item.content[0] : undefined
  return part?.type === 'output_text' ? part.text : ''
}

const user: ChatMessage = { role: 'user', content: 'u' }
const system: ChatMessage = { role: 'system', content: 's' }
const calls = (...ids: string[]): ChatMessage => ({
  role: 'assistant',
  content: '',
  toolCalls: ids.map((id) => ({ id, name: 'f', arguments: '{}' })),
})
const gives = (toolCallId: string): ChatMessage => ({ role: 'tool', toolCallId, content: 'o' })
const says = calls()

test('turns go whole, and calls with their outputs', (t) => {
  const orders: [messages: ChatMessage[], of: number[]][] = [
    [[user], [0]],
    [
      [system, user, says, system, user],
      [0, 1, 1, 0, 0],
    ],
    [
      [says, user, says, user, user],
      [1, 2, 2, 3, 0],
    ],
    [
      [user, calls('a'), gives('a'), says, user],
      [1, 1, 1, 1, 0],
    ],
    // The newest step stays.
    [
      [user, calls('a', 'b'), gives('a'), gives('b'), calls('c'), gives('c')],
      [0, 1, 1, 1, 0, 0],
    ],
    [
      [user, says],
      [0, 0],
    ],
    [
      [calls('a'), gives('a'), calls('b'), gives('b')],
      [1, 1, 0, 0],
    ],
    // An output that came later.
    [
      [user, calls('a'), user, says, user, gives('a'), user, says, user],
      [1, 1, 1, 1, 1, 1, 2, 2, 0],
    ],
    [
      [user, calls('a'), user, gives('a')],
      [0, 0, 0, 0],
    ],
    [
      [user, says, user, calls('a'), user, gives('a'), calls('b'), gives('b')],
      [1, 1, 2, 2, 0, 2, 0, 0],
    ],
    // The same id once more is another call.
    [
      [user, calls('a'), gives('a'), user, calls('a'), gives('a'), user],
      [1, 1, 1, 2, 2, 2, 0],
    ],
    [[system], [0]],
    [[], []],
  ]
  for (const [messages, of] of orders) {
    const order = dropOrder(messages)
    t.alike(order.of, of, messages.map(({ role }) => role).join(' '))
    t.is(order.groups, Math.max(0, ...of))
  }
  const many = Array.from({ length: 10_000 }, (_, i) => [user, calls('x'), gives('x')][i % 3] ?? user)
  // The best of some: whatever else runs on this machine takes its time, too.
  const tookMs = Array.from({ length: 5 }, () => {
    const began = performance.now()
    dropOrder(many)
    return performance.now() - began
  })
  t.ok(Math.min(...tookMs) < 20, `${Math.min(...tookMs)} ms for 10,000 messages`)
})

test('a handful of counts finds how much has to go', async (t) => {
  let most = 0
  let exact = 0
  const rounds = 400
  const roll = new Dice(7)
  const dice = (): number => roll.below(1e6) / 1e6
  for (let round = 0; round < rounds; round++) {
    const groups = 1 + Math.floor(dice() * (round % 2 === 0 ? 60 : 3000))
    const contextLength = 2048 * 2 ** Math.floor(dice() * 6)
    const perToken = 1 + dice() * 6
    const maxTokens = dice() < 0.5 ? undefined : 1 + Math.floor(dice() * contextLength)
    const room = Math.min(maxTokens ?? Math.min(1024, contextLength / 8), contextLength / 2)
    const lengths = Array.from({ length: groups }, () => 10 + Math.floor(dice() * 4000))
    const least = Math.floor(dice() * contextLength * (dice() < 0.2 ? 8 : 2))
    const left = [least]
    for (const length of lengths) left.unshift((left[0] ?? 0) + length)
    const bytes = (drops: number): number => left[drops] ?? 0
    const tokensAt = (drops: number): number => 20 + Math.ceil(bytes(drops) / perToken)
    let counts = 0
    const count = async (drops: number): Promise<Counted> => {
      counts++
      if (drops < 0 || drops > groups) t.fail(`${drops} of ${groups}`)
      const tokens = tokensAt(drops)
      return tokens > contextLength * 1.5 ? { contextLength } : { tokens, contextLength }
    }
    const drops = await fewestDrops({ groups, bytes, contextLength: contextLength * 4, maxTokens, count })
    most = Math.max(most, counts)
    if (drops === undefined) {
      if (tokensAt(groups) < contextLength)
        t.fail(`${tokensAt(groups)} tokens would have been left of ${contextLength}`)
      exact++
    } else {
      const fits = tokensAt(drops) <= contextLength - room
      if (!fits && (drops < groups || tokensAt(groups) >= contextLength)) t.fail('what was found does not fit')
      if (drops === 0 || tokensAt(drops - 1) > contextLength - room) exact++
      else if (tokensAt(drops) < (contextLength - room) * 0.75) t.fail(`${tokensAt(drops)} of ${contextLength - room}`)
    }
  }
  t.ok(most <= 8, `${most} counts`)
  t.comment(`${exact} of ${rounds} exactly`)
  t.ok(exact > rounds * 0.9)
})

test('faults of a cut conversation are told by their place in the input', (t) => {
  const places = {
    from: 1,
    hasInstructions: true,
    items: [0, 2, 3].map((item) => ({ item, content: 'content' as const, calls: [] })),
  }
  const param = (kept?: number[]) => {
    const err = inOpenAiWords(MeshError.BAD_REQUEST('messages[1].content: no', { param: 'messages[1].content' }), {
      api: 'responses',
      places: { ...places, kept },
    })
    return err instanceof MeshError && [err.details.param, err.message]
  }
  t.alike(param(), ['input[0].content', 'input[0].content: no'])
  t.alike(param([0, 3]), ['input[3].content', 'input[3].content: no'])
})

test('prompts of one user wait to be counted, others do not, and who leaves is forgotten', async (t) => {
  let running = 0
  const free: (() => void)[] = []
  const tokens = new Tokens({
    catalogue: { model: () => Object.assign(Object.create(null), { name: 'm' }) },
    limiter: {
      admit: () => ({
        maxTokens: 0,
        isBoundByBudget: false,
        correct: () => {},
        settle: () => t.fail('settled'),
        withdraw: () => {},
      }),
      assertMayAsk: () => {},
    },
    candidates: () => [],
    processorAt: () => undefined,
  })
  const begin = (user: string, signal = new AbortController().signal) =>
    tokens.counting(
      'm',
      { requestId: 'r', principal: Object.assign(Object.create(null), { user }), signal },
      async () => {
        running++
        await new Promise<void>((resolve) => free.push(resolve))
        running--
      },
    )
  const leaves = new AbortController()
  const all = [1, 2, 3, 4].map(() => begin('ann'))
  const gone = begin('ann', leaves.signal)
  const fifth = begin('ann')
  const other = begin('ben')
  await until(() => running === 5, 'four of one and one of the other run')
  leaves.abort()
  t.is(await gone.catch((err: MeshError) => err.code), 'CANCELLED')
  free.shift()?.()
  await all[0]
  await until(() => running === 5, 'the next one has its turn')
  const waiting = Array.from({ length: 64 }, () => begin('ann'))
  t.is(await begin('ann').catch((err: MeshError) => err.code), 'RATE_LIMITED')
  const done = Promise.all([...all, fifth, other, ...waiting])
  void (async () => {
    for (let left = 70; left > 0; left--) {
      free.shift()?.()
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  await done
  t.is(running, 0)
  const after = begin('ann')
  free.shift()?.()
  await after
})
