/** Most items of one page. */
const PAGE = 1000

interface End {
  has_more: boolean
  next?: string | undefined
}

/**
 * Gathers a list page by page.
 * @param ask asks for one page
 * @param limit how many items are wanted; absent: all
 */
export async function gather<T, P extends End>(
  ask: (page: { limit: number; after?: string }) => Promise<P>,
  itemsOf: (page: P) => readonly T[],
  limit = Number.POSITIVE_INFINITY,
): Promise<T[]> {
  const all: T[] = []
  let after: string | undefined
  do {
    const page = await ask({ limit: Math.min(PAGE, limit - all.length), ...(after !== undefined && { after }) })
    // One by one: a long page spread as arguments overflows the stack.
    for (const item of itemsOf(page)) all.push(item)
    after = page.has_more ? page.next : undefined
  } while (after !== undefined && all.length < limit)
  return all
}
