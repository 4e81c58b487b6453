import { randomBytes } from 'node:crypto'
import { type LlamaModel, LlamaText, SpecialToken, SpecialTokensText } from 'node-llama-cpp'
import type { ChatMessage, Tool, ToolCall } from '../../../../lib/protocol/index.js'
import { PROBE_ID, probeSyntax, type RenderTemplate, type Style, toolForTemplate } from './probe.js'
import type { CallSyntax } from './syntax.js'

const SYSTEM_AS_USER = (text: string) => `### System message\n\n${text}\n\n----`

/** A chat template that knows tools: how it writes calls, and messages and tools in its form. */
export class ToolTemplate {
  readonly syntax: CallSyntax
  readonly #render: RenderTemplate
  readonly #model: LlamaModel
  readonly #style: Style

  private constructor(render: RenderTemplate, model: LlamaModel, syntax: CallSyntax, style: Style) {
    this.#render = render
    this.#model = model
    this.syntax = syntax
    this.#style = style
  }

  /**
   * Finds out how a template writes calls, by having it write some.
   * @returns undefined where it knows no tools, or writes arguments as anything but JSON
   */
  static probe(render: RenderTemplate, model: LlamaModel): ToolTemplate | undefined {
    for (const argumentsAs of ['object', 'text'] as const) {
      const syntax = probeSyntax(render, model, { argumentsAs })
      if (syntax) return new ToolTemplate(render, model, syntax, { argumentsAs })
    }
    return undefined
  }

  /**
   * The messages as the model's prompt. Contents are plain text in it, whatever template tokens they spell.
   * @throws Error where the template refuses the messages
   */
  render(messages: readonly ChatMessage[], tools: readonly Tool[]): LlamaText {
    let failure: unknown
    const turns = this.syntax.between === undefined ? oneByOne(messages) : messages
    // What is said beside a call goes where the template has a place for it, and is left out where it has none.
    for (const beside of ['together', 'apart', 'out'] as const) {
      for (const systemAs of ['system', 'user'] as const) {
        // Some templates want null in place of an empty content, some a text.
        for (const empty of [null, ''] as const) {
          try {
            return this.#renderOnce(arranged(turns, beside, systemAs), tools, empty)
          } catch (cause) {
            failure ??= cause
          }
        }
      }
    }
    throw failure
  }

  #renderOnce(messages: readonly ChatMessage[], tools: readonly Tool[], empty: null | ''): LlamaText {
    const marks = new Marks()
    const last = messages.at(-1)
    // The answer goes on from here.
    const begun = last?.role === 'assistant' && last.content !== '' ? last : undefined
    let begunMark = ''
    const known = knownCalls(messages)
    const items = messages.map((message) => {
      const content = message.content === '' ? '' : marks.for(message.content)
      if (message === begun) begunMark = content
      switch (message.role) {
        case 'assistant': {
          const calls = message.toolCalls ?? []
          if (calls.length === 0) return { role: 'assistant', content }
          return {
            role: 'assistant',
            content: content === '' ? empty : content,
            tool_calls: calls.map((call) => this.#call(call, known, marks)),
          }
        }
        case 'tool': {
          const call = known.get(message.toolCallId)
          return { role: 'tool', content, tool_call_id: call?.id ?? PROBE_ID, ...(call && { name: call.name }) }
        }
        default:
          return { role: message.role, content }
      }
    })
    const text = this.#render({
      messages: items,
      ...(tools.length > 0 && { tools: tools.map((tool) => this.#quiet(toolForTemplate(tool), marks)) }),
      ...marks.specialTokens,
      add_generation_prompt: begun === undefined,
      enable_thinking: true,
    })
    const parts = marks.split(text)
    for (const { content } of items) {
      if (content && !parts.includes(content)) throw new Error('it leaves a message out')
    }
    const end = begunMark === '' ? parts.length : parts.lastIndexOf(begunMark) + 1
    return LlamaText(parts.slice(0, end).map((part, i) => marks.meaning(part, parts[i - 1], parts[i + 1])))
  }

  #call(call: ToolCall, known: KnownCalls, marks: Marks) {
    const value = this.#quiet(parseArguments(call.arguments), marks)
    const written = this.#style.argumentsAs === 'text' ? JSON.stringify(value) : value
    return {
      id: known.get(call.id)?.id ?? PROBE_ID,
      type: 'function',
      function: { name: call.name, arguments: written },
    }
  }

