import test from 'brittle'
import { type Door, startDoor } from './helpers/door.js'
import { namesIn, readPage, rowsOf, sectionsOf } from './helpers/page.js'

/**
 * The tables of docs/openai.md against the door: every parameter that it looks at is in its table, and what the table says of
 * each is what happens. Honoured: another value makes another answer. Ignored: the answer stays the same. Refused: 400 names it.
 */

type Body = Record<string, unknown>
/** What is sent to see a parameter's doing: its value, and what has to be there besides. */
interface Sample {
  value: unknown
  with?: Body
  /** Its doing is that chance decides nothing any more: asked twice with it, the answers are the same. */
  settles?: boolean
}

const user = (content: string) => [{ role: 'user', content }]
/** A question with many answers. */
const QUESTION = 'Tell me a story.'
/** A place where chance decides, and decides the same each time. */
const DICE = { temperature: 2, seed: 5 }
const LONG = { max_tokens: 120, temperature: 0 }
const schema = {
  type: 'object',
  properties: { ok: { type: 'boolean' } },
  required: ['ok'],
  additionalProperties: false,
}
const fn = { name: 'now', parameters: { type: 'object', properties: {}, additionalProperties: false } }
const tools = [{ type: 'function', function: fn }]
const format = { type: 'json_schema', json_schema: { name: 'x', schema } }
const FORBID = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [String(300 + i), -100]))

const LONG_CHAT = [...user('word '.repeat(1300)), { role: 'assistant', content: 'Yes.' }, ...user(QUESTION)]

const SAMPLING: Record<string, Sample> = {
  model: { value: 'there-is-none' },
  temperature: { value: 2, with: { seed: 5 } },
  top_p: { value: 0.01, with: DICE },
  presence_penalty: { value: 2, with: LONG },
  frequency_penalty: { value: 2, with: LONG },
  repeat_penalty: { value: 10, with: LONG },
  seed: { value: 6, with: DICE },
  top_k: { value: 1, with: DICE },
  min_p: { value: 1, with: DICE },
  logit_bias: { value: FORBID },
  stop: { value: 'a' },
  n: { value: 2 },
  max_tokens: { value: 3 },
  stream: { value: true },
  'stream_options.include_usage': { value: true, with: { stream: true } },
  'stream_options.include_obfuscation': { value: true, with: { stream: true } },
  n_predict: { value: 2, with: { max_tokens: null } },
  repeat_last_n: { value: 1, with: { ...LONG, presence_penalty: 2 } },
  json_schema: { value: schema },
  grammar: { value: 'root ::= "yes"' },
  response_format: { value: format },
  mirostat: { value: 2 },
  typical_p: { value: 0.5 },
  tfs_z: { value: 0.5 },
  top_n_sigma: { value: 1 },
  dynatemp_range: { value: 0.5 },
  dry_multiplier: { value: 0.8 },
  xtc_probability: { value: 0.5 },
  samplers: { value: ['temperature', 'top_k'] },
  min_keep: { value: 2 },
  n_indent: { value: 2 },
  n_probs: { value: 2 },
  t_max_predict_ms: { value: 100 },
  lora: { value: [{ id: 0, scale: 1 }] },
  mirostat_tau: { value: 4 },
  mirostat_eta: { value: 0.2 },
  dynatemp_exponent: { value: 2 },
  dry_base: { value: 2 },
  dry_allowed_length: { value: 3 },
  dry_penalty_last_n: { value: 10 },
  dry_sequence_breakers: { value: ['x'] },
  xtc_threshold: { value: 0.2 },
  cache_prompt: { value: false },
  id_slot: { value: 1 },
  n_keep: { value: 5 },
  n_discard: { value: 5 },
  n_cache_reuse: { value: 5 },
  timings_per_token: { value: true },
  return_progress: { value: true },
  ignore_eos: { value: true, with: { max_tokens: 300 } },
  user: { value: 'ann' },
  safety_identifier: { value: 'ann' },
  service_tier: { value: 'flex' },
  metadata: { value: { a: 'b' } },
  prompt_cache_key: { value: 'a conversation' },
}

