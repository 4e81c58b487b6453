import type { InferenceRequest } from '../../../lib/protocol/index.js'
import type { Call } from '../http/index.js'
import type { TokensAsked } from '../requests/index.js'
import { refuse } from './bodies.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'

/** What the door tells of a model's tokens: three paths of llama-server. */

type Parts = Pick<DoorOptions, 'tokens'>

/** `POST /v1/tokenize`. */
export async function tokenize(
  { tokens }: Parts,
  { model, content, add_special, parse_special, with_pieces }: PreparedBody<'tokenize'>,
  call: Call,
): Promise<unknown> {
  const pieces = with_pieces === true
  const asked = {
    of: 'text' as const,
    text: content,
    special: parse_special !== false,
    ends: add_special === true,
    pieces,
  }
  const told = await tokens.ask(model || undefined, asked, call)
  const ids = told.ids ?? []
  if (!pieces) return { tokens: ids }
  return { tokens: ids.map((id, i) => ({ id, piece: told.pieces?.[i] ?? '' })) }
}

/** `POST /v1/detokenize`. */
export async function detokenize(
  { tokens }: Parts,
  { model, tokens: ids }: PreparedBody<'detokenize'>,
  call: Call,
): Promise<unknown> {
  const { text = '' } = await tokens.ask(model || undefined, { of: 'ids', ids }, call)
  return { content: text }
}

/** `POST /v1/apply-template`. */
export async function applyTemplate(
  { tokens }: Parts,
  { request }: PreparedBody<'chat'>,
  call: Call,
): Promise<unknown> {
  const { text = '' } = await tokens.ask(request.model, chatAsked(request, true), call)
  return { prompt: text }
}

/** The prompt of a chat, with all that its model is told besides the messages. */
export function chatAsked(request: InferenceRequest, text: boolean): TokensAsked {
  if (request.kind !== 'chat') return refuse('input', 'is no conversation')
  const { messages, tools, toolChoice, parallelToolCalls } = request
  return { of: 'chat', messages, tools, toolChoice, parallelToolCalls, text }
}
