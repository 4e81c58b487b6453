import { join } from 'node:path'
import test from 'brittle'
import type { InferenceInput, InferenceRequest, Tool, ToolCall } from '../lib/protocol/index.js'
import { TextStream } from '../workers/processor/engine/text-stream.js'
import { CallReader, type CallReaderOptions } from '../workers/processor/engine/tools/reader.js'
import { type CallSyntax, GENERIC_SYNTAX, ID_SIGN, markOf } from '../workers/processor/engine/tools/syntax.js'
import type { Engine } from '../workers/processor/index.js'
import { chat, failure, startEngine, TINY } from './engine-kit.js'
import { TOOL_TEMPLATES, withTemplate } from './gguf-kit.js'

/** Answers with calls, cut at every place: what is told is a beginning of what the whole answer says. */

/** Calls as the known families of templates have them written. */
const SYNTAXES: Record<string, CallSyntax> = {
  generic: GENERIC_SYNTAX,
  mistral: {
    open: '[TOOL_CALLS][',
    prefix: '{"name": "',
    middle: '", "arguments": ',
    suffix: `, "id": "${ID_SIGN}"}`,
    between: ', ',
    close: ']',
  },
  llama: { open: '', prefix: '{"name": "', middle: '", "parameters": ', suffix: '}', close: '' },
  python: { open: '<|python_tag|>', prefix: '{"name": "', middle: '", "parameters": ', suffix: '}', close: '' },
  tagged: { open: '', prefix: '<function=', middle: '>', suffix: '</function>', between: '', close: '' },
  special: { open: '', prefix: '<|system|>', middle: '\n', suffix: '', between: '', close: '' },
  deepseek: {
    open: '<｜tool▁calls▁begin｜>',
    prefix: '<｜tool▁call▁begin｜>function<｜tool▁sep｜>',
    middle: '\n```json\n',
    suffix: '\n```<｜tool▁call▁end｜>',
    between: '\n',
    close: '<｜tool▁calls▁end｜>',
  },
}
const CALLS = [
  ['now', '{"a": "}\\"{<tool_call>", "b": [{"c": 1}], "ż": "🦊"}'],
  ['nowhere', '{}'],
] as const

interface Told {
  text: string
  calls: [name: string, json: string][]
  complete: number
  whole: boolean
  ended: boolean
}

function written({ open, prefix, middle, suffix, between, close }: CallSyntax): string {
  const calls = CALLS.slice(0, between === undefined ? 1 : 2).map(
    ([name, json]) => prefix + name + middle + json + suffix.replace(ID_SIGN, 'abcdefghi'),
  )
  return open + calls.join(between) + close
}

/** What is told of tokens of so many bytes, of which no more come where `cut` is true. */
function told(syntax: CallSyntax, bytes: Buffer, size: number, cut: boolean, how: Partial<CallReaderOptions>): Told {
  const names = new Set(['now', 'nowhere'])
  const reader = new CallReader({ syntax, names, most: 8, onArguments: () => true, ...how })
  const stream = new TextStream<Buffer>((ids) => Buffer.concat(ids).toString(), [], [], reader)
  const calls: Told['calls'] = []
  let text = ''
  for (let at = 0; at < bytes.length && !reader.ended; at += size) {
    const piece = stream.push(bytes.subarray(at, at + size))
    text += piece.text
    for (const { call, name, arguments: json } of piece.calls) {
      calls[call] ??= [name ?? '', '']
      calls[call][1] += json
    }
  }
  const { complete, whole, ended } = reader
  return { text: text + stream.end(cut), calls, complete, whole, ended }
}

/** True where the first is what the second has said at some point. */
function beginsLike(part: Told, all: Told): boolean {
  return (
    all.text.startsWith(part.text) &&
    part.calls.every(([name, json], i) => name === all.calls[i]?.[0] && all.calls[i][1].startsWith(json))
  )
}

test('an answer that is cut anywhere tells no markup, in whatever syntax and pieces', (t) => {
  for (const [name, syntax] of Object.entries(SYNTAXES)) {
    const most = syntax.between === undefined ? 1 : 8
    for (const before of ['', 'Well, 3 < 4, [T] and {"n": 1}: ']) {
      const answer = Buffer.from(before + written(syntax))
      for (const streamed of [true, false]) {
        for (const onMark of [undefined, () => {}]) {
          const how = { most, onArguments: () => streamed, ...(onMark && { onMark }) }
          for (const size of [1, 5]) {
            const all = told(syntax, answer, size, false, how)
            const what = `${name} ${JSON.stringify({ before, streamed, marked: onMark !== undefined, size })}`
            if (all.text !== before.trimEnd()) t.fail(`${what}: ${all.text}`)
            if (JSON.stringify(all.calls) !== JSON.stringify(CALLS.slice(0, most))) t.fail(`${what}: ${all.calls}`)
            for (let end = 0; end <= answer.length; end += size) {
              const part = told(syntax, answer.subarray(0, end), size, true, how)
              if (!beginsLike(part, all)) t.fail(`${what} at ${end}: ${JSON.stringify(part)}`)
              // An answer that may pass for whole has said all of its calls that it has begun.
              const open = part.calls.length > part.complete
              if (part.whole && (open || part.complete === 0)) t.fail(`${what} at ${end} is not whole`)
            }
          }
        }
      }
    }
  }
  t.pass()
})

