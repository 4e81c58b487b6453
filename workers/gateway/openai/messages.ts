import type { ChatMessage, ToolCall } from '../../../lib/protocol/index.js'
import { isJsonObject } from '../http/index.js'
import { refuse } from './bodies.js'

/** Kinds of content parts that are text, and the field that has it. */
const TEXT_FIELDS: Record<string, string> = {
  text: 'text',
  input_text: 'text',
  output_text: 'text',
  refusal: 'refusal',
}

type Loose = Record<string, unknown>

/**
 * Content as one text: a string as it is, text parts joined by line breaks.
 * @returns undefined where there is none
 * @throws MeshError BAD_REQUEST naming the part that is no text
 */
export function textOf(content: unknown, where: string): string | undefined {
  if (content === undefined || content === null) return undefined
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return refuse(where, 'expected a text or a list of content parts')
  return content
    .map((part: unknown, i) => {
      const { type, ...fields } = objectAt(part, `${where}[${i}]`)
      const field = typeof type === 'string' ? TEXT_FIELDS[type] : undefined
      if (field === undefined || !Object.hasOwn(TEXT_FIELDS, String(type))) {
        return refuse(
          `${where}[${i}]`,
          typeof type === 'string'
            ? `content of type ${JSON.stringify(type.slice(0, 40))} is not supported: the models of this mesh read text only`
            : 'expected a content part with a type',
        )
      }
      const value = fields[field]
      return typeof value === 'string' ? value : refuse(`${where}[${i}].${field}`, 'expected a text')
    })
    .join('\n')
}

export function objectAt(value: unknown, where: string): Loose {
  return isJsonObject(value) ? value : refuse(where, 'expected an object')
}

function listAt(value: unknown, where: string): readonly unknown[] {
  return Array.isArray(value) ? value : refuse(where, 'expected a list')
}

export function stringAt(value: unknown, where: string): string {
  return typeof value === 'string' ? value : refuse(where, 'expected a text')
}

const ROLES = 'expected system, developer, user, assistant, tool or function'

/**
 * A conversation in OpenAI's words as ours. `developer` is system; the older function messages are tool messages.
 * @throws MeshError BAD_REQUEST with the place: an unknown role, content that is no text, a tool result without its call
 */
export function chatMessages(given: readonly Loose[]): ChatMessage[] {
  const calls = new ToolCallIds()
  return given.map((message, i) => {
    const at = `messages[${i}]`
    const content = textOf(message.content, `${at}.content`)
    switch (message.role) {
      case 'system':
      case 'developer':
        return { role: 'system', content: content ?? refuse(`${at}.content`, 'is missing') }
      case 'user':
        return { role: 'user', content: content ?? refuse(`${at}.content`, 'is missing') }
      case 'assistant':
        return assistantMessage(message, content, at, calls)
      case 'tool': {
        const id = stringAt(message.tool_call_id, `${at}.tool_call_id`)
        calls.assertMade(id, `${at}.tool_call_id`)
        return { role: 'tool', toolCallId: id, content: content ?? refuse(`${at}.content`, 'is missing') }
      }
      case 'function': {
        const name = stringAt(message.name, `${at}.name`)
        return { role: 'tool', toolCallId: calls.lastOf(name, `${at}.name`), content: content ?? '' }
      }
      default:
        return refuse(`${at}.role`, `${ROLES}, got ${JSON.stringify(String(message.role).slice(0, 40))}`)
    }
  })
}

function assistantMessage(message: Loose, content: string | undefined, at: string, calls: ToolCallIds): ChatMessage {
  if (message.audio !== undefined && message.audio !== null) refuse(`${at}.audio`, 'audio is not supported')
  const toolCalls: ToolCall[] = []
  if (message.tool_calls !== undefined && message.tool_calls !== null) {
    for (const [j, given] of listAt(message.tool_calls, `${at}.tool_calls`).entries()) {
      const where = `${at}.tool_calls[${j}]`
      const call = objectAt(given, where)
      if (call.type !== undefined && call.type !== 'function') {
        refuse(`${where}.type`, 'only calls of functions are supported')
      }
      const { name, arguments: args } = objectAt(call.function, `${where}.function`)
      toolCalls.push(
        calls.made({
          id: stringAt(call.id, `${where}.id`),
          name: stringAt(name, `${where}.function.name`),
          arguments: stringAt(args, `${where}.function.arguments`),
        }),
      )
    }
  }
  if (message.function_call !== undefined && message.function_call !== null) {
    const { name, arguments: args } = objectAt(message.function_call, `${at}.function_call`)
    toolCalls.push(
      calls.made({
        id: `call_${at.replace(/\D/g, '')}`,
        name: stringAt(name, `${at}.function_call.name`),
        arguments: stringAt(args, `${at}.function_call.arguments`),
      }),
    )
  }
  const text = content ?? textOf(message.refusal, `${at}.refusal`)
  if (text === undefined && toolCalls.length === 0) refuse(`${at}.content`, 'is missing, and there are no tool_calls')
  return { role: 'assistant', content: text ?? '', ...(toolCalls.length > 0 && { toolCalls }) }
}

/** The calls a conversation has made so far: a tool's result belongs to one of them. */
export class ToolCallIds {
  readonly #names = new Map<string, string>()

  constructor(messages: readonly ChatMessage[] = []) {
    for (const message of messages)
      if (message.role === 'assistant') for (const call of message.toolCalls ?? []) this.made(call)
  }

  made(call: ToolCall): ToolCall {
    this.#names.set(call.id, call.name)
    return call
  }

  assertMade(id: string, where: string): void {
    if (!this.#names.has(id)) {
      refuse(
        where,
        `no earlier message of the assistant has a tool call with the id ${JSON.stringify(id.slice(0, 100))}`,
      )
    }
  }

  /** The id of the last call of a function. */
  lastOf(name: string, where: string): string {
    const found = [...this.#names].findLast(([, one]) => one === name)
    return (
      found?.[0] ?? refuse(where, `no earlier message of the assistant calls ${JSON.stringify(name.slice(0, 100))}`)
    )
  }
}
