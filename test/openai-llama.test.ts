import test from 'brittle'
import { startDoor } from './helpers/door.js'

/** What llama-server's clients send to the paths that they share with OpenAI's. */

const CHAT = '/v1/chat/completions'
const COMPLETIONS = '/v1/completions'
const messages = [{ role: 'user', content: 'What is the capital of France?' }]
const chat = { messages, temperature: 0, max_tokens: 60 }
const completion = { prompt: 'The capital of France is', temperature: 0, max_tokens: 60 }
const schema = {
  type: 'object',
  properties: { ok: { type: 'boolean' }, city: { enum: ['Paris', 'Rome'] } },
  required: ['ok', 'city'],
  additionalProperties: false,
}
/** One that cannot be converted, and where in it. */
const wrong = { type: 'object', properties: { a: { type: 'number', multipleOf: -1 } } }
const TOOLS = [{ type: 'function', function: { name: 'now', parameters: { type: 'object', properties: {} } } }]

interface Said {
  choices?: { message?: { content: string }; text?: string; finish_reason: string }[]
  usage?: { completion_tokens: number }
  error?: { param: string; message: string; code: string }
}

/** What the newest llama.cpp's own page sends with a chat, all at their defaults. */
const LLAMA_UI = {
  reasoning_format: 'auto',
  cache_prompt: true,
  samplers: 'edskypmxt',
  dynatemp_range: 0,
  dynatemp_exponent: 1,
  typical_p: 1,
  xtc_probability: 0,
  xtc_threshold: 0.1,
  repeat_last_n: 64,
  repeat_penalty: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
  dry_multiplier: 0,
  dry_base: 1.75,
  dry_allowed_length: 2,
  dry_penalty_last_n: -1,
  timings_per_token: true,
  return_progress: true,
}
/** What other clients send at their defaults: everything, switched off. */
const ALL_OFF = {
  samplers: ['penalties', 'dry', 'top_n_sigma', 'top_k', 'typ_p', 'top_p', 'min_p', 'xtc', 'temperature'],
  mirostat: 0,
  mirostat_tau: 5,
  mirostat_eta: 0.1,
  tfs_z: 1,
  top_n_sigma: -1,
  min_keep: 0,
  n_indent: 0,
  n_probs: 0,
  t_max_predict_ms: 0,
  lora: [],
  grammar: '',
  json_schema: null,
  id_slot: -1,
  n_keep: 0,
  n_discard: 0,
  seed: -1,
  repeat_last_n: -1,
}

