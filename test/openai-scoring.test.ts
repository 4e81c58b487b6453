import test from 'brittle'
import { getLlama, type LlamaModel, type Token } from 'node-llama-cpp'
import { MeshError } from '../lib/protocol/index.js'
import { LogprobRoom } from '../workers/gateway/openai/completion-logprobs.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { TINY } from './engine-kit.js'
import { type Door, startDoor } from './helpers/door.js'
import { start, testOptions, until } from './helpers/mesh.js'

/** Completions as evaluation harnesses and old clients ask for them. */

const TEXT = '/v1/completions'
const CHAT = '/v1/chat/completions'

interface Logprobs {
  tokens: string[]
  token_logprobs: (number | null)[]
  top_logprobs: (Record<string, number> | null)[]
  text_offset: number[]
}
interface Completion {
  choices: { index: number; text: string; logprobs: Logprobs | null; finish_reason: string }[]
  usage: { prompt_tokens: number; completion_tokens: number }
}

async function complete(door: Door, body: object, status = 200): Promise<Completion> {
  const response = await door.ask(TEXT, { temperature: 0, ...body })
  const text = await response.text()
  if (response.status !== status) throw new Error(`${response.status}: ${text}`)
  return JSON.parse(text) as Completion
}

const only = ({ choices }: Completion) => {
  const [choice] = choices
  if (choices.length !== 1 || choice === undefined) throw new Error(`${choices.length} choices`)
  return choice
}

const sum = (values: (number | null)[]) => values.reduce<number>((all, one) => all + (one ?? Number.NaN), 0)

/** Questions with their answers, as a harness scores them: a context and some ways in which it may go on. */
const QUESTIONS = [
  { context: 'The capital of France is', answers: [' Paris', ' a green fox', ' seventeen'] },
  { context: 'Once upon a', answers: [' time', ' Tuesday fish', ' qqq'] },
  { context: 'One, two, three,', answers: [' four', ' cheese', ' Paris'] },
  { context: 'A cat says meow. A dog says', answers: [' woof', ' meow', ' the'] },
]

/** The same model, read by the library alone: its tokens, and a softmax over all logits. */
async function referee() {
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false })
  const model = await llama.loadModel({ modelPath: TINY })
  const context = await model.createContext({ contextSize: 512, threads: 1 })
  const sequence = context.getSequence()
  const scores = async (ids: number[]): Promise<number[]> => {
    await sequence.clearHistory()
    const tokens = ids.map((id) => id as Token)
    const results = await sequence.controlledEvaluate(
      tokens.map((token) => [token, { generateNext: { logits: true, options: { temperature: 0 } } }]),
    )
    return tokens.slice(1).map((token, i) => {
      const logits = results[i]?.next.logits ?? new Map<Token, number>()
      const total = [...logits.values()].reduce((all, logit) => all + Math.exp(logit), 0)
      return (logits.get(token) ?? Number.NaN) - Math.log(total)
    })
  }
  return {
    model,
    scores,
    async close() {
      await context.dispose()
      await model.dispose()
    },
  }
}

const idsOf = (model: LlamaModel, text: string): number[] => {
  const { bos } = model.tokens
  return [...(bos === null ? [] : [bos]), ...model.tokenize(text)].map(Number)
}

