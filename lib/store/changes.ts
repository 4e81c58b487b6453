import type Hyperbee from 'hyperbee'
import type { Batch } from 'hyperbee'

/** What one block of a bee's core says. A value of undefined: the entry was deleted. */
export interface Change {
  seq: number
  key: string
  value: Buffer | undefined
}

/**
 * Changes a bee: everything that `work` writes, or nothing where it throws.
 *
 * The bee's own batches take the lock only when they first write: two that read a row side by side, and then write it,
 * lose what one of them wrote. Here the lock is taken before anything is read, so changes follow one another.
 */
export async function changeBee<T>(bee: Hyperbee, work: (batch: Batch) => Promise<T>): Promise<T> {
  const batch = bee.batch()
  try {
    await batch.lock()
    const result = await work(batch)
    await batch.flush()
    return result
  } finally {
    await batch.close()
  }
}

/**
 * The changes with `from <= seq < end`, oldest first, from the blocks that are here. Unlike the bee's own history it waits
 * for no peer, and needs no block behind the last one: the bee begins at the newest, and of a batch only the last block
 * says how the tree then was.
 * @param from from 1 on: block 0 is the bee's header
 * @throws Error where a block is not here, or is no entry of a bee
 */
export async function* readChanges(bee: Hyperbee, from: number, end: number): AsyncGenerator<Change> {
  const batch = bee.batch({ wait: false })
  try {
    for (let seq = from; seq < end; seq++) {
      const { key, value } = await batch.getBySeq(seq)
      yield { seq, key, value: value ?? undefined }
    }
  } finally {
    await batch.close()
  }
}
