import test from 'brittle'
import {
  type GenerateEvent,
  inferenceRequestSchema,
  MeshError,
  newRequestId,
  type Usage,
} from '../lib/protocol/index.js'
import { mostPromptTokens } from '../workers/gateway/requests/demand.js'
import { answer, completion, startEngine } from './engine-kit.js'
import { startDoor } from './helpers/door.js'
import { startStranger, until } from './helpers/mesh.js'
import { finish, MODEL, question, setup, TestProcessor, tokens } from './requests-kit.js'

/** What a request is charged for, whatever ends it: what was really evaluated. */

const used = (promptTokens: number, completionTokens = 0, cachedTokens = 0): Usage => ({
  promptTokens,
  cachedTokens,
  completionTokens,
})
const says = (usage: Usage): GenerateEvent => ({ type: 'tokens', index: 0, ids: [], text: '', usage })

/** Keeps the embedded model from ending its answer. */
const ENDLESS = { 1: -100, 2: -100, 6: -100 }

/** A processor that says what the test wants, and goes on to say it once its caller has left. */
class Speaking extends TestProcessor {
  constructor(readonly speak: () => AsyncGenerator<GenerateEvent>) {
    super('p1')
  }

  override generate() {
    return { cancel: () => void this.cancelled++, [Symbol.asyncIterator]: this.speak }
  }
}

test('a caller that leaves while its prompt is evaluated is charged what was evaluated, and told nothing more', async (t) => {
  const mesh = setup({
    processors: [
      new Speaking(async function* () {
        yield says(used(700, 0, 50))
        mesh.controller.abort(MeshError.CANCELLED('The caller went away'))
        yield says(used(900, 0, 50))
        throw MeshError.CANCELLED('The generation was cancelled')
      }),
    ],
  })
  await t.exception(mesh.generate(), /went away/)
  const [record] = mesh.seen.records
  t.alike([record?.outcome, record?.promptTokens, record?.cachedTokens], ['CANCELLED', 900, 50])
  t.alike(mesh.seen.settledTokens, [900])
  t.alike(
    mesh.told.map(({ type }) => type),
    ['started'],
    'what is used is between the mesh’s own',
  )
  t.is(mesh.seen.settled[0]?.firstTokenMs, undefined)
})

test('tokens that come after their caller has left, or cannot be told, count and are not told', async (t) => {
  const leaving = setup({
    processors: [
      new Speaking(async function* () {
        yield { ...tokens(0, 'a'), usage: used(40, 1) } as GenerateEvent
        leaving.controller.abort(MeshError.CANCELLED('The caller went away'))
        yield tokens(1, 'b', 'c')
        throw MeshError.CANCELLED('The generation was cancelled')
      }),
    ],
  })
  await t.exception(leaving.generate(), /went away/)
  t.alike(leaving.seen.settledTokens, [43])
  t.alike(leaving.told.at(-1), tokens(0, 'a'), 'without what it used')

  const slow = new Speaking(async function* () {
    yield { ...tokens(0, 'a'), usage: used(40, 1) } as GenerateEvent
    yield tokens(1, 'b')
    throw MeshError.CANCELLED('The generation was cancelled')
  })
  const { requests, context, seen } = setup({ processors: [slow] })
  const tell = (event: GenerateEvent) => {
    if (event.type === 'tokens') throw MeshError.SLOW_READER('too slow')
  }
  await t.exception(requests.generate(question(), context(), tell), /too slow/)
  t.is(slow.cancelled > 0, true)
  t.alike(seen.settledTokens, [42])
})

test('a processor that is lost is charged by what it told last, and one that follows it anew', async (t) => {
  const lost = MeshError.LINK_CLOSED('gone')
  const last = setup({ processors: [new TestProcessor('p1', [says(used(300)), tokens(0, 'a'), lost])] })
  await t.exception(last.generate(), /was lost/)
  t.alike(last.seen.settledTokens, [301])
  const again = setup({
    processors: [
      new TestProcessor('p1', [says(used(300)), lost]),
      new TestProcessor('p2', [tokens(0, 'a'), finish(1)]),
    ],
  })
  await again.generate()
  t.alike(again.seen.settledTokens, [8], 'the mesh’s fault is not the caller’s')
})

test('a processor is believed no more than the request can have come to', async (t) => {
  const request = inferenceRequestSchema.parse(question({ maxTokens: 5 }))
  const most = Math.min(mostPromptTokens(request), MODEL.contextLength)
  const huge = used(1_000_000_000, 1_000_000_000, 1_000_000_000)
  for (const steps of [
    [says(huge), MeshError.CONTEXT_LENGTH_EXCEEDED('no')],
    [tokens(0, 'a'), { type: 'finish', reason: 'stop', usage: huge } as GenerateEvent],
  ]) {
    const { generate, seen } = setup({ processors: [new TestProcessor('p1', steps)] })
    await generate({ maxTokens: 5 }).catch(() => {})
    t.alike(seen.settledTokens, [most + 5])
    t.is(seen.records[0]?.cachedTokens, most)
  }
  const embedding = new TestProcessor('p1')
  embedding.embedFailures.push(MeshError.CANCELLED('The embedding was cancelled', { promptTokens: 1e12 }))
  const { embed, seen } = setup({ processors: [embedding] })
  await t.exception(embed(['one', 'two']))
  t.alike(seen.settledTokens, [2 * MODEL.contextLength])
})