test('completions as evaluation harnesses and old clients ask for them', { timeout: 240_000 }, async (t) => {
  const door = await startDoor(t, { engine: { slots: 4, contextLength: 1024 } })
  const { model, scores, close } = await referee()
  t.teardown(close)
  const pairs = QUESTIONS.flatMap(({ context, answers }) =>
    answers.map((answer) => {
      const ids = [...idsOf(model, context), ...model.tokenize(answer, false, 'trimLeadingSpace').map(Number)]
      return { ids, contextLength: idsOf(model, context).length, text: context + answer }
    }),
  )

  await t.test('log-likelihoods of token ids: the same choices as an independent computation makes', async (t) => {
    const body = { prompt: pairs.map(({ ids }) => ids), echo: true, logprobs: 1, max_tokens: 1, seed: 1234 }
    const { choices, usage } = await complete(door, body)
    t.alike(
      choices.map(({ index }) => index),
      pairs.map((_, i) => i),
    )
    const found: number[] = []
    const expected: number[] = []
    for (const [i, { ids, contextLength }] of pairs.entries()) {
      const { tokens = [], token_logprobs = [], top_logprobs = [] } = choices[i]?.logprobs ?? {}
      // As lm-evaluation-harness reads them: the last one is the token that was generated.
      const logprobs = token_logprobs.slice(contextLength, -1)
      const right = (await scores(ids)).slice(contextLength - 1)
      if (logprobs.length !== right.length || tokens.length !== ids.length + 1) t.fail(`lengths of ${i}`)
      if (Math.abs(sum(logprobs) - sum(right)) > 0.02 * right.length)
        t.fail(`${sum(logprobs)} instead of ${sum(right)}`)
      const isGreedy = tokens.slice(contextLength, -1).every((token, at) => {
        const top = top_logprobs[contextLength + at] ?? {}
        return Object.entries(top).every(([other, logprob]) => other === token || logprob <= (top[token] ?? -Infinity))
      })
      const most = logprobs.every(
        (logprob, at) => Math.max(...Object.values(top_logprobs[contextLength + at] ?? {})) === logprob,
      )
      if (isGreedy !== most) t.fail(`greedy ${i}`)
      found.push(sum(logprobs))
      expected.push(sum(right))
      if (token_logprobs[0] !== null || top_logprobs[0] !== null) t.fail('nothing comes before the first token')
    }
    const best = (all: number[]) =>
      QUESTIONS.map((_, i) => all.slice(3 * i, 3 * i + 3)).map((three) => three.indexOf(Math.max(...three)))
    t.alike(best(found), best(expected))
    t.is(usage.prompt_tokens, sum(pairs.map(({ ids }) => ids.length)))
    t.is(usage.completion_tokens, choices.filter(({ finish_reason }) => finish_reason === 'length').length)
    t.ok(
      choices.some(({ finish_reason }) => finish_reason === 'stop'),
      'a list has its last token also where that is the end',
    )
  })

  await t.test('the same with texts, with max_tokens 0, and from eight clients at a time', async (t) => {
    const whole = await Promise.all(
      pairs.map(async ({ text }) =>
        only(await complete(door, { prompt: text, echo: true, logprobs: 5, max_tokens: 0 })),
      ),
    )
    for (const [i, { text, logprobs, finish_reason }] of whole.entries()) {
      const pair = pairs[i]
      if (pair === undefined || logprobs === null) throw new Error('a pair has an answer')
      t.is(text, pair.text)
      t.is(finish_reason, 'length')
      const right = await scores(idsOf(model, pair.text))
      t.is(logprobs.token_logprobs.length, right.length + 1)
      t.ok(Math.abs(sum(logprobs.token_logprobs.slice(1)) - sum(right)) < 0.02 * right.length)
      t.ok(logprobs.top_logprobs.slice(1).every((top) => [5, 6].includes(Object.keys(top ?? {}).length)))
    }
  })

  await t.test('rolling log-likelihoods: windows of a long text add up', async (t) => {
    const ids = idsOf(model, 'The fox went into the forest and met a crow. '.repeat(40))
    t.ok(ids.length >= 256)
    const windows = [ids.slice(0, 128), ids.slice(64, 192), ids.slice(128, 256)]
    const { choices } = await complete(door, { prompt: windows, echo: true, logprobs: 1, max_tokens: 1 })
    const again = await Promise.all(
      windows.map(async (prompt) => only(await complete(door, { prompt, echo: true, logprobs: 1, max_tokens: 0 }))),
    )
    for (const [i, { logprobs }] of choices.entries()) {
      const [first = [], second = []] = [logprobs, again[i]?.logprobs].map((one) => one?.token_logprobs.slice(1, 128))
      t.alike([first.length, second.length], [127, 127])
      const off = Math.abs(sum(first) - sum(second))
      t.ok(off < 2, `apart by ${off} over 127 tokens`)
    }
  })

  await t.test('generate until: stop texts, max_tokens and a seed', async (t) => {
    const ask = { prompt: ['Once upon a time', 'A fox'], max_tokens: 60, temperature: 0, seed: 1234 }
    const plain = await complete(door, ask)
    const text = plain.choices[0]?.text ?? ''
    const stop = ['never said', text.slice(20, 26), '\n\n\n', '</s>']
    const cut = await complete(door, { ...ask, stop })
    t.is(cut.choices[0]?.text, text.slice(0, text.indexOf(stop[1] ?? '')))
    t.is(cut.choices[0]?.finish_reason, 'stop')
    t.alike(cut, { ...(await complete(door, { ...ask, stop })), ...pick(cut) }, 'the same twice')
  })

  await t.test('echoed token ids, with no log-probabilities', async (t) => {
    const ids = model.tokenize('A fox and a crow').map(Number)
    const { text, logprobs } = only(await complete(door, { prompt: ids, echo: true, max_tokens: 4 }))
    const plain = only(await complete(door, { prompt: ids, max_tokens: 4 }))
    t.is(text, `A fox and a crow${plain.text}`)
    t.is(logprobs, null)
  })

  await t.test('offsets count characters, also where tokens are parts of them', async (t) => {
    const prompt = 'é 漢字 🦊🦊 fox'
    const { text, logprobs } = only(await complete(door, { prompt, echo: true, logprobs: 2, max_tokens: 3 }))
    const { tokens = [], text_offset = [] } = logprobs ?? {}
    const chars = [...text]
    t.ok(tokens.some((token) => token.startsWith('bytes:\\x')))
    t.is(text_offset[0], 0)
    for (const [i, token] of tokens.entries()) {
      const at = text_offset[i] ?? -1
      if (at < (text_offset[i - 1] ?? 0)) t.fail('offsets grow')
      if (
        i > 0 &&
        token !== '<|end|>' &&
        !token.startsWith('bytes:') &&
        chars.slice(at, at + [...token].length).join('') !== token
      )
        t.fail(`${token} at ${at}`)
    }
  })

  await t.test('streamed, the prompt comes first, and all adds up to the whole', async (t) => {
    for (const prompt of [pairs[0]?.ids, pairs[0]?.text]) {
      const ask = { prompt, echo: true, logprobs: 3, max_tokens: 5, temperature: 0 }
      const whole = only(await complete(door, ask))
      const body = await (await door.ask(TEXT, { ...ask, stream: true })).text()
      const chunks = [...body.matchAll(/^data: (\{.*)$/gm)].map(([, json = '']) => only(JSON.parse(json) as Completion))
      t.is(chunks.map(({ text }) => text).join(''), whole.text)
      const joined = (key: keyof Logprobs): unknown[] =>
        chunks.flatMap(({ logprobs }): unknown[] => logprobs?.[key] ?? [])
      for (const key of ['tokens', 'text_offset'] as const) t.alike(joined(key), whole.logprobs?.[key])
      t.is(joined('token_logprobs').length, whole.logprobs?.token_logprobs.length)
      t.ok(body.endsWith('data: [DONE]\n\n'))
    }
  })

  await t.test('the best of several are those with the likeliest tokens', async (t) => {
    const ask = { prompt: 'Once upon a time', max_tokens: 12, temperature: 1.2, seed: 7, logprobs: 0 }
    const all = await complete(door, { ...ask, n: 6 })
    const mean = ({ logprobs }: Completion['choices'][number]) =>
      sum(logprobs?.token_logprobs ?? []) / (logprobs?.token_logprobs.length ?? 0)
    const ranked = [...all.choices].sort((a, b) => mean(b) - mean(a)).map(({ text }) => text)
    const best = await complete(door, { ...ask, n: 2, best_of: 6 })
    t.alike(
      best.choices.map(({ text }) => text),
      ranked.slice(0, 2),
    )
    t.alike(
      best.choices.map(({ index }) => index),
      [0, 1],
    )
    t.is(best.usage.completion_tokens, all.usage.completion_tokens, 'all that was generated counts')
    t.is(best.usage.prompt_tokens, all.usage.prompt_tokens)
    const { logprobs } = only(await complete(door, { ...ask, logprobs: undefined, best_of: 3 }))
    t.is(logprobs, null)
  })

  await t.test('more log-probabilities than an answer may have are refused before anything is begun', async (t) => {
    const prompt = Array.from({ length: 20 }, () => Array.from({ length: 600 }, () => 300))
    for (const more of [
      { logprobs: 20 },
      { logprobs: 1, best_of: 6, prompt: prompt.slice(0, 18).flatMap((one) => [one, one]) },
    ]) {
      const response = await door.ask(TEXT, { prompt, echo: true, max_tokens: 1, ...more })
      const { error } = (await response.json()) as { error: { param: string; message: string } }
      t.is(response.status, 400)
      t.ok(['logprobs', 'prompt'].includes(error.param), error.message)
    }
    // How many tokens a text has is seen only when it is evaluated.
    const began = performance.now()
    const text = 'word '.repeat(700)
    const texts = await door.ask(TEXT, { prompt: text, echo: true, n: 128, logprobs: 20, max_tokens: 1 })
    t.is(texts.status, 400)
    t.is(((await texts.json()) as { error: { param: string } }).error.param, 'logprobs')
    const ms = performance.now() - began
    t.comment(`refused after ${Math.round(ms)} ms`)
    t.ok(ms < 20_000, `a text is refused when the first choice has echoed too much of it: ${Math.round(ms)} ms`)
    t.is((await door.ask(TEXT, { prompt: ['a', 'b'], best_of: 20, n: 1, max_tokens: 1 })).status, 200)
    const many = await door.ask(TEXT, { prompt: Array.from({ length: 7 }, () => 'a'), best_of: 20 })
    t.is(many.status, 400)
  })

  await t.test('a bias names up to 1,024 tokens', async (t) => {
    const biased = (count: number) =>
      door.ask(TEXT, {
        prompt: 'A fox',
        max_tokens: 1,
        logit_bias: Object.fromEntries(Array.from({ length: count }, (_, i) => [String(i), 1])),
      })
    t.is((await biased(1024)).status, 200)
    const more = await biased(1025)
    t.is(more.status, 400)
    t.is(((await more.json()) as { error: { param: string } }).error.param, 'logit_bias')
  })

  await t.test('old clients: no prompt, an empty suffix, max_tokens 0, an end that is ignored', async (t) => {
    const begun = only(await complete(door, { max_tokens: 5 }))
    t.ok(begun.text.length > 0)
    t.is(only(await complete(door, { prompt: '', max_tokens: 5 })).text, begun.text)
    const suffixed = await complete(door, { prompt: 'A fox', suffix: '', best_of: 1, max_tokens: 3, stream: false })
    t.is(only(suffixed).finish_reason, 'length')
    const none = await complete(door, { prompt: 'A fox', max_tokens: 0 })
    t.is(only(none).text, '')
    t.is(none.usage.completion_tokens, 0)
    t.ok(none.usage.prompt_tokens > 0)
    const endless = await door.ask(CHAT, {
      messages: [{ role: 'user', content: 'Hi' }],
      max_tokens: 150,
      ignore_eos: true,
    })
    t.is(((await endless.json()) as Completion).usage.completion_tokens, 150)
  })

  await t.test('128 answers: all of them, and others are served in between', async (t) => {
    const began = performance.now()
    let othersMs = 0
    const others = (async () => {
      await new Promise((resolve) => setTimeout(resolve, 300))
      const sent = performance.now()
      const key = await door.newKey({})
      const response = await door.ask(
        CHAT,
        { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 8 },
        { headers: { authorization: `Bearer ${key}` } },
      )
      t.is(response.status, 200)
      await response.text()
      othersMs = performance.now() - sent
    })()
    const before = process.memoryUsage().rss
    const { choices, usage } = await complete(door, {
      prompt: 'A fox',
      n: 128,
      max_tokens: 16,
      temperature: 1,
      ignore_eos: true,
    })
    const allMs = performance.now() - began
    await others
    t.comment(
      `128 x 16 tokens: ${Math.round(allMs)} ms, ${Math.round((process.memoryUsage().rss - before) / 2 ** 20)} MiB more; another user's chat ${Math.round(othersMs)} ms`,
    )
    t.is(choices.length, 128)
    t.is(usage.completion_tokens, 128 * 16)
    t.ok(othersMs < allMs, 'nobody waits for all of them')
    const streamedBody = await (
      await door.ask(CHAT, {
        messages: [{ role: 'user', content: 'Hi' }],
        n: 128,
        max_tokens: 4,
        ignore_eos: true,
        stream: true,
      })
    ).text()
    const ends = new Map<number, number>()
    for (const [, index = ''] of streamedBody.matchAll(
      /"index":(\d+),"delta":\{\},"logprobs":null,"finish_reason":"length"/g,
    )) {
      ends.set(Number(index), (ends.get(Number(index)) ?? 0) + 1)
    }
    t.is(ends.size, 128)
    t.ok([...ends.values()].every((count) => count === 1))
  })

  await t.test('answers that the limits have no room for are refused together, and nothing is charged', async (t) => {
    const concurrent = await door.newKey({ concurrentRequests: 4 })
    const minute = await door.newKey({ requestsPerMinute: 10 })
    const budget = await door.newKey({ budget: { tokens: 200, period: 'day' } })
    const ask = (key: string, n: number) =>
      door.ask(TEXT, { prompt: 'A fox', n, max_tokens: 10 }, { headers: { authorization: `Bearer ${key}` } })
    for (const [key, most] of [
      [concurrent, 4],
      [minute, 10],
      [budget, 8],
    ] as const) {
      const refused = await ask(key, most + 10)
      const { error } = (await refused.json()) as { error: { code: string; message: string } }
      t.is(refused.status, 429, error.message)
      t.ok(error.message.includes('none was begun'), error.message)
      t.is((await ask(key, most)).status, 200, 'what fits is served after it')
    }
  })

  await t.test('a lost processor ends no list: another goes on with it', async (t) => {
    const second = await start(
      t,
      new ProcessorWorker(testOptions(door.home, 'p2', { engine: { gpu: 'off', slots: 4, contextLength: 1024 } })),
    )
    await until(
      () =>
        door.gateway.net.linksTo('processor').filter(({ load }) => load?.models.some(({ state }) => state === 'loaded'))
          .length === 2,
      'both have the model',
      20_000,
    )
    const ids = idsOf(model, 'The fox went into the forest and met a crow. '.repeat(80)).slice(0, 900)
    const asked = Array.from({ length: 8 }, (_, i) =>
      door.ask(TEXT, { prompt: ids.slice(i), echo: true, logprobs: 20, max_tokens: 0, temperature: 0 }),
    )
    const engine = () => second.models.all[0]?.engine
    await until(() => (engine()?.generating ?? 0) > 0, 'the second works')
    await new Promise((resolve) => setTimeout(resolve, 150))
    process.kill(engine()?.pid ?? 0, 'SIGKILL')
    const answers = await Promise.all(asked)
    for (const [i, response] of answers.entries()) {
      const body = (await response.json()) as Completion
      if (response.status !== 200) t.fail(JSON.stringify(body))
      else if (only(body).logprobs?.tokens.length !== 900 - i) t.fail(`a list of ${only(body).logprobs?.tokens.length}`)
      const { text_offset = [] } = body.choices?.[0]?.logprobs ?? {}
      if (text_offset.some((at, k) => at < (text_offset[k - 1] ?? 0))) t.fail('offsets go on')
    }
  })
})

/** What differs each time. */
function pick(answer: Completion): object {
  const { id, created, usage } = answer as Completion & { id: string; created: number }
  return { id, created, usage }
}

test('what a prompt echoes is counted for all its choices when the first has told it', (t) => {
  const room = new LogprobRoom(128)
  room.takeEcho(0, 1900)
  room.takeEcho(0, 1000)
  room.takeEcho(0, 1900)
  try {
    room.takeEcho(0, 2000)
    t.fail('128 times 2,000 are too many')
  } catch (err) {
    t.is(MeshError.from(err).details.param, 'logprobs')
  }
  const whole = new LogprobRoom(1)
  whole.takeEcho(0, 100_000)
  whole.takeEcho(1, 100_000)
  whole.take(50_000)
  t.exception(() => whole.take(1), /at most 250000/)
})