const CHAT: Record<string, Sample> = {
  ...SAMPLING,
  metadata: { value: { a: 'b' }, with: { store: true } },
  messages: { value: user('Hello') },
  max_completion_tokens: { value: 2, with: { max_tokens: 6 } },
  logprobs: { value: true },
  top_logprobs: { value: 2, with: { logprobs: true } },
  tools: { value: tools, with: { tool_choice: 'auto' } },
  tool_choice: { value: 'required', with: { tools } },
  parallel_tool_calls: {
    value: false,
    with: { tools, tool_choice: 'required', temperature: 1.5, seed: 3, max_tokens: 400 },
  },
  functions: { value: [fn], with: { function_call: 'auto' } },
  function_call: { value: { name: 'now' }, with: { functions: [fn] } },
  modalities: { value: ['text', 'audio'] },
  audio: { value: { voice: 'alloy', format: 'mp3' } },
  web_search_options: { value: {} },
  chat_template: { value: 'chatml' },
  chat_template_kwargs: { value: { enable_thinking: false } },
  reasoning_format: { value: 'deepseek' },
  store: { value: true },
  prediction: { value: { type: 'content', content: 'Paris' } },
  reasoning_effort: { value: 'low' },
  verbosity: { value: 'low' },
  prompt_cache_retention: { value: '24h' },
}

const COMPLETION: Record<string, Sample> = {
  ...SAMPLING,
  prompt: { value: 'Hello' },
  logprobs: { value: 2 },
  echo: { value: true },
  best_of: { value: 8, with: { temperature: 2, seed: 5 } },
  suffix: { value: 'the end' },
  messages: { value: [{ role: 'user', content: 'Hello' }] },
  tools: { value: [{ type: 'function', function: fn }] },
  functions: { value: [fn] },
}

const EMBEDDING: Record<string, Sample> = {
  model: { value: 'there-is-none' },
  input: { value: 'Hello' },
  encoding_format: { value: 'base64' },
  dimensions: { value: 7 },
  user: { value: 'ann' },
}

const responseTools = [{ type: 'function', ...fn }]
const { stream, model, user: userSample, safety_identifier, metadata, service_tier } = SAMPLING
const RESPONSE: Record<string, Sample> = {
  temperature: { value: 0, with: { temperature: 2 }, settles: true },
  top_p: { value: 0.0001, with: { temperature: 2 }, settles: true },
  ...({ stream, model, user: userSample, safety_identifier, metadata, service_tier } as Record<string, Sample>),
  prompt_cache_key: { value: 'a conversation' },
  input: { value: 'Hello' },
  instructions: { value: 'Answer in verse.' },
  previous_response_id: { value: 'resp_none' },
  store: { value: false },
  max_output_tokens: { value: 3 },
  top_logprobs: { value: 2 },
  include: { value: ['message.output_text.logprobs'] },
  'text.format': { value: { type: 'json_schema', name: 'x', schema } },
  'text.verbosity': { value: 'low' },
  tools: { value: responseTools, with: { tool_choice: 'auto' } },
  tool_choice: { value: 'required', with: { tools: responseTools } },
  parallel_tool_calls: { value: false, with: { tools: responseTools, tool_choice: 'required' } },
  // Long enough for the context alone, and not with its answer.
  truncation: { value: 'auto', with: { input: LONG_CHAT, max_output_tokens: 900 } },
  background: { value: true },
  response_format: { value: { type: 'json_object' } },
  json_schema: { value: schema },
  grammar: { value: 'root ::= "yes"' },
  stop: { value: 'a' },
  max_tokens: { value: 3 },
  max_completion_tokens: { value: 3 },
  n_predict: { value: 3 },
  functions: { value: [fn] },
  function_call: { value: 'auto' },
  ignore_eos: { value: true },
  n: { value: 2 },
  suffix: { value: 'the end' },
  chat_template: { value: 'chatml' },
  conversation: { value: 'conv_1' },
  prompt: { value: { id: 'pmpt_1' } },
  reasoning: { value: { effort: 'low' } },
  max_tool_calls: { value: 1 },
}