test('a processor that sends more than was asked for is cut', async (t) => {
  const { generate, seen } = setup({
    processors: [new TestProcessor('p1', [tokens(0, 'a', 'b'), tokens(2, 'c', 'd')])],
  })
  await t.exception(generate({ maxTokens: 3 }), /sent more than the 3 tokens/)
  t.is(seen.records[0]?.outcome, 'PROCESSOR_LOST')
})

test('an embedding that is cancelled is charged the texts that were begun', async (t) => {
  const processor = new TestProcessor('p1')
  processor.embedFailures.push(undefined, MeshError.CANCELLED('The embedding was cancelled', { promptTokens: 12 }))
  const { embed, seen } = setup({ processors: [processor] })
  await t.exception(embed(Array.from({ length: 40 }, () => 'text')))
  t.alike(seen.settledTokens, [32 + 12])
  const odd = new TestProcessor('p1')
  odd.embedFailures.push(MeshError.CANCELLED('The embedding was cancelled', { promptTokens: 'many' }))
  const strange = setup({ processors: [odd] })
  await t.exception(strange.embed(['one']))
  t.alike(strange.seen.settledTokens, [0])
})

/** Tells that its prompt came to 300 tokens, and answers a word. */
const dear = (name: string) =>
  new TestProcessor(name, [
    says(used(300)),
    () => {},
    { ...tokens(0, 'a'), usage: used(302, 1) } as GenerateEvent,
    { type: 'finish', reason: 'length', usage: used(302, 1) },
  ])

test('prompts that come to more than was estimated pass a budget, or a minute, by a piece of one at most', async (t) => {
  for (const limits of [{ budget: { tokens: 400, period: 'day' as const } }, { tokensPerMinute: 400 }]) {
    const processors = Array.from({ length: 8 }, (_, i) => dear(`p${i}`))
    const { generate, seen } = setup({ limits, processors })
    const runs = processors.map((_, i) => generate({ maxTokens: 1 }, `req_${i}`))
    const outcomes = (await Promise.allSettled(runs)).map((run) =>
      run.status === 'fulfilled' ? 'ok' : run.reason.code,
    )
    const refused = 'budget' in limits ? 'QUOTA_EXCEEDED' : 'RATE_LIMITED'
    t.alike(outcomes.sort(), [...Array(7).fill(refused), 'ok'].sort())
    t.is(seen.records.filter(({ completionTokens }) => completionTokens > 0).length, 1, 'seven made no token')
    t.ok(processors.filter(({ cancelled }) => cancelled > 0).length >= 7, 'the work of the others was ended')
    t.ok(
      seen.records.every(({ promptTokens }) => promptTokens >= 300),
      'each is charged the piece that was evaluated',
    )
    t.is(await generate({ maxTokens: 1 }, 'req_9').catch((err) => err.code), refused, 'and the next is not begun')
  }
})

test('an answer that a budget bounds ends where its prompt leaves it', async (t) => {
  const words = new TestProcessor('p1', [
    { ...tokens(0, 'a'), usage: used(96, 1) } as GenerateEvent,
    tokens(1, 'b', 'c'),
    tokens(3, 'd'),
    tokens(4, 'e'),
    finish(5),
  ])
  const { generate, seen, told } = setup({ limits: { budget: { tokens: 100, period: 'day' } }, processors: [words] })
  t.is((await generate()).reason, 'length')
  t.is(words.cancelled, 1)
  t.is(seen.records[0]?.outcome, 'length')
  t.is(told.filter(({ type }) => type === 'tokens').length, 3)
})

test('an embedding ends behind the batch that leaves no room for the rest', async (t) => {
  class Dear extends TestProcessor {
    override async embed(request: Parameters<TestProcessor['embed']>[0]) {
      const part = await super.embed(request)
      return { ...part, usage: used(17 * request.input.length) }
    }
  }
  const p1 = new Dear('p1')
  const { embed, seen } = setup({ limits: { budget: { tokens: 400, period: 'day' } }, processors: [p1] })
  const failure: MeshError = await embed(Array.from({ length: 60 }, () => 'xq')).then(
    () => t.fail('was served'),
    (err) => err,
  )
  t.is(failure.code, 'QUOTA_EXCEEDED')
  t.is(p1.embedded.length, 1)
  t.alike([seen.records[0]?.outcome, seen.records[0]?.promptTokens], ['QUOTA_EXCEEDED', 32 * 17])
  const emoji = setup({ limits: { budget: { tokens: 400, period: 'day' } }, processors: [new Dear('p1')] })
  t.is(await emoji.embed(Array.from({ length: 60 }, () => '🦊🦊🦊')).catch((err) => err.code), 'QUOTA_EXCEEDED')
  t.is(emoji.seen.records.length, 0, 'nor is what is known to be too much begun')
})

