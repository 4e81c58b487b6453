import type { FastifyReply } from 'fastify'
import { MeshError } from '../../../lib/protocol/index.js'
import type { Call } from '../http/index.js'
import type { Draft, Listed } from '../stored/index.js'
import { refuse } from './bodies.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'
import { notStored, ownerOf, storedView } from './response-records.js'
import { lineOf, listJson, pageOfLines, pageQuery, type Query, sendJson, tagsOf } from './stored-pages.js'

/** Chat completions that were asked for with `store: true`. */

/** As many are read side by side for a list. */
const BATCH = 4
/** A list reads no further once it has so much. */
const MAX_LIST_BYTES = 4 * 1024 * 1024
const MAX_FILTERS = 16
const FILTER = /^metadata\[(.{1,64})\]$/s

/** What of a chat's body is kept with its answer. */
export interface ChatRecord {
  metadata: Record<string, string>
  /** Each as a JSON object. */
  messages: readonly string[]
}

/** A finished chat completion to keep. @param createdAt in milliseconds since the epoch */
export function chatDraft(
  completion: { id: string; model: string },
  { metadata, messages }: ChatRecord,
  requestId: string,
  createdAt: number,
): Draft {
  const { id, model } = completion
  return {
    id,
    kind: 'chat',
    createdAt,
    model,
    tags: tagsOf(metadata),
    parts: {
      metadata: [`{"metadata":${JSON.stringify(metadata)},`],
      // The rest of the object that the metadata begin.
      object: [JSON.stringify({ ...completion, request_id: requestId }).slice(1)],
      items: messageLines(id, messages),
    },
  }
}

function* messageLines(id: string, messages: readonly string[]): Generator<string> {
  for (const [i, message] of messages.entries()) yield lineOf(`${id}-${i}`, message)
}

/** `GET /v1/chat/completions`: of all gateways, in the order of time. @throws MeshError BAD_REQUEST, PEER_NOT_FOUND */
export async function listChats(options: DoorOptions, call: Call, query: Query, reply: FastifyReply) {
  const { limit, order, after } = pageQuery(query, 'asc')
  const { model } = query
  if (model !== undefined && (typeof model !== 'string' || model.length > 200))
    refuse('model', 'expected a model’s name')
  const wanted = {
    kind: 'chat' as const,
    limit,
    order,
    ...(typeof model === 'string' && { model }),
    tags: tagsOf(filtersOf(query)),
  }
  const owner = ownerOf(call)
  return options.stored.lists.run(owner.user, async () => {
    const place = after === undefined ? undefined : await options.stored.place(owner, after, order)
    if (after !== undefined && place === undefined) {
      refuse('after', `there is no stored chat completion ${JSON.stringify(after)}`)
    }
    const { items, hasMore } = await options.stored.list(owner, { ...wanted, after: place })
    const { chats, isCut } = await readChats(options, call, items)
    return sendJson(options, call, reply, listJson(chats, hasMore || isCut))
  })
}

function filtersOf(query: Query): Record<string, string> {
  const filters = Object.entries(query).flatMap(([name, value]): [string, string][] => {
    const key = FILTER.exec(name)?.[1]
    if (key === undefined) return name.startsWith('metadata') ? refuse(name, 'expected metadata[key]=value') : []
    return typeof value === 'string' ? [[key, value]] : refuse(name, 'expected one text')
  })
  if (filters.length > MAX_FILTERS) refuse('metadata', `expected at most ${MAX_FILTERS} entries`)
  return Object.fromEntries(filters)
}

async function readChats({ stored }: DoorOptions, call: Call, items: readonly Listed[]) {
  const chats: { id: string; json: string }[] = []
  let bytes = 0
  for (let at = 0; at < items.length; at += BATCH) {
    if (bytes > MAX_LIST_BYTES) return { chats, isCut: true }
    const batch = items.slice(at, at + BATCH)
    const read = await Promise.all(batch.map((item) => stored.readAt(item, ownerOf(call), 'object').catch(passDamaged)))
    for (const [i, found] of read.entries()) {
      // One that was deleted meanwhile is not there any more.
      if (found === undefined) continue
      bytes += found.bytes.byteLength
      chats.push({ id: JSON.stringify(batch[i]?.id), json: found.bytes.toString() })
    }
  }
  return { chats, isCut: false }
}

/** One that is damaged, which its gateway's log tells of, does not hide the others. */
function passDamaged(err: unknown): undefined {
  if (err instanceof MeshError && err.code === 'STORE_INVALID') return undefined
  throw err
}

/** `GET /v1/chat/completions/{id}`. @throws MeshError NOT_FOUND, PEER_NOT_FOUND */
export async function getChat(options: DoorOptions, call: Call, id: string, reply: FastifyReply) {
  const { bytes } = await storedView(options, call, id, 'object', 'chat')
  return sendJson(options, call, reply, bytes)
}

/** `POST /v1/chat/completions/{id}`: replaces the metadata. @throws MeshError NOT_FOUND, PEER_NOT_FOUND, DISK_FULL */
export async function updateChat(
  options: DoorOptions,
  { metadata }: PreparedBody<'metadata'>,
  call: Call,
  id: string,
  reply: FastifyReply,
) {
  const owner = ownerOf(call)
  if (!isChat(id) || !(await options.stored.update(owner, id, JSON.stringify(metadata), tagsOf(metadata)))) {
    throw notStored(id, 'chat')
  }
  return getChat(options, call, id, reply)
}

/** `DELETE /v1/chat/completions/{id}`. @throws MeshError NOT_FOUND, PEER_NOT_FOUND */
export async function deleteChat({ stored }: DoorOptions, call: Call, id: string): Promise<object> {
  if (!isChat(id) || !(await stored.delete(ownerOf(call), id))) throw notStored(id, 'chat')
  return { object: 'chat.completion.deleted', id, deleted: true }
}

/** `GET /v1/chat/completions/{id}/messages`. @throws MeshError NOT_FOUND, PEER_NOT_FOUND, BAD_REQUEST */
export async function getMessages(options: DoorOptions, call: Call, id: string, query: Query, reply: FastifyReply) {
  const page = pageQuery(query, 'asc')
  const { bytes } = await storedView(options, call, id, 'items', 'chat')
  return sendJson(options, call, reply, pageOfLines(bytes, page))
}

function isChat(id: string): boolean {
  return id.startsWith('chatcmpl-') && id.length <= 100
}
