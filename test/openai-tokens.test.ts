import test from 'brittle'
import OpenAI from 'openai'
import { MeshError, type TokensResult } from '../lib/protocol/index.js'
import { Tokens } from '../workers/gateway/requests/tokens.js'
import { startDoor } from './helpers/door.js'

/** The paths that tell of tokens, as programs made for llama-server and OpenAI's own client ask them. */

interface Told {
  tokens: (number | { id: number; piece: string | number[] })[]
  content: string
  prompt: string
  input_tokens: number
  object: string
  error?: { code: string; param: string | null; message: string }
}

const messages = [{ role: 'user', content: 'What is the capital of France?' }]

test('tokens are told as llama-server tells them', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const ask = async (path: string, body: object, headers: Record<string, string> = {}) => {
    const response = await door.ask(path, body, { headers })
    return { status: response.status, headers: response.headers, ...((await response.json()) as Told) }
  }

  await t.test('a text to tokens and back', async (t) => {
    for (const prefix of ['', '/v1']) {
      const { status, tokens } = await ask(`${prefix}/tokenize`, { content: 'Hello brave new world' })
      t.is(status, 200)
      t.ok(tokens.length > 3 && tokens.every((id) => Number.isInteger(id)), JSON.stringify(tokens))
      const { content } = await ask(`${prefix}/detokenize`, { tokens })
      t.is(content.trimStart(), 'Hello brave new world')
    }
    const plain = await ask('/tokenize', { content: 'a</s>b' })
    const asText = await ask('/tokenize', { content: 'a</s>b', parse_special: false })
    t.ok(
      asText.tokens.length > plain.tokens.length,
      'the names of special tokens are those tokens unless told otherwise',
    )
    const withBeginning = await ask('/tokenize', { content: 'a</s>b', add_special: true })
    t.alike(withBeginning.tokens.slice(1), plain.tokens)
    const { tokens } = await ask('/tokenize', { content: 'á 世', with_pieces: true })
    const pieces = tokens.map((one) => (typeof one === 'number' ? '' : one.piece))
    t.ok(
      pieces.some((piece) => Array.isArray(piece)),
      JSON.stringify(pieces),
    )
    t.is(
      Buffer.concat(pieces.map((piece) => Buffer.from(piece)))
        .toString()
        .trim(),
      'á 世',
    )
    t.alike((await ask('/tokenize', { content: '' })).tokens, [])
    t.is((await ask('/detokenize', { tokens: [] })).content, '')
    t.is((await ask('/tokenize', { content: 'a', model: 'infermesh-tiny' })).status, 200)
  })

  await t.test('a conversation as its model reads it, and what it counts', async (t) => {
    const { prompt } = await ask('/apply-template', { messages })
    t.ok(prompt.includes('What is the capital of France?'), prompt)
    const chat = (await (await door.ask('/v1/chat/completions', { messages, max_tokens: 1 })).json()) as {
      usage: { prompt_tokens: number }
    }
    const openai = new OpenAI({ apiKey: door.key, baseURL: `${door.url}/v1` })
    const counted = await openai.responses.inputTokens.count({ input: 'What is the capital of France?' })
    t.alike(counted, { object: 'response.input_tokens', input_tokens: chat.usage.prompt_tokens })

    const first = await openai.responses.create({ input: 'Hello', max_output_tokens: 5, model: 'infermesh-tiny' })
    const next = { input: 'And now?', instructions: 'Be short.', previous_response_id: first.id }
    const tools = [
      { type: 'function' as const, name: 'now', parameters: { type: 'object', properties: {} }, strict: true },
    ]
    for (const more of [{}, { tools }]) {
      const { input_tokens } = await openai.responses.inputTokens.count({ ...next, ...more })
      const answered = await openai.responses.create({
        ...next,
        ...more,
        max_output_tokens: 1,
        model: 'infermesh-tiny',
      })
      t.is(input_tokens, answered.usage?.input_tokens, JSON.stringify(more))
    }
    const gone = await ask('/v1/responses/input_tokens', { input: 'x', previous_response_id: 'resp_none' })
    t.is(`${gone.status} ${gone.error?.param}`, '400 previous_response_id')
  })

  await t.test('what cannot be told is refused by its name', async (t) => {
    const refused: [path: string, body: object, answer: string][] = [
      ['/tokenize', {}, '400 content'],
      ['/tokenize', { content: 7 }, '400 content'],
      ['/tokenize', { content: 'a b '.repeat(150_000) }, '400 content'],
      ['/tokenize', { content: 'a b '.repeat(20_000), with_pieces: true }, '400 content'],
      ['/tokenize', { content: 'x'.repeat(10_000) }, '400 content'],
      ['/tokenize', { content: 'a', model: 'there-is-none' }, '404 model'],
      ['/tokenize', { content: 'a', with_pieces: 'yes' }, '400 with_pieces'],
      ['/detokenize', {}, '400 tokens'],
      ['/detokenize', { tokens: [1, -1] }, '400 tokens'],
      ['/detokenize', { tokens: [1, 99_999] }, '400 tokens[1]'],
      ['/detokenize', { tokens: Array(100_001).fill(1) }, '400 tokens'],
      ['/apply-template', { messages: [] }, '400 messages'],
      ['/apply-template', { messages: [{ role: 'user', content: 'word '.repeat(20_000) }] }, '400 messages'],
      ['/v1/responses/input_tokens', { input: [{ type: 'image' }] }, '400 input[0].type'],
      ['/v1/responses/input_tokens', { input: 'word '.repeat(20_000) }, '400 input'],
    ]
    for (const [path, body, answer] of refused) {
      const { status, error } = await ask(path, body)
      t.is(`${status} ${error?.param}`, answer, `${path} ${JSON.stringify(body).slice(0, 60)} ${error?.message}`)
    }
  })

  await t.test('limits of requests hold, and none of tokens is used', async (t) => {
    const headersOf = (key: string) => ({ authorization: `Bearer ${key}` })
    const elsewhere = headersOf(await door.newKey({ models: ['another-model'] }))
    const few = headersOf(await door.newKey({ requestsPerMinute: 2, tokensPerMinute: 100 }))
    const budget = headersOf(await door.newKey({ budget: { tokens: 10, period: 'day' } }))
    const content = 'word '.repeat(500)
    t.is((await ask('/tokenize', { content }, elsewhere)).status, 403)
    const first = await ask('/tokenize', { content }, few)
    t.is(first.headers.get('x-ratelimit-remaining-tokens'), '100')
    t.is(first.headers.get('x-ratelimit-remaining-requests'), '1')
    t.is((await ask('/tokenize', { content }, few)).status, 200)
    t.is((await ask('/tokenize', { content }, few)).error?.code, 'rate_limit_exceeded')
    for (let i = 0; i < 5; i++) t.is((await ask('/tokenize', { content }, budget)).status, 200)
    t.is((await ask('/tokenize', { content: 'a' }, headersOf('im_wrong'))).status, 401)
  })

  await t.test('many long ones of one user do not all go at once', async (t) => {
    const content = 'Some words of a long text that is only counted. '.repeat(7000)
    const statuses = await Promise.all(
      Array.from({ length: 12 }, async () => (await ask('/tokenize', { content })).status),
    )
    t.comment(statuses.join(' '))
    const [answered, refused] = [200, 429].map((code) => statuses.filter((status) => status === code).length)
    // One whose body comes once another is done has that one's place.
    t.ok((answered ?? 0) >= 4 && (refused ?? 0) >= 1, `${answered} answered, ${refused} refused`)
    t.is((answered ?? 0) + (refused ?? 0), 12)
    t.is((await ask('/tokenize', { content: 'a' })).status, 200)
  })
})