test('an engine says what it has evaluated: between the pieces of a prompt, with the first token, and when it is cancelled', async (t) => {
  const engine = await startEngine(t)
  const prompt = Array.from({ length: 1500 }, (_, i) => 100 + (i % 1000))
  const told: number[] = []
  const gone = new AbortController()
  const running = engine.generate(
    completion(prompt, { maxTokens: 50 }),
    ({ ids, usage }) => {
      if (usage !== undefined) told.push(usage.promptTokens)
      if (ids.length === 0 && told.length === 2) gone.abort()
    },
    gone.signal,
  )
  await t.exception(running, /was cancelled/)
  t.ok(told.length >= 3 && told.every((tokens, i) => tokens >= (told[i - 1] ?? 1)), told.join())
  t.ok((told.at(-1) ?? 0) < 1500, 'and it ended there')

  const seen: (number | undefined)[] = []
  const whole = await engine.generate(completion(prompt, { maxTokens: 3 }), ({ ids, usage }) => {
    if (ids.length > 0) seen.push(usage?.promptTokens)
  })
  const all = whole.usage.promptTokens
  t.ok(all >= 1500)
  t.alike(seen, [all, undefined, undefined], 'once')
  t.is((await answer(engine, completion('One two', { maxTokens: 2 }))).finish.usage.completionTokens, 2)
})

test('over both doors, what is aborted is charged: in its prompt, in its answer, in an embedding', {
  timeout: 120_000,
}, async (t) => {
  const { ask, gateway, home, key } = await startDoor(t)
  const client = await startStranger(t, home, gateway.publicKey)
  const totals = async () => (await client.call('usage.self', {}, { key })).total
  let seed = 100
  /** A prompt that no cache knows. */
  const ids = (length: number) => {
    seed += 7
    return Array.from({ length }, (_, i) => 100 + ((seed + i * seed) % 1900))
  }
  /** What a piece of work is charged, once it has been settled. */
  const charged = async (work: () => Promise<void>) => {
    const before = await totals()
    await work()
    const after = await until(async () => {
      const now = await totals()
      return now.requests > before.requests && now
    }, 'the request is settled')
    t.is(after.failures - before.failures, 1)
    return {
      prompt: after.promptTokens - before.promptTokens,
      answer: after.completionTokens - before.completionTokens,
    }
  }
  const http = (path: string, body: object, tokens: number) =>
    charged(async () => {
      const gone = new AbortController()
      const response = await ask(path, body, { signal: gone.signal })
      let seen = 0
      const decoder = new TextDecoder()
      await (async () => {
        for await (const chunk of response.body ?? []) {
          seen += decoder.decode(chunk, { stream: true }).split('data: {').length - 1
          if (seen >= tokens) gone.abort()
        }
      })().catch(() => {})
    })

  const answered = await http(
    '/v1/completions',
    { prompt: ids(1500), stream: true, max_tokens: 400, logit_bias: ENDLESS },
    2,
  )
  t.ok(answered.prompt >= 1500 && answered.answer >= 1 && answered.answer < 400, JSON.stringify(answered))

  const streamed = await charged(async () => {
    const gone = new AbortController()
    const request = inferenceRequestSchema.parse({
      kind: 'completion',
      prompt: ids(1500),
      maxTokens: 400,
      sampling: { logitBias: ENDLESS },
    })
    let batches = 0
    await (async () => {
      for await (const event of client.generate({ requestId: newRequestId(), key, request }, gone.signal)) {
        if (event.type === 'tokens' && ++batches === 2) gone.abort()
      }
    })().catch(() => {})
  })
  t.ok(streamed.prompt >= 1500 && streamed.answer >= 2 && streamed.answer < 400, JSON.stringify(streamed))

  // Later each time, until one is left in the midst of its prompt, however fast this machine is.
  let left = { prompt: 0, answer: 0 }
  for (let afterMs = 25; left.prompt === 0 && afterMs < 10_000; afterMs *= 2) {
    left = await charged(async () => {
      const gone = new AbortController()
      const request = inferenceRequestSchema.parse({
        kind: 'completion',
        prompt: ids(2000),
        maxTokens: 40,
        sampling: { logitBias: ENDLESS },
      })
      await (async () => {
        for await (const { type } of client.generate({ requestId: newRequestId(), key, request }, gone.signal)) {
          if (type === 'started') setTimeout(() => gone.abort(), afterMs)
        }
      })().catch(() => {})
    })
  }
  t.ok(left.prompt > 0, JSON.stringify(left))

  // The same: left while its texts are read.
  let embedded = { prompt: 0, answer: 0 }
  for (let afterMs = 200; embedded.prompt === 0 && afterMs < 10_000; afterMs *= 2) {
    embedded = await charged(async () => {
      const gone = new AbortController()
      const input = Array.from({ length: 30 }, () => ids(1500))
      setTimeout(() => gone.abort(), afterMs)
      await ask('/v1/embeddings', { model: 'infermesh-tiny', input }, { signal: gone.signal }).then(
        () => {},
        () => {},
      )
    })
  }
  t.ok(embedded.prompt >= 1500 && embedded.prompt < 30 * 1500, JSON.stringify(embedded))
})
