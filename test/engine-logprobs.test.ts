import test from 'brittle'
import type { InferenceInput, TokenLogprob } from '../lib/protocol/index.js'
import { Engine } from '../workers/processor/index.js'
import { answer, chat, completion, engineOptions, failure } from './engine-kit.js'

const STORY = 'Tell me a story about a fox.'

const engine = new Engine(engineOptions())

/** The text of tokens, of which the last may be part of a character. */
function saidBy(logprobs: readonly TokenLogprob[]): string {
  return Buffer.from(logprobs.flatMap(({ bytes }) => bytes))
    .toString()
    .replace(/\ufffd+$/, '')
}

async function logprobsOf(content: string, more: Partial<InferenceInput> = {}) {
  const logprobs: TokenLogprob[] = []
  const ids: number[] = []
  let text = ''
  let aligned = true
  await engine.generate(chat(content, { logprobs: 5, maxTokens: 40, ...more }), (tokens) => {
    logprobs.push(...(tokens.logprobs ?? []))
    ids.push(...tokens.ids)
    text += tokens.text
    aligned &&= logprobs.every(({ id }, i) => id === ids[i]) && text.startsWith(saidBy(logprobs))
  })
  return { logprobs, ids, text, aligned }
}

test('the token that greedy decoding takes is the likeliest alternative, and probabilities add up to 1 at most', async (t) => {
  await engine.load()
  const { logprobs, ids, text, aligned } = await logprobsOf(STORY)
  t.is(ids.length, 40)
  t.ok(aligned)
  t.alike(
    logprobs.map(({ id }) => id),
    ids,
  )
  t.is(logprobs.map((one) => one.text).join(''), text)
  for (const { id, logprob, top } of logprobs) {
    if (top.length !== 5 || top[0]?.id !== id || top[0]?.logprob !== logprob) t.fail(`token ${id}`)
    const sum = top.reduce((all, one) => all + Math.exp(one.logprob), 0)
    if (sum > 1.0001 || top.some((one, i) => one.logprob > (top[i - 1]?.logprob ?? 0))) t.fail(`alternatives of ${id}`)
  }
})

test('log-probabilities are those of the model, whatever sampling makes of them', async (t) => {
  const plain = await logprobsOf(STORY, { maxTokens: 1 })
  const first = plain.logprobs[0] as TokenLogprob
  const other = first.top[3] as TokenLogprob['top'][number]
  const bent = await logprobsOf(STORY, {
    maxTokens: 1,
    sampling: { temperature: 2, topK: 1, seed: 1, repeatPenalty: 1.5, logitBias: { [other.id]: 100 } },
  })
  t.is(bent.ids[0], other.id, 'the bias forces it')
  t.alike(
    bent.logprobs[0]?.top.map(({ id }) => id),
    first.top.map(({ id }) => id),
  )
  t.ok(Math.abs((bent.logprobs[0]?.logprob ?? 0) - other.logprob) < 1e-4)
  const format = { type: 'grammar' as const, grammar: 'root ::= "zz"' }
  const forced = await logprobsOf(STORY, { format })
  t.is(forced.text, 'zz')
  t.ok((forced.logprobs[0]?.logprob ?? 0) < -5, 'what a grammar forces stays unlikely')
})

test('an alternative that is only reached by a long list is still told', async (t) => {
  const { logprobs } = await logprobsOf(STORY, { maxTokens: 2, logprobs: 20 })
  t.is(logprobs[0]?.top.length, 20)
  const none = await logprobsOf(STORY, { maxTokens: 2, logprobs: 0 })
  t.alike(none.logprobs[0]?.top, [])
  t.ok((none.logprobs[0]?.logprob ?? 1) <= 0)
})

test('log-probabilities stay beside their tokens while text is held back for stop strings', async (t) => {
  const whole = await logprobsOf(STORY)
  const stop = [`${whole.text.slice(10, 30)}never`, whole.text.slice(60, 68)]
  const cut = await logprobsOf(STORY, { stop })
  t.ok(cut.logprobs.length > 0)
  t.ok(cut.aligned)
  t.is(cut.text, whole.text.slice(0, 60))
  t.alike(cut.logprobs, whole.logprobs.slice(0, cut.logprobs.length))
})