test('what llama-server’s clients send is done, or refused by its name', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const ask = async (path: string, body: object) => {
    const response = await door.ask(path, body)
    return { status: response.status, ...((await response.json()) as Said) }
  }
  const text = ({ choices }: Said): string => choices?.[0]?.message?.content ?? choices?.[0]?.text ?? ''
  const parsed = (said: Said): unknown => JSON.parse(text(said))

  await t.test('a schema may stand in each of its places', async (t) => {
    for (const [path, base] of [
      [CHAT, chat],
      [COMPLETIONS, completion],
    ] as const) {
      for (const asked of [
        { json_schema: schema },
        { response_format: { type: 'json_object', schema } },
        { response_format: { type: 'json_schema', schema } },
        { response_format: { type: 'json_schema', json_schema: { name: 'x', schema } } },
      ]) {
        const said = parsed(await ask(path, { ...base, ...asked, max_tokens: 400 })) as { ok: boolean; city: string }
        t.ok(typeof said.ok === 'boolean' && ['Paris', 'Rome'].includes(said.city), `${path} ${JSON.stringify(asked)}`)
      }
      const any = parsed(
        await ask(path, {
          ...base,
          response_format: { type: 'json_object' },
          max_tokens: 1000,
          seed: 1,
          temperature: 0.8,
        }),
      )
      t.ok(typeof any === 'object' && any !== null, `${path}: any object`)
    }
  })

  await t.test('a grammar is followed to the letter', async (t) => {
    const grammar = 'root ::= ("ja" | "nein") "!" digit+ "."\ndigit ::= [0-9]'
    for (const [path, base] of [
      [CHAT, chat],
      [COMPLETIONS, completion],
      ['/chat/completions', chat],
    ] as const) {
      t.ok(/^(ja|nein)!\d+\.?$/.test(text(await ask(path, { ...base, grammar }))), path)
    }
  })

  await t.test('errors name the place that the caller chose, in streams as well', async (t) => {
    for (const [asked, param] of [
      [{ json_schema: wrong }, 'json_schema.properties.a.multipleOf'],
      [{ response_format: { type: 'json_object', schema: wrong } }, 'response_format.schema.properties.a.multipleOf'],
      [{ response_format: { type: 'json_schema', schema: wrong } }, 'response_format.schema.properties.a.multipleOf'],
      [
        { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: wrong } } },
        'response_format.json_schema.schema.properties.a.multipleOf',
      ],
      [{ grammar: 'no rule' }, 'grammar'],
      [{ grammar: 'root ::= unknown' }, 'grammar'],
    ] as const) {
      for (const [path, base] of [
        [CHAT, chat],
        [COMPLETIONS, completion],
      ] as const) {
        const whole = await ask(path, { ...base, ...asked })
        t.is(`${whole.status} ${whole.error?.param}`, `400 ${param}`, `${path} ${JSON.stringify(asked)}`)
        const streamed = await ask(path, { ...base, ...asked, stream: true })
        t.is(`${streamed.status} ${streamed.error?.param}`, `400 ${param}`, 'streamed')
      }
    }
    // With all slots taken a stream has begun before an engine sees its schema.
    const slots = Array.from({ length: 12 }, () => ask(CHAT, { messages, max_tokens: 300, logit_bias: {} }))
    const response = await door.ask(CHAT, { ...chat, json_schema: wrong, stream: true })
    const told = await response.text()
    t.comment(`${response.status} ${told.slice(0, 60)}`)
    t.ok(told.includes('"param":"json_schema.properties.a.multipleOf"'), told)
    await Promise.all(slots)
  })

  await t.test('an answer has one format, and a forced call none', async (t) => {
    const refused: [asked: object, param: string][] = [
      [{ json_schema: schema, grammar: 'root ::= "a"' }, 'grammar'],
      [{ response_format: { type: 'json_object' }, grammar: 'root ::= "a"' }, 'grammar'],
      [{ response_format: { type: 'json_object' }, json_schema: schema }, 'json_schema'],
      [{ response_format: { type: 'json_schema', schema, json_schema: { schema } } }, 'response_format.schema'],
      [{ response_format: { type: 'json_schema' } }, 'response_format.json_schema'],
      [{ grammar: 'root ::= "a"', tools: TOOLS, tool_choice: 'required' }, 'grammar'],
      [
        { json_schema: schema, tools: TOOLS, tool_choice: { type: 'function', function: { name: 'now' } } },
        'json_schema',
      ],
      [{ grammar: 7 }, 'grammar'],
      [{ json_schema: 'x' }, 'json_schema'],
      [{ n_predict: 0 }, 'n_predict'],
      [{ n_predict: -2 }, 'n_predict'],
      [{ repeat_last_n: 5000 }, 'repeat_last_n'],
      [{ samplers: 'kt' }, 'samplers'],
      [{ samplers: [] }, 'samplers'],
      [{ samplers: 7 }, 'samplers'],
    ]
    for (const [asked, param] of refused) {
      const { status, error } = await ask(CHAT, { ...chat, ...asked })
      t.is(`${status} ${error?.param}`, `400 ${param}`, JSON.stringify(asked))
    }
    const free = await ask(CHAT, { ...chat, response_format: { type: 'text' }, grammar: 'root ::= "a"' })
    t.is(text(free), 'a', 'a format of text is none')
  })

  await t.test('what is switched off changes nothing', async (t) => {
    for (const [path, base] of [
      [CHAT, chat],
      [COMPLETIONS, completion],
    ] as const) {
      const plain = await ask(path, base)
      t.ok(text(plain).length > 0)
      for (const asked of [LLAMA_UI, ALL_OFF]) {
        const { status, error, ...said } = await ask(path, { ...base, ...asked })
        t.is(status, 200, `${error?.param}: ${error?.message}`)
        t.is(text(said), text(plain))
      }
    }
  })

  await t.test('n_predict bounds an answer, and -1 does not', async (t) => {
    const long = { prompt: 'Once upon a time', seed: 3 }
    const tokens = async (asked: object) =>
      (await ask(COMPLETIONS, { ...long, ...asked })).usage?.completion_tokens ?? 0
    t.is(await tokens({ n_predict: 5 }), 5)
    t.is(await tokens({ n_predict: 5, max_tokens: 3 }), 3, 'max_tokens goes first')
    t.is(await tokens({}), 16)
    t.ok((await tokens({ n_predict: -1 })) > 16)
  })

  await t.test('a seed of -1 is another one each time', async (t) => {
    const dice = { prompt: 'Once upon a time', temperature: 2, max_tokens: 40 }
    const said = async (seed: number) => text(await ask(COMPLETIONS, { ...dice, seed }))
    t.is(await said(7), await said(7))
    t.not(await said(-1), await said(-1))
  })
})
