import type { LlamaModel } from 'node-llama-cpp'
import type { Tool } from '../../../../lib/protocol/index.js'
import { type CallSyntax, ID_SIGN } from './syntax.js'

/** Renders a chat template with the variables that Hugging Face's libraries give it. Throws what the template throws. */
export type RenderTemplate = (variables: Record<string, unknown>) => string

/** Mistral's templates insist on nine letters and digits; no other minds. */
export const PROBE_ID = 'call00001'

export interface Style {
  /** Whether the template wants a call's arguments as an object or as the text of one. */
  argumentsAs: 'object' | 'text'
}

const PROBE_NAMES = ['zqfirst', 'zqsecond'] as const
const PROBE_ARGUMENTS = { zqkey: 'zqvalue' }
const PROBE_JSON = /\{\s*"zqkey":\s*"zqvalue"\s*\}/g

/**
 * How a template writes calls, found out by having it write some.
 * @returns undefined where it knows no tools, or writes arguments as anything but JSON
 */
export function probeSyntax(render: RenderTemplate, model: LlamaModel, { argumentsAs }: Style): CallSyntax | undefined {
  const [only] = callsWritten(render, 1, argumentsAs)
  if (!only) return undefined
  const { before: head, middle } = only
  const tail = untilTurnEnd(model, only.after).replaceAll(PROBE_ID, ID_SIGN)
  const [, second] = callsWritten(render, 2, argumentsAs)
  if (!second) return { open: '', prefix: head, middle, suffix: tail, close: '' }
  const gap = second.before.replaceAll(PROBE_ID, ID_SIGN)
  const prefix = head.slice(head.length - commonEnd(head, gap))
  const gapRest = gap.slice(0, gap.length - prefix.length)
  const suffix = tail.slice(0, commonStart(tail, gapRest))
  return {
    open: head.slice(0, head.length - prefix.length),
    prefix,
    middle,
    suffix,
    between: gapRest.slice(suffix.length),
    close: tail.slice(suffix.length),
  }
}

/** A call as a template wrote it. */
interface WrittenCall {
  /** What stands between it and the call before it, or the beginning. */
  before: string
  /** What stands between its name and its arguments. */
  middle: string
  /** All that stands behind its arguments. */
  after: string
}

/** So many calls as the template writes them; none where it refuses, or writes them in no form that is expected. */
function callsWritten(render: RenderTemplate, count: number, argumentsAs: Style['argumentsAs']): WrittenCall[] {
  const text = attempt(() => renderCalls(render, count, argumentsAs))
  return text === undefined ? [] : splitCalls(text, count)
}

/** An answer of nothing but so many calls, from where it begins; undefined where the template refuses it. */
function renderCalls(render: RenderTemplate, count: number, argumentsAs: Style['argumentsAs']): string | undefined {
  const tools = PROBE_NAMES.map((name) =>
    toolForTemplate({ name, description: 'zq', parameters: { type: 'object', properties: {} } }),
  )
  const question = { role: 'user', content: 'zquser' }
  const common = { tools, bos_token: '', eos_token: '', enable_thinking: true }
  const before = render({ ...common, messages: [question], add_generation_prompt: true })
  const tool_calls = PROBE_NAMES.slice(0, count).map((name) => ({
    id: PROBE_ID,
    type: 'function',
    function: { name, arguments: argumentsAs === 'object' ? PROBE_ARGUMENTS : JSON.stringify(PROBE_ARGUMENTS) },
  }))
  for (const content of [null, '']) {
    const messages = [question, { role: 'assistant', content, tool_calls }]
    const whole = attempt(() => render({ ...common, messages, add_generation_prompt: false }))
    if (whole !== undefined) return whole.slice(commonStart(before, whole))
  }
  return undefined
}

/** Takes a text with so many calls apart. @returns none where it does not hold them in the form that is expected */
function splitCalls(text: string, count: number): WrittenCall[] {
  const calls: WrittenCall[] = []
  let at = 0
  for (const name of PROBE_NAMES.slice(0, count)) {
    const nameAt = text.indexOf(name, at)
    PROBE_JSON.lastIndex = nameAt
    const json = nameAt < 0 ? null : PROBE_JSON.exec(text)
    if (json === null) return []
    const end = json.index + json[0].length
    calls.push({
      before: text.slice(at, nameAt),
      middle: text.slice(nameAt + name.length, json.index),
      after: text.slice(end),
    })
    at = end
  }
  // Without anything in front of the name a call cannot be told from text.
  return calls[0]?.before.trim() === '' ? [] : calls
}

/** What stands before the first token that ends a turn. */
function untilTurnEnd(model: LlamaModel, text: string): string {
  const tokens = model.tokenize(text, true)
  const end = tokens.findIndex((token) => model.isEogToken(token))
  if (end < 0) return text.trimEnd()
  const mark = model.detokenize(tokens.slice(end, end + 1), true).trim()
  const at = text.indexOf(mark)
  return at < 0 ? text.trimEnd() : text.slice(0, at)
}

function attempt(work: () => string | undefined): string | undefined {
  try {
    return work()
  } catch {
    return undefined
  }
}

function commonStart(a: string, b: string): number {
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return length
}

function commonEnd(a: string, b: string): number {
  let length = 0
  while (length < Math.min(a.length, b.length) && a.at(-1 - length) === b.at(-1 - length)) length++
  return length
}

/** A tool as templates know it. */
export function toolForTemplate({ name, description = '', parameters = { type: 'object', properties: {} } }: Tool) {
  return { type: 'function', function: { name, description, parameters } }
}
