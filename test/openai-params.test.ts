import test from 'brittle'
import { startDoor } from './helpers/door.js'
import { parseFrames, schemaFault } from './helpers/openai-schemas.js'

/** Whoever finds a fault, the door, the mesh or the engine: it is told by the name that the caller has given it. */

const CHAT = '/v1/chat/completions'
const TEXT = '/v1/completions'
const VECTORS = '/v1/embeddings'
const RESPONSES = '/v1/responses'

const messages = [{ role: 'user', content: 'Hi' }]
/** Past the embedded model's vocabulary. */
const NO_TOKEN = 4_000_000
const long = 'fox '.repeat(3000)
const bad = { type: 'object', properties: { a: { type: 'nothing' } } }
const ways = (n: number) => ({ type: 'string', pattern: `^(a|b){${n}}$` })
const called = (id: string, name = 'look') => ({
  role: 'assistant',
  content: null,
  tool_calls: [{ id, type: 'function', function: { name, arguments: '{}' } }],
})
const call = (call_id: string, name = 'look') => ({ type: 'function_call', call_id, name, arguments: '{}' })
const result = (call_id: string) => ({ type: 'function_call_output', call_id, output: '1' })
const tool = (name: string, parameters: object = {}) => ({ type: 'function', function: { name, parameters } })
const flatTool = (name: string, parameters: object = {}) => ({ type: 'function', name, parameters })
const schema = (it: object, strict = false) => ({ type: 'json_schema', json_schema: { name: 'x', schema: it, strict } })