const TOKENIZE: Record<string, Sample> = {
  model: { value: 'there-is-none' },
  content: { value: 'Hello' },
  add_special: { value: true },
  parse_special: { value: false },
  with_pieces: { value: true },
}
const DETOKENIZE: Record<string, Sample> = { model: { value: 'there-is-none' }, tokens: { value: [300, 301] } }

const APIS = [
  { title: 'Tokenize', path: '/v1/tokenize', base: { content: 'a</s>b' }, samples: TOKENIZE, bound: {} },
  { title: 'Detokenize', path: '/v1/detokenize', base: { tokens: [400] }, samples: DETOKENIZE, bound: {} },
  {
    title: 'Chat completions',
    path: '/v1/chat/completions',
    base: { messages: user(QUESTION) },
    samples: CHAT,
    bound: { max_tokens: 40 },
  },
  {
    title: 'Completions',
    path: '/v1/completions',
    base: { prompt: 'Once upon a time' },
    samples: COMPLETION,
    bound: { max_tokens: 40 },
  },
  { title: 'Embeddings', path: '/v1/embeddings', base: { input: QUESTION }, samples: EMBEDDING, bound: {} },
  {
    title: 'Responses',
    path: '/v1/responses',
    base: { input: QUESTION },
    samples: RESPONSE,
    bound: { max_output_tokens: 40 },
  },
] as const

const sections = sectionsOf(readPage('openai.md'))

/** What a section's table says of each parameter. */
function told(title: string): Map<string, string> {
  const rows = rowsOf(sections, title)
  return new Map(rows.flatMap(([names, what = '']) => namesIn(names).map((name) => [name, what])))
}

/** A body with a parameter, whose name may lead into an object. */
function withParam(body: Body, param: string, value: unknown): Body {
  const [outer = '', inner] = param.split('.')
  return { ...body, [outer]: inner === undefined ? value : { [inner]: value } }
}

