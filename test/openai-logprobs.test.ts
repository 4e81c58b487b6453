import test from 'brittle'
import OpenAI from 'openai'
import { startDoor } from './helpers/door.js'

/** Log-probabilities at the door, where stop strings and limits cut: of what is said, streamed as whole. */

const model = 'infermesh-tiny'
const prompt = 'Tell me a story about a fox.'
const messages = [{ role: 'user' as const, content: prompt }]

interface Said {
  text: string
  /** Tokens with log-probabilities. */
  tokens: string[]
  offsets: number[]
  used: number
}

test('log-probabilities are of the tokens that are told, whole and streamed', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t, { engine: { slots: 1 } })
  const openai = new OpenAI({ baseURL: `${door.url}/v1`, apiKey: door.key })
  const chat = { model, messages, max_tokens: 30, temperature: 0, logprobs: true, top_logprobs: 2 }
  const raw = { model, prompt: 'Once upon a time', max_tokens: 30, temperature: 0, logprobs: 2 }
  const stream_options = { include_usage: true }

  const ways: Record<string, [whole: (stop: string[]) => Promise<Said>, streamed: (stop: string[]) => Promise<Said>]> =
    {
      chat: [
        async (stop) => {
          const { choices, usage } = await openai.chat.completions.create({ ...chat, stop })
          const tokens = choices[0]?.logprobs?.content?.map(({ token }) => token) ?? []
          return { text: choices[0]?.message.content ?? '', tokens, offsets: [], used: usage?.completion_tokens ?? 0 }
        },
        async (stop) => {
          const stream = openai.chat.completions.stream({ ...chat, stop, stream_options })
          const { choices, usage } = await stream.finalChatCompletion()
          const tokens = choices[0]?.logprobs?.content?.map(({ token }) => token) ?? []
          return { text: choices[0]?.message.content ?? '', tokens, offsets: [], used: usage?.completion_tokens ?? 0 }
        },
      ],
      completions: [
        async (stop) => {
          const { choices, usage } = await openai.completions.create({ ...raw, stop })
          const { tokens = [], text_offset = [] } = choices[0]?.logprobs ?? {}
          return { text: choices[0]?.text ?? '', tokens, offsets: text_offset, used: usage?.completion_tokens ?? 0 }
        },
        async (stop) => {
          const said: Said = { text: '', tokens: [], offsets: [], used: 0 }
          for await (const { choices, usage } of await openai.completions.create({
            ...raw,
            stop,
            stream: true,
            stream_options,
          })) {
            said.text += choices[0]?.text ?? ''
            said.tokens.push(...(choices[0]?.logprobs?.tokens ?? []))
            said.offsets.push(...(choices[0]?.logprobs?.text_offset ?? []))
            said.used = usage?.completion_tokens ?? said.used
          }
          return said
        },
      ],
    }
  for (const [way, [whole, streamed]] of Object.entries(ways)) {
    await whole([])
    const all = await whole([])
    t.is(all.tokens.join(''), all.text, way)
    t.is(all.tokens.length, all.used)
    t.alike(await streamed([]), all)
    for (let at = 0; at < all.text.length; at += 7) {
      // The second holds text back that is told at last.
      const stop = [all.text.slice(at, at + 5), `${all.text.slice(0, 9)}never`]
      const cut = await whole(stop)
      const end = all.text.indexOf(stop[0] ?? '')
      t.is(cut.text, all.text.slice(0, end))
      const said = cut.tokens.join('')
      const next = all.tokens[cut.tokens.length] ?? ''
      if (!cut.text.startsWith(said)) t.fail(`${JSON.stringify(said)} of ${JSON.stringify(cut.text)}`)
      if (cut.text.startsWith(said + next)) t.fail(`${JSON.stringify(next)} is missing`)
      t.ok(cut.used > cut.tokens.length, 'what was generated counts, told or not')
      t.alike(await streamed(stop), cut)
    }
  }

  await t.test('responses', async (t) => {
    const include = ['message.output_text.logprobs' as const]
    const ask = { model, input: prompt, max_output_tokens: 30, temperature: 0, include, store: false }
    const listed = ({ output }: OpenAI.Responses.Response): string[] =>
      output.flatMap((item) =>
        item.type === 'message'
          ? item.content.flatMap((part) =>
              part.type === 'output_text' ? (part.logprobs ?? []).map(({ token }) => token) : [],
            )
          : [],
      )
    const whole = await openai.responses.create(ask)
    t.ok(listed(whole).length > 0)
    t.is(listed(whole).join(''), whole.output_text)
    const streamed: string[] = []
    for await (const event of await openai.responses.create({ ...ask, stream: true })) {
      if (event.type === 'response.output_text.delta') streamed.push(...event.logprobs.map(({ token }) => token))
      if (event.type === 'response.incomplete') t.alike(listed(event.response), listed(whole))
    }
    t.alike(streamed, listed(whole))
  })
})