test('wherever a stop string or maxTokens cuts, log-probabilities are of the tokens whose text is told', async (t) => {
  const format = {
    type: 'grammar' as const,
    grammar: 'root ::= "The fox 🦊 is née 漢 at home, and so it goes." [a-z ]{5}',
  }
  const whole = await logprobsOf(STORY, { format })
  const signs = [...whole.text]
  const places = signs.map((_, i) => signs.slice(0, i).join('').length)
  for (const [i, at] of places.entries()) {
    for (const long of [1, 3, 9]) {
      const stop = signs.slice(i, i + long).join('')
      const end = whole.text.indexOf(stop)
      const cut = await logprobsOf(STORY, { format, stop: [stop, `${stop}never`] })
      const told = cut.logprobs.length
      const what = `${JSON.stringify(stop)} at ${at}`
      if (cut.text !== whole.text.slice(0, end)) t.fail(`text: ${what}: ${cut.text}`)
      if (!cut.aligned || cut.ids.length <= told - 1) t.fail(`not beside their tokens: ${what}`)
      if (JSON.stringify(cut.logprobs.map(({ id }) => id)) !== JSON.stringify(cut.ids.slice(0, told))) t.fail(what)
      // The next token would say more than is told.
      const more = Buffer.from(cut.logprobs.concat(whole.logprobs[told] ?? []).flatMap(({ bytes }) => bytes))
      if (told < whole.logprobs.length && cut.text.startsWith(more.toString())) t.fail(`one is missing: ${what}`)
    }
  }
  for (let maxTokens = 1; maxTokens < whole.ids.length; maxTokens++) {
    const cut = await logprobsOf(STORY, { format, maxTokens, stop: ['never'] })
    t.is(cut.ids.length, maxTokens)
    if (!cut.aligned || saidBy(cut.logprobs) !== cut.text) t.fail(`after ${maxTokens} tokens: ${cut.text}`)
  }
})

test('the token that ends an answer is in no list', async (t) => {
  const { text, logprobs, ids } = await logprobsOf('What is the capital of France?', { maxTokens: 200 })
  t.is(saidBy(logprobs), text)
  t.is(logprobs.length, ids.length)
})

test('the bytes of tokens add up to the text where a token is part of a character', async (t) => {
  const format = { type: 'grammar' as const, grammar: 'root ::= "🦊é漢"' }
  const { logprobs, text } = await logprobsOf('x', { format })
  t.is(text, '🦊é漢')
  t.is(Buffer.from(logprobs.flatMap(({ bytes }) => bytes)).toString(), text)
})

test('a bias of -100 forbids a token, also the one that ends the answer', async (t) => {
  const plain = await answer(engine, chat(STORY, { maxTokens: 5 }))
  const banned = plain.ids[0] as number
  const without = await answer(
    engine,
    chat(STORY, { maxTokens: 30, sampling: { temperature: 0, logitBias: { [banned]: -100 } } }),
  )
  t.absent(without.ids.includes(banned))
  const end = { 2: -100, 3: -100, 4: -100, 5: -100, 6: -100, 7: -100 }
  const endless = await answer(engine, chat('Hi', { maxTokens: 60, sampling: { temperature: 0, logitBias: end } }))
  t.is(endless.finish.reason, 'length')
  const err = await failure(answer(engine, chat('x', { sampling: { logitBias: { 2048: 1 } } })))
  t.is(err.code, 'BAD_REQUEST')
  t.is(err.details.param, 'sampling.logitBias.2048')
  t.ok(err.message.includes('2048 tokens'), err.message)
})

test('a prompt may be token ids', async (t) => {
  const whole = await answer(engine, chat(STORY, { maxTokens: 20 }))
  const rest = await answer(engine, completion(whole.ids.slice(0, 12), { maxTokens: 8 }))
  t.is(rest.finish.usage.promptTokens, 12, 'as they are, with nothing put in front')
  t.is(rest.ids.length, 8)
  const err = await failure(answer(engine, completion([1, 5000])))
  t.is(err.code, 'BAD_REQUEST')
  t.is(err.details.param, 'prompt[1]')
  t.is(err.details.vocabularySize, 2048)
})

test('embeddings take token ids, and refuse those that the model does not have', async (t) => {
  const { ids } = await answer(engine, chat(STORY, { maxTokens: 8 }))
  const { embeddings } = await engine.embed([ids, ids, 'a fox'])
  t.alike(embeddings[0], embeddings[1])
  t.unlike(embeddings[0], embeddings[2])
  const err = await failure(engine.embed(['a fox', [3, 4096]]))
  t.is(err.code, 'BAD_REQUEST')
  t.is(err.details.param, 'input[1][1]')
})

test('the engine ends', async (t) => {
  await engine.stop()
  t.is(engine.state, 'stopped')
})
