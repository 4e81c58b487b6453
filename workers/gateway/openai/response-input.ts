import type { ChatMessage, ToolCall } from '../../../lib/protocol/index.js'
import { refuse } from './bodies.js'
import { objectAt, stringAt, ToolCallIds, textOf } from './messages.js'
import type { ItemPlace, Words } from './words.js'

export type Item = Record<string, unknown>

/** The input of a response as items: a text is one message of the user. */
export function itemsOf(input: string | Item[]): Item[] {
  return typeof input === 'string' ? [{ type: 'message', role: 'user', content: input }] : input
}

/**
 * Items as messages that follow a history.
 * @throws MeshError BAD_REQUEST with the place: an unknown type or role, content that is no text, an output without its call
 */
export function messagesOf(items: readonly Item[], history: readonly ChatMessage[]): ChatMessage[] {
  const messages = [...history]
  const calls = new ToolCallIds(history)
  for (const [i, item] of items.entries()) {
    const at = `input[${i}]`
    switch (item.type ?? 'message') {
      case 'message':
        messages.push(messageOf(item, at))
        break
      case 'function_call': {
        const call = calls.made({
          id: stringAt(item.call_id, `${at}.call_id`),
          name: stringAt(item.name, `${at}.name`),
          arguments: stringAt(item.arguments, `${at}.arguments`),
        })
        // Calls that follow one another, or the words of the assistant, are one message.
        const last = messages.at(-1)
        if (last?.role === 'assistant' && messages.length > history.length) {
          messages[messages.length - 1] = withCall(last, call)
        } else messages.push({ role: 'assistant', content: '', toolCalls: [call] })
        break
      }
      case 'function_call_output': {
        const id = stringAt(item.call_id, `${at}.call_id`)
        calls.assertMade(id, `${at}.call_id`)
        const content = textOf(item.output, `${at}.output`) ?? refuse(`${at}.output`, 'is missing')
        messages.push({ role: 'tool', toolCallId: id, content })
        break
      }
      case 'reasoning':
        // What another model thought says nothing to the models here.
        break
      default:
        refuse(`${at}.type`, `items of type ${JSON.stringify(String(item.type).slice(0, 40))} are not supported`)
    }
  }
  return messages
}

/**
 * In which words a response is asked for.
 * @param messages what was made of its items, behind what an earlier response said
 */
export function responseWords(
  items: readonly Item[],
  messages: readonly ChatMessage[],
  hasInstructions: boolean,
): Words {
  const places = placesOf(items)
  const from = messages.length - places.length + (hasInstructions ? 1 : 0)
  return { api: 'responses', places: { from, hasInstructions, items: places } }
}

/** The items of each message, as messagesOf joins them. */
function placesOf(items: readonly Item[]): ItemPlace[] {
  const places: (ItemPlace & { isAssistant: boolean })[] = []
  for (const [i, { type = 'message', role }] of items.entries()) {
    const last = places.at(-1)
    if (type === 'reasoning') continue
    if (type === 'function_call' && last?.isAssistant === true) last.calls.push(i)
    else {
      const isCall = type === 'function_call'
      const content = type === 'function_call_output' ? 'output' : 'content'
      places.push({ item: i, content, calls: isCall ? [i] : [], isAssistant: isCall || role === 'assistant' })
    }
  }
  return places
}

function messageOf(item: Item, at: string): ChatMessage {
  const { role } = objectAt(item, at)
  const content = textOf(item.content, `${at}.content`) ?? refuse(`${at}.content`, 'is missing')
  switch (role) {
    case 'system':
    case 'developer':
      return { role: 'system', content }
    case 'user':
    case 'assistant':
      return { role, content }
    default:
      return refuse(
        `${at}.role`,
        `expected user, assistant, system or developer, got ${JSON.stringify(String(role).slice(0, 40))}`,
      )
  }
}

function withCall(message: Extract<ChatMessage, { role: 'assistant' }>, call: ToolCall): ChatMessage {
  return { ...message, toolCalls: [...(message.toolCalls ?? []), call] }
}
