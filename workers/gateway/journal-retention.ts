import type Hyperbee from 'hyperbee'
import type { StoredRecord } from '../../lib/protocol/index.js'
import { changeBee, forgetBlocks } from '../../lib/store/index.js'

/** Entries that are deleted in one batch, which new records wait for: about 10 ms. */
const AT_ONCE = 64

export interface Retention {
  /** Entries below this one are in the authority's totals. */
  folded: number
  /** Records made before this time may go. */
  before: number
  /** Called before the first is deleted. */
  onForget: () => void
  read: (value: Uint8Array, key: string) => StoredRecord[]
}

/**
 * Deletes the oldest records of a journal and gives their room back; the newest entry stays. Whatever is not folded stays.
 *
 * Keys ascend with time. So what is left of the tree, once older keys are deleted, was written after the oldest key that
 * is left: no block before that one is read again. A kill after any step leaves what the next run completes.
 */
export async function forgetRecords(bee: Hyperbee, retention: Retention): Promise<void> {
  // Early builds kept entries of other kinds, which are not needed.
  for (const range of [{ lt: 'record/' }, { gte: 'record0' }]) await forgetRange(bee, retention.folded, range)
  // The newest block says how the tree is.
  let oldest = bee.core.length - 1
  for (;;) {
    const old: string[] = []
    let isLast = true
    let entries = 0
    for await (const { seq, key, value } of bee.createReadStream({
      gt: 'record/',
      lt: 'record0',
      limit: AT_ONCE + 1,
    })) {
      oldest = seq
      const newest = retention.read(value, key).at(-1)?.at ?? 0
      isLast = ++entries <= AT_ONCE
      if (seq >= retention.folded || newest >= retention.before || entries > AT_ONCE) break
      old.push(key)
    }
    // The newest entry says which number comes next.
    if (isLast && old.length === entries) old.pop()
    if (old.length === 0) break
    retention.onForget()
    await deleteAll(bee, old)
  }
  const end = Math.min(oldest, retention.folded)
  if (end > 1 && (await bee.core.has(end - 1))) await forgetBlocks(bee.core, end)
}

async function forgetRange(bee: Hyperbee, folded: number, range: { gte?: string; lt?: string }): Promise<void> {
  const keys: string[] = []
  for await (const { seq, key } of bee.createReadStream(range)) if (seq < folded) keys.push(key)
  for (let at = 0; at < keys.length; at += AT_ONCE) await deleteAll(bee, keys.slice(at, at + AT_ONCE))
}

function deleteAll(bee: Hyperbee, keys: string[]): Promise<void> {
  return changeBee(bee, async (batch) => {
    for (const key of keys) await batch.del(key)
  })
}