/** A bad value, and the parameter that is named. */
const FAULTS: [path: string, body: Record<string, unknown>, param: string][] = [
  ...[CHAT, TEXT].flatMap((path): [string, Record<string, unknown>, string][] => {
    const asked = path === CHAT ? { messages } : { prompt: 'Hi' }
    return [
      [path, { ...asked, temperature: 3 }, 'temperature'],
      [path, { ...asked, top_p: -1 }, 'top_p'],
      [path, { ...asked, top_k: -1 }, 'top_k'],
      [path, { ...asked, top_k: 0.5 }, 'top_k'],
      [path, { ...asked, min_p: 2 }, 'min_p'],
      [path, { ...asked, repeat_penalty: 11 }, 'repeat_penalty'],
      [path, { ...asked, repeat_last_n: 1e6 }, 'repeat_last_n'],
      [path, { ...asked, presence_penalty: -3 }, 'presence_penalty'],
      [path, { ...asked, frequency_penalty: 'x' }, 'frequency_penalty'],
      [path, { ...asked, seed: 1.5 }, 'seed'],
      [path, { ...asked, logit_bias: { x: 1 } }, 'logit_bias.x'],
      [path, { ...asked, logit_bias: { [NO_TOKEN]: 1 } }, `logit_bias.${NO_TOKEN}`],
      [path, { ...asked, logit_bias: { 12345678901: 1 } }, 'logit_bias.12345678901'],
      [path, { ...asked, max_tokens: 0.5 }, 'max_tokens'],
      [path, { ...asked, stop: ['x'.repeat(1001)] }, 'stop[0]'],
      [path, { ...asked, stop: 7 }, 'stop'],
      [path, { ...asked, n: 1000 }, 'n'],
      [path, { ...asked, model: 'a b' }, 'model'],
      [path, { ...asked, model: 'nobody/has:it' }, 'model'],
      [path, { ...asked, stream: 'yes' }, 'stream'],
    ]
  }),
  [CHAT, { messages, max_completion_tokens: -1 }, 'max_completion_tokens'],
  [CHAT, { messages, logprobs: true, top_logprobs: 99 }, 'top_logprobs'],
  [CHAT, { messages, response_format: schema(bad) }, 'response_format.json_schema.schema.properties.a.type'],
  [CHAT, { messages, response_format: schema(ways(9000), true) }, 'response_format.json_schema.schema.pattern'],
  [CHAT, { messages, grammar: 'root ::= (' }, 'grammar'],
  [CHAT, { messages: [{ role: 'user', content: long }] }, 'messages'],
  [CHAT, { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages[0].content[0]'],
  [CHAT, { messages: [...messages, called('x'.repeat(101))] }, 'messages[1].tool_calls[0].id'],
  [CHAT, { messages: [...messages, called('c', 'a b')] }, 'messages[1].tool_calls[0].function.name'],
  [CHAT, { messages: [...messages, called('c'), ...messages] }, 'messages[1].tool_calls'],
  [
    CHAT,
    {
      messages: [
        ...messages,
        called('c'),
        { role: 'tool', tool_call_id: 'c', content: '1' },
        { role: 'tool', tool_call_id: 'c', content: '1' },
      ],
    },
    'messages[3].tool_call_id',
  ],
  [CHAT, { messages, tools: [tool('a b')] }, 'tools[0].function.name'],
  [CHAT, { messages, tools: [tool('a'), tool('a')] }, 'tools[1].function.name'],
  [
    CHAT,
    { messages, tools: [tool('a', bad)], tool_choice: 'required' },
    'tools[0].function.parameters.properties.a.type',
  ],
  [CHAT, { messages, tools: [tool('a')], tool_choice: 'b' }, 'tool_choice'],
  [CHAT, { messages, functions: [{ name: 'a' }, { name: 'a' }] }, 'functions[1].name'],
  [
    CHAT,
    { messages, functions: [{ name: 'a', parameters: bad }], function_call: { name: 'a' } },
    'functions[0].parameters.properties.a.type',
  ],
  [CHAT, { messages, functions: [{ name: 'a' }], function_call: { name: 'b' } }, 'function_call'],

  [TEXT, { prompt: long }, 'prompt'],
  [TEXT, { prompt: ['a', 'b', 'c', long] }, 'prompt[3]'],
  [TEXT, { prompt: ['a', long], n: 2 }, 'prompt[1]'],
  [TEXT, { prompt: [long] }, 'prompt[0]'],
  [TEXT, { prompt: [1, 2, NO_TOKEN] }, 'prompt[2]'],
  [TEXT, { prompt: [2 ** 32 + 5] }, 'prompt[0]'],
  [TEXT, { prompt: [[1], [1, 2 ** 32 + 5]] }, 'prompt[1][1]'],
  [VECTORS, { input: [1, 2 ** 32 + 5] }, 'input[1]'],
  [CHAT, { messages, seed: 1e30 }, 'seed'],
  [CHAT, { messages, stop: 'a'.repeat(1001) }, 'stop'],
  [TEXT, { prompt: [[1], [1, 2, NO_TOKEN]] }, 'prompt[1][2]'],
  [TEXT, { prompt: ['a', 7] }, 'prompt[1]'],
  [TEXT, { prompt: 'a', logprobs: 99 }, 'logprobs'],
  [TEXT, { prompt: 'a', json_schema: bad }, 'json_schema.properties.a.type'],

  [VECTORS, { input: long }, 'input'],
  [VECTORS, { input: [1, NO_TOKEN] }, 'input[1]'],
  [VECTORS, { input: ['a', 'b', long] }, 'input[2]'],
  [VECTORS, { input: [...Array(70).fill('a'), long, 'b'] }, 'input[70]'],
  [VECTORS, { input: [...Array(40).fill([1]), [1, NO_TOKEN]] }, 'input[40][1]'],
  [VECTORS, { input: 'a', model: 'nobody/has:it' }, 'model'],
  [VECTORS, { input: 'a', dimensions: 7 }, 'dimensions'],
  [VECTORS, { input: 'a', encoding_format: 'hex' }, 'encoding_format'],

  [RESPONSES, { input: long }, 'input'],
  [RESPONSES, { input: 'a', temperature: 3 }, 'temperature'],
  [RESPONSES, { input: 'a', top_p: 3 }, 'top_p'],
  [RESPONSES, { input: 'a', max_output_tokens: 0 }, 'max_output_tokens'],
  [RESPONSES, { input: 'a', top_logprobs: 99 }, 'top_logprobs'],
  [RESPONSES, { input: 'a', model: 'nobody/has:it' }, 'model'],
  [RESPONSES, { input: 'a', text: { format: { type: 'xml' } } }, 'text.format.type'],
  [
    RESPONSES,
    { input: 'a', text: { format: { type: 'json_schema', name: 'x', schema: bad } } },
    'text.format.schema.properties.a.type',
  ],
  [RESPONSES, { input: 'a', tools: [flatTool('a b')] }, 'tools[0].name'],
  [RESPONSES, { input: 'a', tools: [flatTool('a'), flatTool('a')] }, 'tools[1].name'],
  [
    RESPONSES,
    { input: 'a', tools: [flatTool('a', bad)], tool_choice: 'required' },
    'tools[0].parameters.properties.a.type',
  ],
  [RESPONSES, { input: 'a', tools: [flatTool('a')], tool_choice: { type: 'function', name: 'b' } }, 'tool_choice'],
  [RESPONSES, { input: [...messages, { role: 'user', content: [{ type: 'input_image' }] }] }, 'input[1].content[0]'],
  [RESPONSES, { input: [...messages, call('c'), ...messages], instructions: 'b' }, 'input[1]'],
  [RESPONSES, { input: [...messages, call('c', 'a b')], instructions: 'b' }, 'input[1].name'],
  [RESPONSES, { input: [...messages, call('c'), call('x'.repeat(101))] }, 'input[2].call_id'],
  [
    RESPONSES,
    { input: [...messages, { type: 'reasoning', summary: [] }, call('c'), result('c'), result('c')] },
    'input[4].call_id',
  ],
]

/** Names of ours, which say nothing to a caller. */
const INTERNAL =
  /sampling|maxTokens|toolC|top[KP]\b|minP|repeat[LP]|Penalty|logitBias|(?<!text\.)format\.(schema|grammar)|parallelTool|request: /

interface Failure {
  error: { message: string; type: string; param: string | null; code: string }
}

test('a fault is told by the caller’s own name for it', { timeout: 120_000 }, async (t) => {
  const door = await startDoor(t)
  const check = (what: string, path: string, { error }: Partial<Failure>, param: string): void => {
    if (error === undefined) return t.fail(`${what}: no error`)
    t.is(schemaFault('error', { error }), undefined)
    t.is(error.param, param, `${what}: ${error.message}`)
    t.absent(INTERNAL.test(error.message), error.message)
    if (path !== CHAT) t.absent(/messages\[/.test(error.message), error.message)
  }
  for (const [path, body, param] of FAULTS) {
    const what = `${path} ${JSON.stringify(body).slice(0, 120)}`
    const response = await door.ask(path, body)
    t.ok([400, 404].includes(response.status), `${what}: ${response.status}`)
    check(what, path, (await response.json()) as Failure, param)
    if (path === VECTORS || 'stream' in body) continue
    const streamed = await door.ask(path, { ...body, stream: true })
    const text = await streamed.text()
    const told = streamed.ok ? parseFrames(text).findLast(({ data }) => data !== undefined)?.data : text
    const failure = JSON.parse(told === undefined || told === '[DONE]' ? '{}' : told) as Failure & {
      response?: { error: { message: string } }
    }
    if (failure.response === undefined) check(`${what}, streamed`, path, failure, param)
    else t.absent(INTERNAL.test(failure.response.error.message), failure.response.error.message)
  }
  t.comment(`${FAULTS.length} faults`)

  await t.test('what an earlier response said is no item of the input', async (t) => {
    const tools = [flatTool('look', { type: 'object', properties: {} })]
    const asked = { input: 'Hi', tools, tool_choice: 'required', max_output_tokens: 200 }
    const { id } = (await (await door.ask(RESPONSES, asked)).json()) as { id: string }
    const response = await door.ask(RESPONSES, { input: 'And?', previous_response_id: id, instructions: 'b' })
    t.is(response.status, 400)
    const { error } = (await response.json()) as Failure
    t.is(error.param, 'previous_response_id', error.message)
    t.absent(/messages\[/.test(error.message), error.message)
  })
})
