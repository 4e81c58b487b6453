import { refuse } from './bodies.js'

/** Parameters that would change the answer and cannot be honoured, each with what to do instead. */

const NOT_IN_CHAT = {
  audio: 'answers in audio are not supported',
  web_search_options: 'this mesh does not search the web',
  chat_template: 'the template is that of the model; a text of another form goes to /v1/completions as a prompt',
}
const NOT_IN_COMPLETIONS = {
  suffix: 'text before a suffix cannot be generated',
  // Passed over, they would be answered as if nothing had been asked.
  messages: 'is of chats; use /v1/chat/completions',
  tools: 'is of chats; use /v1/chat/completions',
  functions: 'is of chats; use /v1/chat/completions',
}
const NOT_IN_RESPONSES = {
  conversation: 'conversations are not kept here; use previous_response_id',
  prompt: 'prompt templates are not kept here; send the text as input',
  // What the other paths take: here it would be passed over.
  response_format: 'is of chats; use text.format',
  json_schema: 'is of chats; use text.format of the type json_schema',
  grammar: 'is of chats and completions; use text.format, or /v1/chat/completions',
  stop: 'is of chats and completions; use /v1/chat/completions',
  max_tokens: 'is of chats and completions; use max_output_tokens',
  max_completion_tokens: 'is of chats; use max_output_tokens',
  n_predict: 'is of chats and completions; use max_output_tokens',
  functions: 'is of chats; use tools',
  function_call: 'is of chats; use tool_choice',
  ignore_eos: 'is of chats and completions; use /v1/chat/completions',
  suffix: 'is of completions; text before a suffix cannot be generated',
  chat_template: NOT_IN_CHAT.chat_template,
}

/** @throws MeshError BAD_REQUEST naming a parameter that chats do not take */
export function refuseInChat(body: Record<string, unknown>): void {
  refuseParams(body, NOT_IN_CHAT)
}

/** @throws MeshError BAD_REQUEST naming a parameter that completions do not take */
export function refuseInCompletions(body: Record<string, unknown>): void {
  refuseParams(body, NOT_IN_COMPLETIONS)
}

/** @throws MeshError BAD_REQUEST naming a parameter that responses do not take */
export function refuseInResponses(body: Record<string, unknown>): void {
  refuseParams(body, NOT_IN_RESPONSES)
  if (body.n != null && body.n !== 1) refuse('n', 'a response has one output; use /v1/chat/completions for several')
}

/** Refuses parameters that would change the answer and cannot be honoured, where they ask for anything. */
function refuseParams(body: Record<string, unknown>, params: Record<string, string>): void {
  for (const [param, why] of Object.entries(params)) {
    const value = body[param]
    const isEmpty = value === '' || (Array.isArray(value) && value.length === 0)
    if (value !== undefined && value !== null && value !== false && !isEmpty) refuse(param, why)
  }
}
