import test from 'brittle'
import { getLlama, type Token } from 'node-llama-cpp'
import type { InferenceInput, InferenceResult, PromptLogprob } from '../lib/protocol/index.js'
import { AnswerCollector } from '../lib/protocol/index.js'
import { Engine } from '../workers/processor/index.js'
import { answer, chat, completion, engineOptions, failure, TINY } from './engine-kit.js'

const STORY = 'Once upon a time a fox met a crow that had a piece of cheese. "Good morning," said the fox.'

const engine = new Engine(engineOptions())

/** Runs a completion that echoes its prompt. */
async function scored(prompt: string | number[], more: Partial<InferenceInput> = {}): Promise<InferenceResult> {
  const collected = new AnswerCollector()
  const request = completion(prompt, { echo: true, logprobs: 5, maxTokens: 0, ...more } as Partial<InferenceInput>)
  const finish = await engine.generate(request, (batch) => collected.add({ type: 'tokens', ...batch }))
  return collected.result('req_1', finish)
}

const logprobsOf = ({ echo }: InferenceResult): PromptLogprob[] => echo?.logprobs ?? []

/** The log-probability of each token after the first: a softmax over all logits, one position at a time. */
async function independent(ids: readonly number[]): Promise<{ logprob: number; likeliest: number }[]> {
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false })
  const model = await llama.loadModel({ modelPath: TINY })
  const context = await model.createContext({ contextSize: 512, threads: 1 })
  try {
    const tokens = ids.map((id) => id as Token)
    const results = await context
      .getSequence()
      .controlledEvaluate(
        tokens.map((token) => [token, { generateNext: { logits: true, options: { temperature: 0 } } }]),
      )
    return tokens.slice(1).map((token, i) => {
      const logits = results[i]?.next.logits ?? new Map<Token, number>()
      const sum = [...logits.values()].reduce((all, logit) => all + Math.exp(logit), 0)
      const likeliest = [...logits].reduce((best, one) => (one[1] > best[1] ? one : best))[0]
      return { logprob: (logits.get(token) ?? Number.NaN) - Math.log(sum), likeliest }
    })
  } finally {
    await context.dispose()
    await model.dispose()
  }
}

test('the log-probabilities of a prompt are a softmax over all logits of each position', async (t) => {
  await engine.load()
  const whole = await scored(STORY)
  const { echo, text, finish } = whole
  const ids = echo?.ids ?? []
  t.is(text, '')
  t.is(finish.reason, 'length')
  t.alike(finish.usage, { promptTokens: ids.length, cachedTokens: 0, completionTokens: 0 })
  t.is(echo?.text, STORY)
  const [first, ...rest] = logprobsOf(whole)
  t.is(first?.logprob, null)
  t.alike(first?.top, [])
  t.alike(
    logprobsOf(whole).map(({ id }) => id),
    ids,
  )
  const expected = await independent(ids)
  t.is(rest.length, expected.length)
  for (const [i, { logprob, top, id }] of rest.entries()) {
    const { logprob: right = Number.NaN, likeliest } = expected[i] ?? {}
    if (!(Math.abs((logprob ?? 1) - right) < 1e-3)) t.fail(`token ${i + 1}: ${logprob} instead of ${right}`)
    if (top.length !== 5 || top[0]?.id !== likeliest) t.fail(`alternatives of token ${i + 1}`)
    const same = top.find((one) => one.id === id)
    if (same && same.logprob !== logprob) t.fail(`token ${i + 1} and itself as an alternative`)
  }
})

test('they are those that generating the same tokens tells', async (t) => {
  const generated: { id: number; logprob: number | null }[] = []
  const prompt = (await scored(STORY)).echo?.ids ?? []
  await engine.generate(completion(prompt, { maxTokens: 30, logprobs: 0 }), ({ logprobs = [] }) =>
    generated.push(...logprobs),
  )
  t.is(generated.length, 30)
  const again = logprobsOf(await scored([...prompt, ...generated.map(({ id }) => id)], { logprobs: 0 })).slice(-30)
  const differences = again.map(({ logprob }, i) => Math.abs((logprob ?? 1) - (generated[i]?.logprob ?? -1)))
  t.ok(Math.max(...differences) < 1e-2, `at most ${Math.max(...differences)}`)
  t.ok(again.every(({ top }) => top.length === 0))
})

test('an answer goes on where the prompt that was scored ends, and a warm cache changes nothing', async (t) => {
  const plain = await answer(engine, completion(STORY, { maxTokens: 12 }))
  const first = await scored(STORY, { maxTokens: 12 })
  const second = await scored(STORY, { maxTokens: 12 })
  t.is(first.text, plain.text)
  t.alike(second.echo, first.echo)
  t.is(first.logprobs?.length, 12)
  t.is(first.finish.usage.completionTokens, 12)
  t.is(first.finish.usage.cachedTokens, 0)
  const after = await answer(engine, completion(STORY, { maxTokens: 12 }))
  t.is(after.text, plain.text)
  t.ok(after.finish.usage.cachedTokens > 5, 'what was scored is in the cache')
})

