import type Hyperbee from 'hyperbee'
import type { Batch } from 'hyperbee'

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
