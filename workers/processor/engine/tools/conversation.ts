import { MeshError } from '../../../../lib/errors/index.js'
import type { ChatMessage, InferenceRequest, Tool } from '../../../../lib/protocol/index.js'
import { GENERIC_SYNTAX } from './syntax.js'

/** A request for the next turn of a conversation. */
export type ChatRequest = Extract<InferenceRequest, { kind: 'chat' }>

/**
 * The tools that the model may call.
 * @throws MeshError BAD_REQUEST where the choice names none of them, or there are none to choose from
 */
export function offeredTools({ tools = [], toolChoice = 'auto' }: ChatRequest): readonly Tool[] {
  if (toolChoice === 'none') return []
  const twice = tools.findIndex(({ name }, i) => tools.findIndex((one) => one.name === name) < i)
  if (twice >= 0) {
    const param = `tools[${twice}].name`
    throw MeshError.BAD_REQUEST(`There are two tools with the name ${tools[twice]?.name}`, { param })
  }
  if (typeof toolChoice === 'object' && !tools.some(({ name }) => name === toolChoice.name)) {
    const known = tools.length > 0 ? `; there are ${tools.map(({ name }) => name).join(', ')}` : ''
    throw MeshError.BAD_REQUEST(`toolChoice asks for ${toolChoice.name}, which is not among the tools${known}`, {
      param: 'toolChoice.name',
    })
  }
  if (toolChoice === 'required' && tools.length === 0) {
    throw MeshError.BAD_REQUEST('toolChoice is required, and there are no tools', { param: 'toolChoice' })
  }
  return tools
}

/** True where a conversation holds calls or what they gave back. */
export function mentionsTools(messages: readonly ChatMessage[]): boolean {
  return messages.some((one) => one.role === 'tool' || (one.role === 'assistant' && !!one.toolCalls?.length))
}

/**
 * Each call must be answered before the conversation goes on, and each answer must belong to a call.
 * @throws MeshError BAD_REQUEST
 */
export function checkToolMessages(messages: readonly ChatMessage[]): void {
  let open = new Set<string>()
  let callsAt = 0
  const unanswered = () => {
    const [id] = open
    if (id === undefined) return
    throw MeshError.BAD_REQUEST(`No tool message gives the result of the call ${id} of messages[${callsAt}]`, {
      param: `messages[${callsAt}].toolCalls`,
    })
  }
  for (const [i, message] of messages.entries()) {
    if (message.role === 'tool') {
      if (!open.delete(message.toolCallId)) {
        throw MeshError.BAD_REQUEST(
          `messages[${i}] gives the result of ${message.toolCallId}, and the assistant's last message made no such call or has its result already`,
          { param: `messages[${i}].toolCallId` },
        )
      }
      continue
    }
    unanswered()
    if (message.role === 'assistant') {
      open = new Set(message.toolCalls?.map(({ id }) => id))
      callsAt = i
    }
  }
  unanswered()
}

/** Tools, calls and results as text, for chat templates that know none of them: in the form of GENERIC_SYNTAX. */
export function withoutTools(messages: readonly ChatMessage[], tools: readonly Tool[]): ChatMessage[] {
  const { prefix, middle, suffix } = GENERIC_SYNTAX
  const result: ChatMessage[] = tools.length > 0 ? [{ role: 'system', content: toolText(tools) }] : []
  for (const message of messages) {
    const last = result.at(-1)
    if (message.role === 'system' && last?.role === 'system') {
      result[result.length - 1] = { role: 'system', content: `${message.content}\n\n${last.content}` }
    } else if (message.role === 'tool') {
      const content = `<tool_response>\n${message.content}\n</tool_response>`
      // A user's own message before it is joined with a blank line by the chat template's wrapper.
      result.push({ role: 'user', content })
    } else if (message.role === 'assistant' && message.toolCalls?.length) {
      const calls = message.toolCalls.map((call) => `${prefix}${call.name}${middle}${call.arguments}${suffix}`)
      result.push({ role: 'assistant', content: [message.content, ...calls].filter(Boolean).join('\n') })
    } else result.push(message)
  }
  return result
}

function toolText(tools: readonly Tool[]): string {
  const { prefix, middle, suffix } = GENERIC_SYNTAX
  return [
    'You can call these tools:',
    ...tools.map((tool) => JSON.stringify(tool)),
    'To call one, answer with nothing but:',
    `${prefix}<name>${middle}<arguments as JSON>${suffix}`,
  ].join('\n')
}