  /**
   * What a template writes between its own signs, with each string that spells a special token replaced by a mark: only
   * the template's own special tokens may count as such.
   */
  #quiet(value: unknown, marks: Marks): unknown {
    if (typeof value === 'string') {
      const special = this.#model.tokenize(value, true).some((token) => this.#model.isSpecialToken(token))
      return special ? marks.for(JSON.stringify(value).slice(1, -1), true) : value
    }
    if (Array.isArray(value)) return value.map((one) => this.#quiet(one, marks))
    if (value === null || typeof value !== 'object') return value
    return Object.fromEntries(
      Object.entries(value).map(([key, one]) => [this.#quiet(key, marks), this.#quiet(one, marks)]),
    )
  }
}

/** Signs that stand for texts while a template renders, so that afterwards it is known which text is whose. */
class Marks {
  readonly #texts = new Map<string, LlamaText | string>()
  readonly #escaped = new Set<string>()
  /** Nobody can guess it, and so nobody can write a mark. */
  readonly #secret = randomBytes(8).toString('hex')
  readonly specialTokens: Record<string, string>

  constructor() {
    this.specialTokens = {
      bos_token: this.for(LlamaText(new SpecialToken('BOS'))),
      eos_token: this.for(LlamaText(new SpecialToken('EOS'))),
    }
  }

  /** @param escaped true where the text is written as JSON already */
  for(text: LlamaText | string, escaped = false): string {
    const mark = `q${this.#secret}q${this.#texts.size}q`
    this.#texts.set(mark, text)
    if (escaped) this.#escaped.add(mark)
    return mark
  }

  split(text: string): string[] {
    return text.split(new RegExp(`(q${this.#secret}q\\d+q)`)).filter((part) => part !== '')
  }

  /**
   * What a part of the rendered text stands for. A template that writes a content as JSON saw nothing in its mark to
   * escape; that is made up for here.
   */
  meaning(part: string, before = '', after = ''): LlamaText | string | SpecialTokensText {
    const text = this.#texts.get(part)
    if (text === undefined) return new SpecialTokensText(part)
    const inJson = typeof text === 'string' && !this.#escaped.has(part) && before.endsWith('"') && after.startsWith('"')
    return inJson ? JSON.stringify(text).slice(1, -1) : text
  }
}

/** The messages in the arrangement that a template is to be tried with. */
function arranged(
  messages: readonly ChatMessage[],
  beside: 'together' | 'apart' | 'out',
  systemAs: 'system' | 'user',
): ChatMessage[] {
  const last = messages.at(-1)
  // An answer that was begun with nothing is a new one.
  const turns =
    last?.role === 'assistant' && last.content === '' && !last.toolCalls?.length ? messages.slice(0, -1) : messages
  return joined(
    turns.flatMap((message): ChatMessage[] => {
      if (message.role === 'system' && systemAs === 'user') {
        return [{ role: 'user', content: SYSTEM_AS_USER(message.content) }]
      }
      if (
        beside === 'together' ||
        message.role !== 'assistant' ||
        message.content === '' ||
        !message.toolCalls?.length
      ) {
        return [message]
      }
      const calls: ChatMessage = { ...message, content: '' }
      return beside === 'apart' ? [{ role: 'assistant', content: message.content }, calls] : [calls]
    }),
  )
}

/** Neighbours of one role as one message: many templates insist on turns that alternate. */
function joined(messages: readonly ChatMessage[]): ChatMessage[] {
  const result: ChatMessage[] = []
  for (const message of messages) {
    const last = result.at(-1)
    if (last && last.role === message.role && (message.role === 'user' || message.role === 'system')) {
      result[result.length - 1] = { role: message.role, content: `${last.content}\n\n${message.content}` }
    } else result.push(message)
  }
  return result
}

function parseArguments(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}

type KnownCalls = ReadonlyMap<string, { id: string; name: string }>

/** The conversation's calls by their ids, with the ids that the template is given. */
function knownCalls(messages: readonly ChatMessage[]): KnownCalls {
  const calls = messages.flatMap((message) => (message.role === 'assistant' ? (message.toolCalls ?? []) : []))
  return new Map(calls.map(({ id, name }, i) => [id, { id: `call${String(i + 1).padStart(5, '0')}`, name }]))
}

/** Calls made together as calls made one after another, for templates that know no other. */
function oneByOne(messages: readonly ChatMessage[]): ChatMessage[] {
  const results = new Map(messages.flatMap((one) => (one.role === 'tool' ? [[one.toolCallId, one] as const] : [])))
  return messages.flatMap((message): ChatMessage[] => {
    if (message.role === 'tool') return []
    if (message.role !== 'assistant' || !message.toolCalls?.length) return [message]
    return message.toolCalls.flatMap((call, i): ChatMessage[] => {
      const result = results.get(call.id)
      const turn = { role: 'assistant' as const, content: i === 0 ? message.content : '', toolCalls: [call] }
      return result ? [turn, result] : [turn]
    })
  })
}