test('prompts of a thousand tokens are scored in pieces, many at a time, beside answers that go on', async (t) => {
  const long = (await scored(STORY.repeat(60), { logprobs: 0 })).echo?.ids ?? []
  t.ok(long.length > 1000, `${long.length} tokens`)
  const gaps: number[] = []
  let last = performance.now()
  const running = engine.generate(completion('A fox', { maxTokens: 300, ignoreEos: true } as never), () => {
    gaps.push(performance.now() - last)
    last = performance.now()
  })
  const all = await Promise.all([20, 20, 1].map((logprobs) => scored(long, { logprobs })))
  await running
  t.comment(`worst gap ${Math.round(Math.max(...gaps.slice(1)))} ms`)
  t.ok(Math.max(...gaps.slice(1)) < 5000)
  for (const one of all) t.is(logprobsOf(one).length, long.length)
  const [a, b, c] = all.map((one) => logprobsOf(one).map(({ logprob }) => logprob))
  const off = Math.max(
    ...(a ?? []).map((one, i) => Math.max(Math.abs((one ?? 0) - (b?.[i] ?? 0)), Math.abs((one ?? 0) - (c?.[i] ?? 0)))),
  )
  t.ok(off < 1, `batches of other sizes round in other ways: apart by ${off}`)
})

test('a prompt without log-probabilities is echoed as its tokens say it', async (t) => {
  const { echo } = await scored('é 漢字 🦊!')
  const ids = echo?.ids ?? []
  const plain = await scored(ids, { logprobs: undefined, maxTokens: 3 })
  t.is(plain.echo?.text, '<s>é 漢字 🦊!', 'of ids all is told, special tokens too')
  t.alike(plain.echo?.ids, ids)
  t.absent(plain.echo?.logprobs)
  t.is(plain.finish.usage.promptTokens, ids.length)
  t.is(Buffer.from((echo?.logprobs ?? []).flatMap(({ bytes }) => bytes)).toString(), echo?.text)
})

test('one that leaves ends the scoring, and one that reads slowly holds up nobody', async (t) => {
  const ids = (await scored(STORY.repeat(60), { logprobs: 0 })).echo?.ids ?? []
  const leaving = new AbortController()
  let pieces = 0
  const request = completion(ids, { echo: true, logprobs: 20, maxTokens: 0 } as never)
  const left = failure(
    engine
      .generate(
        request,
        ({ echo }) => {
          if (echo && ++pieces === 3) leaving.abort()
        },
        leaving.signal,
      )
      .then(() => {}),
  )
  t.is((await left).code, 'CANCELLED')
  let taken = 0
  const slow = engine.generate(request, async ({ echo }) => {
    taken += echo?.ids.length ?? 0
    await new Promise((resolve) => setTimeout(resolve, 5))
  })
  const beside = await answer(engine, completion('A fox', { maxTokens: 20 }))
  t.ok(beside.ids.length > 0)
  await slow
  t.is(taken, ids.length)
})

test('a prompt of one token, and one that is empty', async (t) => {
  const one = await scored([300])
  t.alike(
    logprobsOf(one).map(({ logprob }) => logprob),
    [null],
  )
  t.is(one.finish.usage.promptTokens, 1)
  const none = await scored('', { maxTokens: 4 })
  t.is(none.echo?.text, '')
  t.is(none.echo?.ids.length, 1, 'the token for a beginning')
  t.is(none.finish.usage.promptTokens, 1)
  const quiet = await answer(engine, completion('Hello there', { maxTokens: 0 }))
  t.is(quiet.text, '')
  t.is(quiet.finish.reason, 'length')
  t.ok(quiet.finish.usage.promptTokens > 1)
  t.is(quiet.finish.usage.completionTokens, 0)
})

test('an answer whose end is ignored has exactly as many tokens as were asked for', async (t) => {
  const ends = await answer(engine, chat('Hi', { maxTokens: 200 }))
  t.is(ends.finish.reason, 'stop', 'on its own it ends')
  for (const temperature of [0, 1.5]) {
    const more = { maxTokens: 200, ignoreEos: true, sampling: { temperature, seed: 1 } }
    const endless = await answer(engine, chat('Hi', more))
    t.is(endless.ids.length, 200)
    t.is(endless.finish.reason, 'length')
  }
  const err = await failure(answer(engine, chat('Hi', { ignoreEos: true, format: { type: 'json_object' } })))
  t.is(err.code, 'BAD_REQUEST')
  t.is(err.details.param, 'ignoreEos')
})

test('the engine ends', async (t) => {
  await engine.stop()
  t.is(engine.state, 'stopped')
})
