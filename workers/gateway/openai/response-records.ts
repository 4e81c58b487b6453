import type { FastifyReply } from 'fastify'
import { type ChatMessage, MeshError } from '../../../lib/protocol/index.js'
import { type Call, releaseAtEnd } from '../http/index.js'
import type { Draft, Owner } from '../stored/index.js'
import { refuse } from './bodies.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'
import type { Item } from './response-input.js'
import { lineOf } from './stored-pages.js'

/** How a response is kept: the object, its input as lines, and the conversation that a next one goes on from. */

/** A response to keep. */
export interface ResponseRecord {
  response: { id: string; model: string; [field: string]: unknown }
  items: readonly Item[]
  /** All that a response which follows it begins with, without instructions; absent where it has no end yet. */
  messages?: readonly ChatMessage[]
  pending?: boolean
  background?: boolean
}

export function ownerOf({ principal: { keyId, user } }: Pick<Call, 'principal'>): Owner {
  return { keyId, user }
}

/** @param createdAt in milliseconds since the epoch */
export function responseDraft(record: ResponseRecord, createdAt: number): Draft {
  const { response, items, messages, pending = false, background = false } = record
  const { id, model } = response
  return {
    id,
    kind: 'response',
    createdAt,
    model,
    tags: [],
    pending,
    background,
    parts: {
      object: [JSON.stringify(response)],
      items: itemLines(items, id),
      ...(messages !== undefined && { history: historyJson(messages) }),
    },
  }
}

function* itemLines(items: readonly Item[], responseId: string): Generator<string> {
  const known = new Set<string>()
  for (const [i, item] of items.entries()) {
    const { id, ...shown } = shownItem(item, responseId, i, known)
    known.add(id)
    yield lineOf(id, JSON.stringify(shown))
  }
}

function* historyJson(messages: readonly ChatMessage[]): Generator<string> {
  yield '{"messages":['
  for (const [i, message] of messages.entries()) yield `${i === 0 ? '' : ','}${JSON.stringify(message)}`
  yield ']}'
}

/** An item of the input as it is listed: with an id of its own, by which it is paged, and a message's text as a part. */
function shownItem(item: Item, responseId: string, i: number, known: ReadonlySet<string>): Item & { id: string } {
  const { id: given } = item
  const isOwn = typeof given === 'string' && given !== '' && given.length <= MAX_ID_CHARS && !known.has(given)
  const id = isOwn ? given : `item_${responseId.replace(/^resp_/, '')}_${i}`
  const { type = 'message', content } = item
  if (type !== 'message' || typeof content !== 'string') return { status: 'completed', ...item, type, id }
  const part = { type: item.role === 'assistant' ? 'output_text' : 'input_text', text: content }
  return { status: 'completed', ...item, type, id, content: [part] }
}

/**
 * What an earlier response said and heard.
 * @throws MeshError PREVIOUS_RESPONSE_NOT_FOUND, BAD_REQUEST where it has no end, PEER_NOT_FOUND
 */
export async function historyOf(
  { stored, bodies }: Pick<DoorOptions, 'stored' | 'bodies'>,
  call: Call,
  id: string | null | undefined,
  reply: FastifyReply,
): Promise<ChatMessage[]> {
  if (id == null) return []
  const shown = JSON.stringify(id.slice(0, 100))
  const found = await stored.read(ownerOf(call), id, 'history')
  if (found?.head.kind !== 'response') {
    throw MeshError.PREVIOUS_RESPONSE_NOT_FOUND(`There is no response ${shown}: it ${WHY_GONE}`, {
      param: 'previous_response_id',
    })
  }
  if (found.bytes.byteLength === 0) {
    return refuse(
      'previous_response_id',
      `the response ${shown} has not been completed: there is nothing to go on from`,
    )
  }
  return (await readHeld({ bodies }, call, 'history', found.bytes, reply)).messages
}

/** Reads what was stored: with the request that asks for it, it is a part of what its user has under way. @throws as BodyReader */
export function readHeld<K extends 'history' | 'output'>(
  { bodies }: Pick<DoorOptions, 'bodies'>,
  { principal: { user } }: Pick<Call, 'principal'>,
  kind: K,
  bytes: Uint8Array,
  reply: FastifyReply,
): Promise<PreparedBody<K>> {
  const room = bodies.hold(user, bytes.byteLength)
  releaseAtEnd(reply, room)
  return bodies.read(kind, user, bytes)
}

/** Ids that are kept are no longer. */
const MAX_ID_CHARS = 100
/** Of something that was stored, and is not there. */
export const WHY_GONE = 'was never stored, was deleted, or is older than what is kept'

/**
 * What is stored under an id.
 * @throws MeshError NOT_FOUND, PEER_NOT_FOUND
 */
export async function storedView(
  { stored }: Pick<DoorOptions, 'stored'>,
  call: Call,
  id: string,
  view: 'object' | 'items',
  kind: 'response' | 'chat',
) {
  const found = await stored.read(ownerOf(call), id, view)
  if (found?.head.kind === kind) return found
  throw notStored(id, kind)
}

export function notStored(id: string, kind: 'response' | 'chat'): MeshError {
  const what = kind === 'response' ? 'response' : 'stored chat completion'
  return MeshError.NOT_FOUND(`There is no ${what} ${JSON.stringify(id.slice(0, 100))}: it ${WHY_GONE}`)
}

/** Why a response failed that was being made when its gateway ended. */
export const INTERRUPTED = {
  code: 'interrupted',
  message: 'The gateway that made this response ended before it was complete',
}

/** Why one failed whose end could not be stored. */
export const UNSTORED = {
  code: 'not_stored',
  message: 'This response was made, and could not be stored: it is too long, or there is no room',
}

/** What becomes of a response that was being made when its gateway ended. @param object JSON */
export function interruptedResponse(object: string): string {
  return JSON.stringify({ ...JSON.parse(object), status: 'failed', error: INTERRUPTED })
}
