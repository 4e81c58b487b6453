import { createHash } from 'node:crypto'
import type { FastifyReply } from 'fastify'
import { type Call, releaseAtEnd } from '../http/index.js'
import { refuse } from './bodies.js'
import type { DoorOptions } from './options.js'

/** How what is stored is asked for in pages, and how it is answered without being parsed. */

const MOST_ITEMS = 100
const DEFAULT_ITEMS = 20
/** No page is longer, but for one whose only item is. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024
const MAX_CURSOR_CHARS = 200
const TAG_CHARS = 12
const TAB = '\t'

/** What a list's query asks for. */
export interface PageQuery {
  limit: number
  order: 'asc' | 'desc'
  /** The id of the last item of the page before. */
  after: string | undefined
}

export type Query = Record<string, unknown>

/** @param byDefault the order where none is named @throws MeshError BAD_REQUEST naming the parameter */
export function pageQuery(query: Query, byDefault: 'asc' | 'desc'): PageQuery {
  const { limit = String(DEFAULT_ITEMS), order = byDefault, after, before } = query
  if (typeof limit !== 'string' || !/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > MOST_ITEMS) {
    return refuse('limit', `expected 1 to ${MOST_ITEMS}`)
  }
  if (order !== 'asc' && order !== 'desc') return refuse('order', 'expected asc or desc')
  if (before !== undefined) refuse('before', 'is not supported; page with after')
  if (after !== undefined && (typeof after !== 'string' || after === '' || after.length > MAX_CURSOR_CHARS)) {
    return refuse('after', 'expected the id of an item')
  }
  return { limit: Number(limit), order, after }
}

/**
 * An item of a list as a line: its id ahead, so that a page is cut without the items being parsed.
 * @param item an object in JSON, which gets the id
 */
export function lineOf(id: string, item: string): string {
  const shown = JSON.stringify(id)
  // JSON has neither tabs nor line breaks.
  return `${shown}${TAB}{"id":${shown}${item === '{}' ? '' : ','}${item.slice(1)}\n`
}

/** One page of what was stored as lines, as JSON. @throws MeshError BAD_REQUEST where `after` is none of them */
export function pageOfLines(bytes: Buffer, { limit, order, after }: PageQuery): string {
  const lines = bytes.toString().split('\n').slice(0, -1)
  if (order === 'desc') lines.reverse()
  let start = 0
  if (after !== undefined) {
    const wanted = `${JSON.stringify(after)}${TAB}`
    start = lines.findIndex((line) => line.startsWith(wanted)) + 1
    if (start === 0) refuse('after', `there is no item ${JSON.stringify(after)}`)
  }
  const items = lines.slice(start, start + limit).map((line) => {
    const tab = line.indexOf(TAB)
    return { id: line.slice(0, tab), json: line.slice(tab + 1) }
  })
  return listJson(items, start + limit < lines.length)
}

/** A list object. @param items each as JSON, and its id as JSON */
export function listJson(items: readonly { id: string; json: string }[], hasMore: boolean): string {
  const shown: string[] = []
  let chars = 0
  for (const { json } of items) {
    chars += json.length
    if (shown.length > 0 && chars > MAX_PAGE_BYTES) break
    shown.push(json)
  }
  const [first, last] = [items[0]?.id ?? 'null', items[shown.length - 1]?.id ?? 'null']
  const more = hasMore || shown.length < items.length
  return `{"object":"list","data":[${shown.join(',')}],"first_id":${first},"last_id":${last},"has_more":${more}}`
}

/** Sends JSON that was stored; until it is sent it counts as what its user has under way. @throws MeshError RATE_LIMITED, BUSY */
export function sendJson(
  { bodies }: Pick<DoorOptions, 'bodies'>,
  { principal }: Call,
  reply: FastifyReply,
  json: Buffer | string,
): FastifyReply {
  const bytes = typeof json === 'string' ? Buffer.from(json) : json
  const room = bodies.hold(principal.user, bytes.byteLength)
  releaseAtEnd(reply, room)
  return reply.type('application/json; charset=utf-8').send(bytes)
}

/** What stands for the entries of metadata where lists are narrowed by them. */
export function tagsOf(metadata: Record<string, string>): string[] {
  return Object.entries(metadata).map(([key, value]) =>
    createHash('sha256')
      .update(JSON.stringify([key, value]))
      .digest('base64url')
      .slice(0, TAG_CHARS),
  )
}