test('a call that has begun behind another keeps the answer from being whole', (t) => {
  const one = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
  const at = (text: string) => told(GENERIC_SYNTAX, Buffer.from(text), 1, true, {}).whole
  t.ok(at(one))
  t.ok(at(one.slice(0, -5)), 'its end says nothing')
  t.ok(at(`${one}\n`))
  t.absent(at(`${one}\n<`))
  t.absent(at(`${one}\n<tool_call>\n{"name": "now`))
  t.absent(at(`${one}\n<tool_call>\n{"name": "now", "arguments": {`))
})

test('what may be the beginning of a call is text where the model ends there, and none where it is cut', (t) => {
  for (const text of [
    'a <',
    'a <tool_call',
    'a <tool_call>\n{"name": "n',
    'a\n',
    'a <tool_call>\n{"name": "now", "ar',
  ]) {
    const end = (cut: boolean) => told(GENERIC_SYNTAX, Buffer.from(text), 1, cut, {}).text
    t.is(end(false), text)
    t.is(end(true), 'a')
  }
})

test('behind the mark of a call nothing is text, where the mark makes a call follow', (t) => {
  t.alike(
    Object.values(SYNTAXES).map((syntax) => markOf(syntax)),
    ['<tool_call>', '[TOOL_CALLS]', undefined, '<|python_tag|>', '<function=', '<|system|>', '<｜tool▁calls▁begin｜>'],
  )
  for (const syntax of Object.values(SYNTAXES)) {
    const mark = markOf(syntax)
    if (mark === undefined) continue
    for (const rest of [' is a tag', written(syntax).slice(mark.length).replace('now', 'never'), '']) {
      for (const size of [1, 4, 100]) {
        const began: string[] = []
        const got = told(syntax, Buffer.from(`Well, ${mark}${rest}`), size, false, {
          onMark: (text) => began.push(text),
        })
        t.is(got.text, 'Well,', mark + rest)
        t.is(got.calls.length, 0)
        t.ok(began.length <= 1)
      }
    }
    const half = told(syntax, Buffer.from(`Well, ${mark.slice(0, -1)} x`), 1, false, { onMark: () => {} })
    t.is(half.text, `Well, ${mark.slice(0, -1)} x`, 'half a mark is text')
  }
})

const parameters = {
  type: 'object',
  properties: { c: { enum: ['Paris', 'Rome'] }, n: { type: 'integer', minimum: 1, maximum: 9 } },
  required: ['c', 'n'],
  additionalProperties: false,
}
const tools: Tool[] = [
  { name: 'weather', parameters },
  { name: 'now', parameters: { type: 'object', properties: {}, additionalProperties: false } },
]

interface Called {
  text: string
  calls: ToolCall[]
  reason: string
  prompt: number
  tokens: number
}

async function call(engine: Engine, request: InferenceRequest): Promise<Called> {
  const calls: ToolCall[] = []
  let text = ''
  const { reason, usage } = await engine.generate(request, (batch) => {
    text += batch.text
    for (const { call: index, id = '', name = '', arguments: json } of batch.calls ?? []) {
      calls[index] ??= { id, name, arguments: '' }
      calls[index].arguments += json
    }
  })
  return { text, calls, reason, prompt: usage.promptTokens, tokens: usage.completionTokens }
}

const isJson = (text: string): boolean => {
  try {
    return typeof JSON.parse(text) === 'object'
  } catch {
    return false
  }
}

