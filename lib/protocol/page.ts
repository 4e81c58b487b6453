import { z } from 'zod'

/** Lists are asked for in pages: at most `limit` items that follow the one that `after`, an answer's `next`, stands for. */

const MAX_CURSOR_CHARS = 600
/** No page is longer in bytes, but for one whose only item is: an answer of the mesh has a bound. */
const MAX_PAGE_BYTES = 1024 * 1024

export const pageRequest = {
  limit: z.int().min(1).max(1000).default(100),
  after: z.string().max(MAX_CURSOR_CHARS).optional(),
}

/** How a page ends. `next` is there where there is more. */
export const pageEnd = { has_more: z.boolean(), next: z.string().optional() }

export interface PageRequest {
  limit: number
  after?: string | undefined
}

export interface Page<T> {
  items: T[]
  has_more: boolean
  next?: string
}

/**
 * One page of a list, in the order of its cursors. What is added or taken out between two pages moves nothing else.
 * @param cursorOf a text of each item's own by which the list is sorted
 */
export function pageOf<T>(items: Iterable<T>, cursorOf: (item: T) => string, { limit, after }: PageRequest): Page<T> {
  const rest = [...items]
    .map((item) => ({ item, cursor: cursorOf(item) }))
    .filter(({ cursor }) => after === undefined || cursor > after)
    .sort((a, b) => (a.cursor < b.cursor ? -1 : 1))
  return endPage(rest.slice(0, limit), rest.length > limit)
}

/** Cuts a page where it becomes too long. @param hasMore whether anything follows `found` */
export function endPage<T>(found: readonly { item: T; cursor: string }[], hasMore: boolean): Page<T> {
  let bytes = 0
  const fits = found.findIndex(({ item }, i) => {
    bytes += Buffer.byteLength(JSON.stringify(item))
    return i > 0 && bytes > MAX_PAGE_BYTES
  })
  const page = fits === -1 ? found : found.slice(0, fits)
  const items = page.map(({ item }) => item)
  const last = page.at(-1)
  return last !== undefined && (hasMore || page.length < found.length)
    ? { items, has_more: true, next: last.cursor }
    : { items, has_more: false }
}

/** Sorts what is newer before what is older. */
export function newestFirst({ createdAt, id }: { createdAt: number; id: string }): string {
  return `${String(Number.MAX_SAFE_INTEGER - createdAt).padStart(16, '0')}.${id}`
}
