import test from 'brittle'
import type { TokenLogprob } from '../lib/protocol/index.js'
import { answer, chat, startEngine } from './engine-kit.js'

/** How far an answer depends on what is cached and what runs beside it. */

/** What docs/openai.md promises of the embedded model: two log-probabilities of one token differ by less. */
const MOST_APART = 0.5
const QUESTIONS = ['Tell me a story about a fox.', 'What is love?', 'How do I bake bread?', 'Count to twenty.']

test('the same greedy question gives the same answer, alone or beside others, cached or not, but for near ties', {
  timeout: 60_000,
}, async (t) => {
  const engine = await startEngine(t, { slots: 8 })
  const ask = async (content: string, maxTokens = 40): Promise<TokenLogprob[]> => {
    const logprobs: TokenLogprob[] = []
    await engine.generate(chat(content, { maxTokens, logprobs: 20 }), (batch) => {
      logprobs.push(...(batch.logprobs ?? []))
    })
    return logprobs
  }
  let serial = 0
  /** Has other prompts in all slots' caches. */
  const forget = () => Promise.all(Array.from({ length: 8 }, () => ask(`${serial++} is a number.`, 1)))
  let most = 0
  const compare = (one: TokenLogprob[], other: TokenLogprob[], what: string): void => {
    for (const [i, { id, logprob, top }] of one.entries()) {
      const there = other[i]
      if (there === undefined) return
      const beside = there.top.find((token) => token.id === id)?.logprob ?? Number.NEGATIVE_INFINITY
      most = Math.max(most, Math.abs(beside - logprob))
      if (Math.abs(beside - logprob) > MOST_APART) t.fail(`${what}: token ${i} has ${logprob} and ${beside}`)
      if (there.id === id) continue
      const [best, second] = top
      const gap = (best?.logprob ?? 0) - (second?.logprob ?? 0)
      if (gap > 2 * MOST_APART) t.fail(`${what}: another token ${i}, though the second is ${gap} behind`)
      return
    }
  }
  for (const long of [false, true]) {
    for (const question of QUESTIONS) {
      const content = long ? `${'It rains on the hills and the sea. '.repeat(25)}${question}` : question
      await forget()
      const alone = await ask(content)
      t.ok(alone.length > 3)
      compare(alone, await ask(content), `${question} cached`)
      await forget()
      compare(alone, await ask(content), `${question} anew`)
      for (const others of [1, 7]) {
        await forget()
        const [beside = []] = await Promise.all([
          ask(content),
          ...Array.from({ length: others }, () => ask(`${serial++}: ${QUESTIONS[serial % 4]}`)),
        ])
        compare(alone, beside, `${question} beside ${others}`)
      }
    }
  }
  t.comment(`log-probabilities were up to ${most} apart`)
})

test('a seed gives the same answer again where nothing else is different', async (t) => {
  const engine = await startEngine(t, { slots: 1 })
  const ask = (seed: number) => answer(engine, chat(QUESTIONS[0] ?? '', { sampling: { temperature: 1.5, seed } }))
  await ask(1)
  for (let seed = 1; seed < 4; seed++) t.is((await ask(seed)).text, (await ask(seed)).text)
  t.not((await ask(1)).text, (await ask(2)).text)
})
