import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import test from 'brittle'
import { type Door, startDoor } from './helpers/door.js'
import { schemaFault } from './helpers/openai-schemas.js'

/** What is wrong with a request is said with its place, in OpenAI's form, and nothing else happens. */

const messages = [{ role: 'user', content: 'Hi' }]
const say = (content: unknown) => ({ messages: [{ role: 'user', content }] })
const CHAT = '/v1/chat/completions'
const TEXT = '/v1/completions'
const VECTORS = '/v1/embeddings'
const RESPONSES = '/v1/responses'
const tool = { type: 'function', function: { name: 'look', parameters: { type: 'object', properties: {} } } }
const called = {
  role: 'assistant',
  content: null,
  tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'look', arguments: '{}' } }],
}
const schema = (it: object, strict = false) => ({
  messages,
  response_format: { type: 'json_schema', json_schema: { name: 'x', schema: it, strict } },
})

/** Path, body, and the parameter that is named. */
const REFUSED: [path: string, body: unknown, param: string | null][] = [
  // Not JSON, or no object.
  [CHAT, '{"messages":', null],
  [CHAT, 'hello', null],
  [CHAT, '[]', null],
  [CHAT, '"text"', null],
  [CHAT, 'null', null],
  [CHAT, '17', null],
  [CHAT, '', null],
  [CHAT, `{"messages":[{"role":"user","content":"Hi"}],"temperature":NaN}`, null],
  [CHAT, `{"messages":[{"role":"user","content":"Hi"}],"__proto__":{"admin":true}}`, null],
  [CHAT, `{"messages":[{"role":"user","content":"Hi"}],"constructor":{"prototype":{"admin":true}}}`, null],
  // Numbers.
  [CHAT, `{"messages":[{"role":"user","content":"Hi"}],"temperature":1e999}`, 'temperature'],
  [CHAT, { messages, temperature: -1 }, 'temperature'],
  [CHAT, { messages, temperature: '0.5' }, 'temperature'],
  [CHAT, { messages, temperature: 'NaN' }, 'temperature'],
  [CHAT, { messages, top_p: 1.5 }, 'top_p'],
  [CHAT, { messages, max_tokens: 0 }, 'max_tokens'],
  [CHAT, { messages, max_tokens: -5 }, 'max_tokens'],
  [CHAT, { messages, max_completion_tokens: 1.5 }, 'max_completion_tokens'],
  [CHAT, { messages, max_completion_tokens: 1e300 }, 'max_completion_tokens'],
  [CHAT, { messages, n: 0 }, 'n'],
  [CHAT, { messages, n: 1000 }, 'n'],
  [CHAT, { messages, seed: 'seven' }, 'seed'],
  [CHAT, { messages, seed: 1.5 }, 'seed'],
  [CHAT, { messages, presence_penalty: 3 }, 'presence_penalty'],
  [CHAT, { messages, frequency_penalty: -2.1 }, 'frequency_penalty'],
  [CHAT, { messages, logit_bias: { fox: 1 } }, 'logit_bias.fox'],
  [CHAT, { messages, logit_bias: { 5: 101 } }, 'logit_bias.5'],
  [CHAT, { messages, logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
  [CHAT, { messages, top_logprobs: 2 }, 'top_logprobs'],
  // Messages.
  [CHAT, {}, 'messages'],
  [CHAT, { messages: [] }, 'messages'],
  [CHAT, { messages: 'Hi' }, 'messages'],
  [CHAT, { messages: ['Hi'] }, 'messages[0]'],
  [CHAT, { messages: [...messages, { role: 'wizard', content: 'Hi' }] }, 'messages[1].role'],
  [CHAT, { messages: [{ content: 'Hi' }] }, 'messages[0].role'],
  [CHAT, { messages: [{ role: 'user' }] }, 'messages[0].content'],
  [CHAT, say(7), 'messages[0].content'],
  [CHAT, say([{ type: 'text' }]), 'messages[0].content[0].text'],
  [
    CHAT,
    say([
      { type: 'text', text: 'a' },
      { type: 'image_url', image_url: { url: 'data:' } },
    ]),
    'messages[0].content[1]',
  ],
  [CHAT, say([{ type: 'input_audio', input_audio: {} }]), 'messages[0].content[0]'],
  [CHAT, say([{ type: 'file', file: {} }]), 'messages[0].content[0]'],
  [CHAT, say(['text']), 'messages[0].content[0]'],
  [CHAT, say([{ type: 'toString', text: 'a' }]), 'messages[0].content[0]'],
  [CHAT, { messages: [{ role: 'assistant', content: null }] }, 'messages[0].content'],
  [
    CHAT,
    { messages: [...messages, { role: 'tool', tool_call_id: 'call_9', content: '1' }] },
    'messages[1].tool_call_id',
  ],
  [CHAT, { messages: [called, { role: 'tool', tool_call_id: 'call_2', content: '1' }] }, 'messages[1].tool_call_id'],
  [CHAT, { messages: [called, { role: 'tool', content: '1' }] }, 'messages[1].tool_call_id'],
  [CHAT, { messages: [{ role: 'function', name: 'look', content: '1' }] }, 'messages[0].name'],
  // Stops.
  [CHAT, { messages, stop: '' }, 'stop'],
  [CHAT, { messages, stop: [''] }, 'stop[0]'],
  [CHAT, { messages, stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
  // Formats and tools.
  [CHAT, { messages, response_format: { type: 'xml' } }, 'response_format.type'],
  [CHAT, schema({ type: 'no-such-type' }), 'response_format.json_schema.schema.type'],
  [
    CHAT,
    JSON.stringify(schema({ properties: { a: { enum: [1, 'large'] } } })).replace('"large"', '1e400'),
    'response_format.json_schema.schema.properties.a.enum[1]',
  ],
  [
    CHAT,
    schema({ type: 'object', properties: { a: { type: 'string', pattern: '(?<=a)b' } } }, true),
    'response_format.json_schema.schema.properties.a.pattern',
  ],
  [CHAT, { messages, tools: [{ type: 'web_search' }] }, 'tools[0].type'],
  [CHAT, { messages, tools: [{ type: 'function', function: { name: 'a b' } }] }, 'tools[0].function.name'],
  [CHAT, { messages, tools: [tool], tool_choice: 'always' }, 'tool_choice'],
  [CHAT, { messages, tools: [tool], tool_choice: { type: 'function', function: { name: 'other' } } }, 'tool_choice'],
  [CHAT, { messages, tool_choice: 'required' }, 'tool_choice'],
  [CHAT, { messages, functions: [{ name: 'look' }], function_call: { name: 'other' } }, 'function_call'],
  // What would change the answer and cannot be done.
  [CHAT, { messages, modalities: ['text', 'audio'] }, 'modalities'],
  [CHAT, { messages, audio: { voice: 'alloy', format: 'mp3' } }, 'audio'],
  [CHAT, { messages, web_search_options: {} }, 'web_search_options'],
  [CHAT, { messages, model: 'a b' }, 'model'],
  // Completions.
  [TEXT, { prompt: [] }, 'prompt'],
  [TEXT, { prompt: ['a', []] }, 'prompt[1]'],
  [TEXT, { prompt: [[1], []] }, 'prompt[1]'],
  [TEXT, { prompt: [1, -2] }, 'prompt[1]'],
  [TEXT, { prompt: 'a', suffix: 'b' }, 'suffix'],
  [TEXT, { prompt: 'a', best_of: 2, n: 3 }, 'best_of'],
  [TEXT, { prompt: 'a', best_of: 2, stream: true }, 'best_of'],
  [TEXT, { prompt: 'a', best_of: 21 }, 'best_of'],
  [TEXT, { prompt: 'a', logprobs: 21 }, 'logprobs'],
  [TEXT, { prompt: 'a', max_tokens: -1 }, 'max_tokens'],
  [TEXT, { prompt: 'a', ignore_eos: true, response_format: { type: 'json_object' } }, 'ignore_eos'],
  [CHAT, { messages, max_tokens: 0 }, 'max_tokens'],
  [TEXT, { prompt: Array.from({ length: 100 }, () => 'a'), n: 2 }, 'prompt'],
  // Embeddings.
  [VECTORS, {}, 'input'],
  [VECTORS, { input: '' }, 'input'],
  [VECTORS, { input: [] }, 'input'],
  [VECTORS, { input: [[]] }, 'input[0]'],
  [VECTORS, { input: null }, 'input'],
  [VECTORS, { input: 'a', encoding_format: 'hex' }, 'encoding_format'],
  [VECTORS, { input: Array.from({ length: 2049 }, () => 'a') }, 'input'],
  // Responses.
  [RESPONSES, {}, 'input'],
  [RESPONSES, { input: [] }, 'input'],
  [RESPONSES, { input: [{ role: 'wizard', content: 'Hi' }] }, 'input[0].role'],
  [RESPONSES, { input: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 'input[0].content[0]'],
  [RESPONSES, { input: [{ type: 'function_call_output', call_id: 'x', output: '1' }] }, 'input[0].call_id'],
  [RESPONSES, { messages }, 'input'],
  [RESPONSES, { input: [{ type: 'computer_call', id: 'x' }] }, 'input[0].type'],
  [RESPONSES, { input: 'Hi', previous_response_id: 'resp_none' }, 'previous_response_id'],
  [RESPONSES, { input: 'Hi', background: true, store: false }, 'background'],
  [RESPONSES, { input: 'Hi', conversation: 'conv_1' }, 'conversation'],
  [RESPONSES, { input: 'Hi', truncation: 'oldest' }, 'truncation'],
  [RESPONSES, { input: 'Hi', metadata: { long: 'x'.repeat(513) } }, 'metadata.long'],
  [
    RESPONSES,
    { input: 'Hi', metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [i, 'x'])) },
    'metadata',
  ],
  [RESPONSES, { input: 'Hi', max_output_tokens: -1 }, 'max_output_tokens'],
  [RESPONSES, { input: 'Hi', tools: [{ type: 'web_search' }] }, 'tools[0].type'],
  [
    RESPONSES,
    { input: 'Hi', text: { format: { type: 'json_schema', name: 'x', schema: { type: 'no-such-type' } } } },
    'text.format.schema.type',
  ],
]

interface Failure {
  error: { message: string; type: string; param: string | null; code: string }
}

/** Asks with a body that is said to be so long, and is never sent. */
function announce(door: Door, path: string, length: number): Promise<{ status: number | undefined; body: string }> {
  const headers = {
    authorization: `Bearer ${door.key}`,
    'content-type': 'application/json',
    'content-length': length,
  }
  return new Promise((resolve, reject) => {
    const asked = request(new URL(path, door.url), { method: 'POST', headers }, async (response) => {
      resolve({ status: response.statusCode, body: await text(response) })
      asked.destroy()
    })
    asked.once('error', reject)
    asked.flushHeaders()
  })
}

test('what is wrong with a request is said', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t, { http: { bodyLimitBytes: 9 * 1024 * 1024 } })

  await t.test('bodies and parameters: 400, and the parameter by name', async (t) => {
    for (const [path, body, param] of REFUSED) {
      for (const stream of typeof body === 'string' || path === VECTORS ? [false] : [false, true]) {
        const given = stream ? { ...(body as object), stream } : body
        const response = await door.ask(path, given)
        const what = `${path} ${JSON.stringify(given).slice(0, 100)}`
        const failed = (await response.json()) as Failure
        t.is(schemaFault('error', failed), undefined)
        t.is(response.status, 400, what)
        t.is(failed.error.param, param, `${what}: ${failed.error.message}`)
        t.ok(response.headers.get('x-request-id'))
      }
    }
  })

  await t.test('what OpenAI documents and is of no use here is accepted, and so is what nobody knows', async (t) => {
    const accepted = {
      messages,
      max_tokens: 1,
      user: 'ann',
      metadata: { a: 'b' },
      store: true,
      service_tier: 'auto',
      safety_identifier: 'x',
      prompt_cache_key: 'session 7',
      prompt_cache_retention: '24h',
      reasoning_effort: 'low',
      verbosity: 'low',
      prediction: { type: 'content', content: 'x' },
      parallel_tool_calls: true,
      modalities: ['text'],
      stream_options: null,
      stop: null,
      logit_bias: null,
      response_format: { type: 'text' },
      web_search_options: null,
      made_up_by_somebody: { deep: [1, 2] },
    }
    t.is((await door.ask(CHAT, accepted)).status, 200)
    t.is((await door.ask(CHAT, { ...accepted, model: '', tools: [], functions: [] })).status, 200)
    t.is((await door.ask(TEXT, { prompt: 'a', max_tokens: 1, user: 'ann', colour: 'red' })).status, 200)
    t.is((await door.ask(VECTORS, { input: 'a', user: 'ann', colour: 'red' })).status, 200)
    const response = { input: 'a', max_output_tokens: 1, reasoning: { effort: 'low' }, include: [], colour: 'red' }
    t.is((await door.ask(RESPONSES, response)).status, 200)
  })

  await t.test('a context that is too long is told with both numbers', async (t) => {
    const long = 'fox '.repeat(20_000)
    for (const [path, body] of [
      [CHAT, say(long)],
      [CHAT, { ...say(long), stream: true }],
      [TEXT, { prompt: long }],
      [VECTORS, { input: ['short', long] }],
      [RESPONSES, { input: long }],
    ] as const) {
      const response = await door.ask(path, body)
      t.is(response.status, 400, path)
      const { error } = (await response.json()) as Failure
      t.is(error.code, 'context_length_exceeded')
      t.ok(/\d{4,}.*\d{4}/.test(error.message), error.message)
    }
  })

  await t.test('bodies that are too long, of another kind, or no UTF-8', async (t) => {
    for (const [path, bound] of [
      [CHAT, '9437184 bytes are accepted, the setting http.bodyLimitBytes'],
      [VECTORS, '37748736 bytes are accepted, 4 times the setting http.bodyLimitBytes'],
    ] as const) {
      const { status, body } = await announce(door, path, 1e9)
      t.is(status, 413)
      t.ok(body.includes(bound), body)
    }
    const huge = await door.ask(CHAT, say('x'.repeat(10_000_000))).catch(() => undefined)
    // The answer may come while the body is still being sent, and the connection is closed then.
    if (huge !== undefined) {
      t.is(huge.status, 413)
      t.is(schemaFault('error', await huge.json()), undefined)
    }
    const form = await door.ask(CHAT, 'a=b', { headers: { 'content-type': 'application/x-www-form-urlencoded' } })
    t.is(form.status, 415)
    t.is(schemaFault('error', await form.json()), undefined)
    for (const [type, status] of [
      ['text/plain', 415],
      ['application/json; charset=utf-16', 415],
      ['application/json; charset="UTF-8"', 400],
      ['application/json;charset=utf8', 400],
    ] as const) {
      const answer = await door.ask(CHAT, '{}', { headers: { 'content-type': type } })
      t.is(answer.status, status, type)
      t.is(schemaFault('error', await answer.json()), undefined)
    }
    const bytes = Buffer.concat([
      Buffer.from('{"messages":[{"role":"user","content":"'),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('"}]}'),
    ])
    const broken = await door.ask(CHAT, 'replaced', { method: 'POST', body: bytes })
    t.is(broken.status, 400)
    t.ok(/UTF-8/.test(((await broken.json()) as Failure).error.message))
    t.is((await door.ask('/healthz')).status, 200)
  })

  await t.test('paths and methods that there are not', async (t) => {
    for (const [path, method, status] of [
      ['/v1/nothing', 'GET', 404],
      ['/nothing', 'POST', 404],
      ['/v1/chat/completions', 'DELETE', 405],
      ['/v1/models', 'DELETE', 405],
      ['/v1/models/infermesh-tiny', 'DELETE', 405],
      ['/v1/responses/resp_none', 'GET', 404],
      ['/v1/%zz', 'GET', 400],
    ] as const) {
      const response = await door.ask(path, undefined, { method })
      t.is(response.status, status, `${method} ${path}`)
      t.is(schemaFault('error', await response.json()), undefined)
      t.ok(response.headers.get('x-request-id'))
      if (status === 405) t.ok(response.headers.get('allow'))
    }
  })

  await t.test('who has no key is not read at all', async (t) => {
    for (const authorization of [undefined, 'Basic abc', 'Bearer', 'Bearer sk-123', `Bearer ${door.key}x`]) {
      const response = await fetch(`${door.url}${CHAT}`, {
        method: 'POST',
        body: 'not even JSON',
        headers: authorization === undefined ? {} : { authorization },
      })
      t.is(response.status, 401)
      t.is(((await response.json()) as Failure).error.code, 'invalid_api_key')
    }
  })

  await t.test('a client’s own request id is kept where it is one', async (t) => {
    const own = await door.ask('/v1/models', undefined, { headers: { 'x-request-id': 'mine-1.2:3' } })
    t.is(own.headers.get('x-request-id'), 'mine-1.2:3')
    const other = await door.ask('/v1/models', undefined, { headers: { 'x-request-id': 'a b<script>' } })
    t.ok(other.headers.get('x-request-id')?.startsWith('req_'))
  })

  await t.test('nothing of all this was counted as served', async (t) => {
    t.is(door.gateway.load().running, 0)
    t.is((await door.ask('/readyz')).status, 200)
  })
})
