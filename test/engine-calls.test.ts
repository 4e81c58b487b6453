import test from 'brittle'
import type { TokenBatch } from '../lib/protocol/index.js'
import { inferenceRequestSchema } from '../lib/protocol/index.js'
import { constraintFor } from '../workers/processor/engine/constraint.js'
import { generate } from '../workers/processor/engine/generate.js'
import { Grammars } from '../workers/processor/engine/grammars.js'
import { LogprobFormatter } from '../workers/processor/engine/logprobs.js'
import { useMasks } from '../workers/processor/engine/masking.js'
import { loadModel } from '../workers/processor/engine/model.js'
import { Pacing } from '../workers/processor/engine/pace.js'
import { Prompts } from '../workers/processor/engine/prompt.js'
import { Scorer } from '../workers/processor/engine/scoring.js'
import { Slots } from '../workers/processor/engine/slots.js'
import { tokensOf } from '../workers/processor/engine/spelling.js'
import { CallReader } from '../workers/processor/engine/tools/reader.js'
import { type CallSyntax, GENERIC_SYNTAX, ID_SIGN } from '../workers/processor/engine/tools/syntax.js'
import { engineOptions } from './engine-kit.js'

const MISTRAL: CallSyntax = {
  open: '[TOOL_CALLS][',
  prefix: '{"name": "',
  middle: '", "arguments": ',
  suffix: `, "id": "${ID_SIGN}"}`,
  between: ', ',
  close: ']',
}

/** What a reader makes of a text that comes in pieces of this size. */
function read(syntax: CallSyntax, text: string, size: number, { sure = false, most = 8 } = {}) {
  const names = new Set(['now', 'nowhere'])
  const reader = new CallReader({ syntax, names, most, onArguments: () => sure })
  const calls: [string, string][] = []
  let told = ''
  for (let at = 0; at < text.length && !reader.ended; at += size) {
    const piece = reader.push(text.slice(at, at + size))
    told += piece.text
    for (const { call, name, arguments: json } of piece.calls) {
      calls[call] ??= [name ?? '', '']
      calls[call][1] += json
    }
  }
  return { text: told + reader.end(), calls, complete: reader.complete, ended: reader.ended }
}

test('a reader finds the same calls whatever the pieces that the text comes in', (t) => {
  const first = ['now', '{"a": "}\\"{", "b": [{"c": 1}]}'] as const
  const second = ['nowhere', '{}'] as const
  const generic = `Well,\n\n<tool_call>\n{"name": "now", "arguments": ${first[1]}}\n</tool_call>\n<tool_call>\n{"name":"nowhere","parameters":{}}\n</tool_call>`
  const mistral = `Well, [TOOL_CALLS] [{"name": "now", "arguments": ${first[1]}, "id": "abcdefghi"}, {"name": "nowhere", "arguments": {}, "id": "123456789"}]`
  for (const [syntax, text] of [
    [GENERIC_SYNTAX, generic],
    [MISTRAL, mistral],
  ] as const) {
    for (let size = 1; size < text.length + 1; size++) {
      for (const sure of [true, false]) {
        const got = read(syntax, text, size, { sure })
        if (got.text !== 'Well,' || got.complete !== 2) t.fail(`${size}: ${JSON.stringify(got)}`)
        if (JSON.stringify(got.calls) !== JSON.stringify([first, second])) t.fail(`${size}: ${JSON.stringify(got)}`)
      }
    }
  }
  t.pass()
})

test('what a model says behind its calls, and calls beyond the most, are cut off', (t) => {
  const text = '<tool_call>{"name": "now", "arguments": {}}</tool_call>\nThe weather is fine.'
  const got = read(GENERIC_SYNTAX, text, 5)
  t.is(got.text, '')
  t.ok(got.ended)
  const two =
    '<tool_call>{"name": "now", "arguments": {}}</tool_call><tool_call>{"name": "now", "arguments": {}}</tool_call>'
  t.is(read(GENERIC_SYNTAX, two, 7, { most: 1 }).complete, 1)
  t.is(read(GENERIC_SYNTAX, two, 7).complete, 2)
})

test('what is no call comes back as it was written', (t) => {
  for (const text of [
    'a < b and <tool',
    '<tool_call>\n{"name": "not_there", "arguments": {}}',
    '<tool_call>\n{"name": "now", "other": {}}',
    '<tool_call>\n{"name": "now", "arguments": [1]}',
    '<tool_call>\n{"name": "now", "arguments": {"a": tru}} ',
    ' x  ',
  ]) {
    for (let size = 1; size <= text.length; size++) t.is(read(GENERIC_SYNTAX, text, size).text, text)
  }
})

test('once a call has begun of its own accord it is made, and the schema rules its arguments, and only them', async (t) => {
  const loaded = await loadModel(engineOptions({ slots: 1 }), () => {})
  t.teardown(() => loaded.context.dispose())
  const { model, context, batching, info, llama } = loaded
  useMasks(context, llama)
  const grammars = new Grammars(tokensOf(model))
  const pacing = new Pacing(context.batchSize)
  const logprobs = new LogprobFormatter(model)
  const scorer = new Scorer(model, batching, logprobs, pacing)
  const parts = { model, batching, pacing, contextLength: info.contextLength, logprobs, scorer }
  const parameters = {
    type: 'object',
    properties: { days: { type: 'integer', minimum: 3, maximum: 5 }, unit: { enum: ['celsius'] } },
    required: ['days', 'unit'],
  }
  const request = inferenceRequestSchema.parse({
    kind: 'chat',
    messages: [{ role: 'user', content: 'Hi' }],
    tools: [{ name: 'now', parameters }],
    sampling: { temperature: 1, seed: 3 },
    maxTokens: 200,
  })
  const slots = new Slots(context, batching)
  const head = 'Sure. <tool_call>\n{"name": "now", "arguments": '
  for (const [words, marked] of [
    [`${head}{`, false],
    [`${head}{"`, false],
    [`${head}{ "days": `, false],
    // From the mark on the model must make a call of it.
    ['Sure. <tool_call>', true],
    ['Sure. <tool_call>{"na', true],
  ] as const) {
    const prompt = await (await Prompts.of(model)).render(request)
    const { signal } = new AbortController()
    const constraint = await constraintFor(request, prompt, grammars, model, signal)
    if (!constraint?.calls) throw new Error('Tools make a constraint')
    const { calls, matcher } = constraint
    // The embedded model calls no tools on its own, so its first words are put into its mouth.
    const text = String.raw`root ::= ${JSON.stringify(words)} [^\x00]*`
    const forced = grammars.matcher(await grammars.compile({ of: 'grammar', text }, signal))
    const slot = slots.take(prompt.tokens)
    if (!slot) throw new Error('A slot is free')
    const batches: TokenBatch[] = []
    const finish = await generate(
      parts,
      { id: 1, request, signal, steps: 0, usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 } },
      slot,
      prompt,
      {
        ...constraint,
        matcher: () => {
          const own = calls.inArguments || calls.complete > 0 || (marked && calls.inHead)
          return own ? matcher() : forced
        },
      },
      (batch) => batches.push(batch),
    )
    slots.give(slot)
    t.is(finish.reason, 'tool_calls')
    t.is(batches.map(({ text }) => text).join(''), 'Sure.')
    const pieces = batches.flatMap((batch) => batch.calls ?? [])
    const value = JSON.parse(pieces.map((one) => one.arguments).join('')) as { days: number; unit: string }
    t.ok(value.days >= 3 && value.days <= 5 && value.unit === 'celsius', JSON.stringify(value))
    t.ok(pieces.length > 4, 'they come in pieces')
  }
})