test('an answer of the model that is cut after any number of tokens tells no markup, in the form of each template', {
  timeout: 240_000,
}, async (t) => {
  const folder = await t.tmp()
  const template = await Promise.all(
    Object.entries(TOOL_TEMPLATES).map(
      async ([name, text]) => [name, await withTemplate(TINY, join(folder, `${name}.gguf`), text)] as const,
    ),
  )
  let cuts = 0
  for (const [name, modelPath] of [['generic', TINY] as const, ...template]) {
    // One slot, whose cache is the same for all: so the same seed gives the same answer.
    const engine = await startEngine(t, { modelPath, slots: 1 })
    const twice = `{"c": "Rome", "n": 2}`
    const free = `root ::= ${JSON.stringify(`Let me see, 3 < 4.\n${freely(name, twice)}`)}`
    for (const how of [
      { toolChoice: 'required', sampling: { temperature: 1, seed: 5 } },
      { toolChoice: { name: 'weather' } },
      { format: { type: 'grammar', grammar: free } },
    ] as Partial<InferenceInput>[]) {
      const ask = (maxTokens: number) =>
        call(engine, chat('The weather in Rome?', { tools, ...how, maxTokens } as never))
      await ask(1)
      const all = await ask(150)
      const what = `${name} ${JSON.stringify(how)}`
      t.ok(all.calls.length > 0, `${what}: ${all.text}`)
      for (let most = 1; most < Math.min(all.tokens, 80); most += name === 'generic' && how.format ? 1 : 9) {
        const part = await ask(most)
        cuts++
        const where = `${what} after ${most} tokens: ${JSON.stringify(part)} of ${JSON.stringify(all)}`
        if (part.tokens !== most) t.fail(`tokens: ${where}`)
        if (!all.text.startsWith(part.text)) t.fail(`text: ${where}`)
        for (const [i, { name: called, arguments: json }] of part.calls.entries()) {
          if (called !== all.calls[i]?.name || !all.calls[i].arguments.startsWith(json)) t.fail(`calls: ${where}`)
        }
        const whole = part.calls.length > 0 && part.calls.every((one) => isJson(one.arguments))
        if (part.reason !== 'length' && !(part.reason === 'tool_calls' && whole)) t.fail(`reason: ${where}`)
      }
    }
    await engine.stop()
  }
  t.ok(cuts > 100, `${cuts} cuts`)
})

test('stop strings, a full context and cancelling tell no more of a call than maxTokens does', {
  timeout: 60_000,
}, async (t) => {
  const engine = await startEngine(t, { slots: 1, contextLength: 512 })
  const written = `Let me see. ${freely('generic', '{"c": "Rome", "n": 2}')}`
  const format = { type: 'grammar', grammar: `root ::= ${JSON.stringify(written)}` }
  const ask = (words: number, more: object = {}) =>
    chat('rain '.repeat(words), { tools, format, ...more } as Partial<InferenceInput>)
  const stop = ['<tool', '"name"', 'weather', '</tool_call>']
  const all = await call(engine, ask(1, { stop }))
  t.is(all.text, 'Let me see.')
  t.is(all.calls.map((one) => one.arguments).join(), '{"c": "Rome", "n": 2},{}')
  t.is(all.reason, 'tool_calls', 'in a call stop strings mean nothing')
  t.is((await call(engine, ask(1, { stop: ['see'] }))).text, 'Let me ')

  const promptOf = async (words: number) => (await call(engine, ask(words, { maxTokens: 1 }))).prompt
  const short = await promptOf(1)
  const perWord = ((await promptOf(101)) - short) / 100
  let cuts = 0
  for (let left = 3; left < all.tokens; left += 5) {
    const part = await call(engine, ask(1 + Math.ceil((512 - short - left) / perWord)))
    if (part.prompt + part.tokens !== 512) continue
    cuts++
    const { text, calls, reason } = part
    if (!all.text.startsWith(text)) t.fail(JSON.stringify(part))
    if (!calls.every((one, i) => all.calls[i]?.arguments.startsWith(one.arguments))) t.fail(JSON.stringify(part))
    if (reason === 'tool_calls' ? !calls.every((one) => isJson(one.arguments)) : reason !== 'length') t.fail(reason)
  }
  t.ok(cuts > 5, `${cuts} cuts`)

  for (let after = 1; after < all.tokens; after += 8) {
    const stopped = new AbortController()
    let text = ''
    let json = ''
    let tokens = 0
    const running = engine.generate(
      ask(1),
      (batch) => {
        text += batch.text
        for (const piece of batch.calls ?? []) json += piece.arguments
        tokens += batch.ids.length
        if (tokens >= after) stopped.abort()
      },
      stopped.signal,
    )
    const err = await failure(running).catch(() => undefined)
    if (err !== undefined && err.code !== 'CANCELLED') t.fail(err.message)
    if (!'Let me see.'.startsWith(text) || !'{"c": "Rome", "n": 2}{}'.startsWith(json)) t.fail(`${text} ${json}`)
  }
})

/** Two calls where the template has them, else one, in its form. */
function freely(name: string, json: string): string {
  switch (name) {
    case 'llama':
      return `{"name": "weather", "parameters": ${json}}`
    case 'mistral':
      return `[TOOL_CALLS][{"name": "weather", "arguments": ${json}, "id": "abcdefghi"}, {"name": "now", "arguments": {}, "id": "abcdefghj"}]`
    case 'tagged':
      return `<function=weather>${json}</function><function=now>{}</function>`
    case 'special':
      return `<|system|>weather\n${json}<|system|>now\n{}`
    default:
      return `<tool_call>\n{"name": "weather", "arguments": ${json}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>`
  }
}
