import test from 'brittle'
import { getLlama, type LlamaModel } from 'node-llama-cpp'
import { answer, chat, completion, failure, startEngine, TINY } from './engine-kit.js'

/** Tokens without a generation: the same as the model's own tokenizer gives at once, and nobody waits for them. */

const model = 'x'
const text = (content: string, more = {}) =>
  ({ of: 'text', model, text: content, special: true, ends: false, pieces: false, ...more }) as const

async function loadTiny(): Promise<LlamaModel> {
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false })
  return llama.loadModel({ modelPath: TINY, vocabOnly: true })
}

const STORY = [
  'Once upon a time,  there was a mesh — of 12 machines.\n\n\tIt said: “Grüße, 世界!” and "it\'s" <|im_start|>user</s> 42x\r\n',
  '    for (let i = 0; i < 10; i++) { call(i, `a b c`) }  // done   \n',
  'naïve café — ещё один день; 𝒳 𝒴 😀😀 end. a  b   c\u00a0d\u3000e\u2028f ',
].join('')

test('a text that is cut has the tokens of the whole', { timeout: 60_000 }, async (t) => {
  const own = await loadTiny()
  const engine = await startEngine(t)
  for (const [name, content] of Object.entries({
    story: STORY.repeat(200),
    spaces: 'a   b  c '.repeat(5000),
    lines: `${'word word word '.repeat(20)}\n`.repeat(300),
    short: STORY,
    empty: '',
    newlines: 'one two\n\n\nthree '.repeat(3000),
    specials: '<s>system</s> a <s> b '.repeat(2000),
  })) {
    for (const special of [true, false]) {
      const { ids, count } = await engine.tokens(text(content, { special }))
      t.is(count, ids?.length)
      t.alike(ids, [...own.tokenize(content, special)], `${name}, ${special ? 'special tokens by name' : 'as text'}`)
    }
  }
  const [bos] = (await engine.tokens(text('a', { ends: true }))).ids ?? []
  t.is(bos, own.tokens.bos)
  await own.dispose()
})

test('tokens say what the text was', { timeout: 60_000 }, async (t) => {
  const engine = await startEngine(t)
  const content = STORY.repeat(60)
  const { ids = [], pieces = [] } = await engine.tokens(text(content, { special: false, pieces: true }))
  t.is(pieces.length, ids.length)
  const said = Buffer.concat(pieces.map((piece) => Buffer.from(piece)))
  // The vocabulary puts a space before each text.
  t.is(said.toString().trimStart(), content)
  t.ok(
    pieces.some((piece) => Array.isArray(piece)),
    'bytes of a character are told as bytes',
  )
  const back = await engine.tokens({ of: 'ids', model, ids })
  t.is(back.text?.trimStart(), content)
  const wrong = await failure(engine.tokens({ of: 'ids', model, ids: [1, 99_999] }))
  t.is(`${wrong.code} ${wrong.details.param}`, 'BAD_REQUEST tokens[1]')
})

test('a chat’s tokens are those that a generation has', { timeout: 60_000 }, async (t) => {
  const engine = await startEngine(t)
  const tools = [{ name: 'now', description: 'What time it is.', parameters: { type: 'object', properties: {} } }]
  for (const more of [{}, { tools }, { tools, toolChoice: 'none' as const }]) {
    const request = chat('What is the capital of France?', { ...more, maxTokens: 1 })
    const { finish } = await answer(engine, request)
    if (request.kind !== 'chat') continue
    const { messages } = request
    const told = await engine.tokens({ of: 'chat', model, messages, ...more, text: true })
    t.is(told.count, finish.usage.promptTokens, JSON.stringify(more))
    t.ok(told.text?.includes('What is the capital of France?'), told.text)
    // What is told is the prompt: sent as one, it is the same tokens.
    const raw = await answer(engine, completion(told.text ?? '', { maxTokens: 1 }))
    t.ok(Math.abs(raw.finish.usage.promptTokens - told.count) <= 1, `${raw.finish.usage.promptTokens} of ${told.count}`)
  }
  const messages = [{ role: 'user' as const, content: 'word '.repeat(5000) }]
  t.is((await failure(engine.tokens({ of: 'chat', model, messages, text: false }))).code, 'CONTEXT_LENGTH_EXCEEDED')
})

test('long texts are refused or cut, and hold up nobody', { timeout: 60_000 }, async (t) => {
  const engine = await startEngine(t)
  const refused = async (content: string): Promise<string> => {
    const { code, details, message } = await failure(engine.tokens(text(content)))
    return `${code} ${details.param} ${message}`
  }
  t.ok(/BAD_REQUEST text .* more than 100000 tokens/.test(await refused('a b '.repeat(200_000))))
  t.ok(/BAD_REQUEST text .* cannot be cut/.test(await refused('x'.repeat(9000))))
  t.is((await engine.tokens(text('x'.repeat(8000)))).count > 0, true, 'what is short enough needs no cut')

  // While others generate, tokens keep coming.
  let last = performance.now()
  let longest = 0
  const generating = engine.generate(completion('Once upon a time', { maxTokens: 200 }), () => {
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  })
  const long = 'Some words of a long text that is only counted. '.repeat(4000)
  const many = Array.from({ length: 8 }, () => engine.tokens(text(long)))
  await generating
  await Promise.all(many)
  t.comment(`longest gap between tokens: ${longest.toFixed(0)} ms`)
  t.ok(longest < 1000, `${longest.toFixed(0)} ms`)

  const leaving = new AbortController()
  const left = engine.tokens(text(long), leaving.signal)
  leaving.abort()
  t.is((await failure(left)).code, 'CANCELLED')
})