test('another processor is asked where one is lost or busy, and no other where the request is at fault', async (t) => {
  const told: TokensResult = { count: 1, ids: [7] }
  const asked: string[] = []
  const context = { requestId: 'r1', signal: new AbortController().signal }
  const failing = (failure: MeshError | undefined, others: number) =>
    new Tokens({
      catalogue: { model: () => Object.assign(Object.create(null), { name: 'm' }) },
      limiter: {
        admit: () => ({
          maxTokens: 0,
          isBoundByBudget: false,
          correct: () => {},
          settle: () => {},
          withdraw: () => {},
        }),
        assertMayAsk: () => {},
      },
      candidates: () => Array.from({ length: others + 1 }, (_, i) => ({ id: `p${i}`, slots: 1, loaded: i === 0 })),
      processorAt: (id) => ({
        tokens: async () => {
          asked.push(id)
          if (failure !== undefined && (id === 'p0' || others === 5)) throw failure
          return told
        },
      }),
    }).told('m', { of: 'ids', ids: [7] }, context)
  for (const failure of [MeshError.BUSY('busy'), MeshError.LINK_CLOSED('gone'), MeshError.ENGINE_FAILED('died')]) {
    asked.length = 0
    t.alike(await failing(failure, 1), told)
    t.alike(asked, ['p0', 'p1'], `${failure.code}: what is loaded goes first, then another`)
    asked.length = 0
    t.is(await failing(failure, 5).catch((err: MeshError) => err.code), failure.code)
    t.is(asked.length, 3, 'three at most')
  }
  for (const failure of [MeshError.BAD_REQUEST('no'), MeshError.ENGINE_ENDED('it ended the engine')]) {
    asked.length = 0
    t.is(await failing(failure, 1).catch((err: MeshError) => err.code), failure.code)
    t.alike(asked, ['p0'])
  }
  t.is(await failing(undefined, -1).catch((err: MeshError) => err.code), 'NO_PROCESSOR')
})