/** What a stream says, however it is cut into events. */
function streamed(text: string): string {
  const pieces = [...text.matchAll(/"(?:content|text|delta)":("(?:[^"\\]|\\.)*")/g)].map(([, piece = '""']) =>
    JSON.parse(piece),
  )
  return JSON.stringify({ said: pieces.join(''), usage: /"usage":\{/.test(text) })
}

/** An answer without what differs each time. */
async function ask(door: Door, path: string, body: Body): Promise<{ status: number; param?: string; answer: string }> {
  const response = await door.ask(path, body)
  const text = await response.text()
  if (response.status !== 200) {
    const { error } = JSON.parse(text) as { error: { param: string; code: string } }
    return { status: response.status, param: error.param, answer: error.code }
  }
  if (response.headers.get('content-type')?.startsWith('text/event')) return { status: 200, answer: streamed(text) }
  const same = text
    .replace(/\b(chatcmpl|cmpl|resp|msg|call|fc|req)[-_]\w+/g, '')
    .replace(/"(created(_at)?|cached_tokens)":\d+/g, '"$1":0')
  if (path === '/v1/chat/completions') {
    const kept = await door.ask(`${path}/${(JSON.parse(text) as { id: string }).id}`)
    const { metadata } = (await kept.json()) as { metadata?: object }
    return { status: 200, answer: JSON.stringify([same, kept.status, metadata]) }
  }
  if (path !== '/v1/responses') return { status: 200, answer: same }
  // A response repeats what was asked for; only what came of it counts.
  const { output, usage } = JSON.parse(same) as { output: unknown; usage: unknown }
  const { id } = JSON.parse(text) as { id: string }
  const kept = (await door.ask(`/v1/responses/${id}`)).status
  return { status: 200, answer: JSON.stringify({ output, usage, kept }) }
}

test('docs/openai.md says of every parameter what the door does with it', { timeout: 180_000 }, async (t) => {
  const door = await startDoor(t, { engine: { slots: 2 } })
  const document = (await (await fetch(`${door.url}/openapi.json`)).json()) as {
    paths: Record<string, { post: { requestBody: { content: Record<string, { schema: { $ref: string } }> } } }>
    components: { schemas: Record<string, { properties: object }> }
  }

  for (const { title, path, base, samples, bound } of APIS) {
    const table = told(title)
    const inherited = title === 'Completions' ? told('Chat completions') : new Map<string, string>()
    const { $ref = '' } = document.paths[path]?.post.requestBody.content['application/json']?.schema ?? {}
    const known = Object.keys(document.components.schemas[$ref.split('/').at(-1) ?? '']?.properties ?? {})
    t.ok(known.length > 1, `${title}: the door looks at ${known.length} parameters`)
    const rows = new Map([...inherited].filter(([name]) => known.includes(name.split('.')[0] as string)))
    for (const [name, what] of table) rows.set(name, what)

    const listed = new Set([...rows.keys()].map((name) => name.split('.')[0]))
    t.alike(
      known.filter((name) => !listed.has(name)),
      [],
      `${title}: every parameter that the door looks at is listed`,
    )
    t.alike([...rows.keys()].filter((name) => !(name in samples)).sort(), [], `${title}: each is tried here`)

    const plain = { temperature: 0, ...bound }
    for (const [param, what] of rows) {
      const sample = (samples as Record<string, Sample>)[param]
      if (sample === undefined) continue
      const body: Body = { ...plain, ...base, ...sample.with }
      const [without, given] = [
        await ask(door, path, body),
        await ask(door, path, withParam(body, param, sample.value)),
      ]
      const name = `${title} ${param}`
      t.is(without.status, 200, `${name}: ${without.param} ${without.answer.slice(0, 80)}`)
      if (what === 'honoured' && sample.settles === true) {
        const again = async (asked: Body) => (await ask(door, path, asked)).answer
        t.not(without.answer, await again(body), `${name}: chance decides without it`)
        t.is(given.answer, await again(withParam(body, param, sample.value)), `${name}: and not with it`)
      } else if (what === 'honoured')
        t.not(`${given.status} ${given.answer}`, `200 ${without.answer}`, `${name} is honoured`)
      else if (what === 'ignored')
        t.is(`${given.status} ${given.answer}`, `200 ${without.answer}`, `${name} is ignored`)
      else {
        t.is(what, 'refused', name)
        t.is(given.status, 400, `${name} is refused`)
        t.is(given.param, param, 'by its name')
      }
    }
    const unlisted = await ask(door, path, { ...plain, ...base, there_is_no_such_parameter: { a: 1 } })
    t.is(unlisted.status, 200, `${title}: what is not listed is accepted`)
  }
})

test('docs/openai.md says which routes there are', async (t) => {
  const door = await startDoor(t)
  const { paths } = (await (await fetch(`${door.url}/openapi.json`)).json()) as { paths: Record<string, object> }
  const served = Object.entries(paths)
    .filter(([path]) => path.startsWith('/v1/'))
    .flatMap(([path, item]) =>
      Object.keys(item)
        .filter((method) => method !== 'parameters')
        .map((method) => `${method.toUpperCase()} ${path.replace(/\{\w+\}/g, '{id}')}`),
    )
  const rows = rowsOf(sectionsOf(readPage('openai.md').split('## Parameters')[0] as string), 'The OpenAI door')
  const listed = rows.flatMap(([cell]) => namesIn(cell))
  t.alike(listed.sort(), served.sort())
})
