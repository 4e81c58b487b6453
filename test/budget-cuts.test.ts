import test, { type Test } from 'brittle'
import { MeshClient } from '../lib/client/index.js'
import { type Door, startDoor } from './helpers/door.js'
import { infermesh } from './helpers/process.js'

/** How an answer says that a budget has cut it, and a refusal when a budget begins anew. */

const STORY = { ignore_eos: true, temperature: 0 }
const CHAT = { messages: [{ role: 'user', content: 'Tell a story' }], ...STORY }
const BUDGET = { budget: { tokens: 40, period: 'day' } }

interface Choice {
  finish_reason: string | null
  cut_by?: string
}

async function asked<T>(t: Test, door: Door, path: string, body: object, limits: object = BUDGET): Promise<T> {
  const headers = { authorization: `Bearer ${await door.newKey(limits)}` }
  const response = await door.ask(path, body, { headers })
  t.is(response.status, 200, path)
  return (await response.json()) as T
}

test('an answer that a budget has cut says so, and one that max_tokens has cut does not', {
  timeout: 60_000,
}, async (t) => {
  const door = await startDoor(t)

  await t.test('chats and completions', async (t) => {
    for (const [path, body] of [
      ['/v1/chat/completions', CHAT],
      ['/v1/completions', { prompt: 'Once', n_predict: -1, ...STORY }],
    ] as const) {
      const { choices } = await asked<{ choices: Choice[] }>(t, door, path, body)
      t.alike([choices[0]?.finish_reason, choices[0]?.cut_by], ['length', 'budget'], path)
      const bounded = await asked<{ choices: Choice[] }>(t, door, path, { ...body, max_tokens: 5 })
      t.is(bounded.choices[0]?.finish_reason, 'length')
      t.absent('cut_by' in (bounded.choices[0] ?? {}), `${path} with a bound of its own`)
      const free = await asked<{ choices: Choice[] }>(t, door, path, { ...body, max_tokens: 5 }, {})
      t.absent('cut_by' in (free.choices[0] ?? {}), `${path} without a budget`)

      const headers = { authorization: `Bearer ${await door.newKey(BUDGET)}` }
      const streamed = await (await door.ask(path, { ...body, stream: true }, { headers })).text()
      const chunks = [...streamed.matchAll(/^data: (\{.*)$/gm)].map(
        ([, json = '']) => JSON.parse(json) as { choices: Choice[] },
      )
      const ended = chunks.flatMap(({ choices }) => choices).filter((choice) => 'cut_by' in choice)
      t.alike(
        ended.map(({ finish_reason, cut_by }) => [finish_reason, cut_by]),
        [['length', 'budget']],
        `${path}, streamed: in the last piece alone`,
      )
    }
  })

  await t.test('responses', async (t) => {
    const body = { input: 'Tell a story', temperature: 0, store: false }
    const { status, incomplete_details } = await asked<{ status: string; incomplete_details: object | null }>(
      t,
      door,
      '/v1/responses',
      body,
      { budget: { tokens: 12, period: 'day' } },
    )
    t.alike([status, incomplete_details], ['incomplete', { reason: 'max_output_tokens', cut_by: 'budget' }])
  })

  await t.test('the client library and the command', async (t) => {
    const mesh = new MeshClient({ home: door.home, key: await door.newKey(BUDGET) })
    t.teardown(() => mesh.close())
    const request = { messages: [{ role: 'user' as const, content: 'Tell a story' }], ignoreEos: true }
    t.is((await mesh.chat(request).result).finish.cutBy, 'budget')
    const small = { budget: { tokens: 12, period: 'day' } }
    const run = async (...more: string[]) =>
      infermesh(['run', 'Tell a story', '--temperature', '0', '--key', await door.newKey(small), ...more], {
        home: door.home,
      })
    const plain = await run()
    t.is(plain.code, 0)
    t.ok(
      /^The answer is cut by the budget, which has no more tokens: `infermesh whoami` tells what is left/m.test(
        plain.stderr,
      ),
      plain.stderr,
    )
    const { finishReason, cutBy } = JSON.parse((await run('--json')).stdout) as { finishReason: string; cutBy: string }
    t.alike([finishReason, cutBy], ['length', 'budget'])
  })

  await t.test('a refusal says when the budget begins anew', async (t) => {
    const headers = { authorization: `Bearer ${await door.newKey(BUDGET)}` }
    await (await door.ask('/v1/chat/completions', CHAT, { headers })).text()
    const refused = await door.ask('/v1/chat/completions', CHAT, { headers })
    const { error } = (await refused.json()) as { error: { message: string; code: string } }
    t.alike([refused.status, error.code], [429, 'insufficient_quota'])
    t.ok(/has 0 of 40 tokens left for today \(UTC\).*Try again in \d+ (s|min|h), when the next day/.test(error.message))
    const now = Date.now()
    const seconds = Number(refused.headers.get('retry-after'))
    const untilMidnight = (new Date(now).setUTCHours(24, 0, 0, 0) - now) / 1000
    t.ok(Math.abs(seconds - untilMidnight) < 10, `${seconds} s until the day ends in ${Math.round(untilMidnight)} s`)
    t.is(refused.headers.get('x-should-retry'), 'false')
  })
})
