import type Hypercore from 'hypercore'

/**
 * Gives back the room of the first blocks of a core, but for block 0, which a bee begins with. A core that is written goes
 * on, and so does its replica: both need no more of them than the roots of the hash trees over them, which stay.
 */
export async function forgetBlocks(core: Hypercore, end: number): Promise<void> {
  if (end <= 1) return
  await core.clear(1, end)
  await forgetHashes(core, end)
}

/**
 * Gives back the room of the hashes of the first `end` blocks, but for the roots over them. Those blocks can be read here,
 * and no longer proved to others. What is used here is private to the library: its version is pinned, and a test covers
 * the use.
 */
export async function forgetHashes(core: Hypercore, end: number): Promise<void> {
  const changes = core.core.state.storage.write()
  // In a flat tree block n is node 2n, and the root over `size` blocks stands in the middle of theirs.
  let first = 0
  for (let size = 2 ** Math.floor(Math.log2(end)); size >= 1; size /= 2) {
    if (first + size > end) continue
    const root = 2 * first + size - 1
    changes.deleteTreeNodeRange(2 * first, root)
    changes.deleteTreeNodeRange(root + 1, 2 * (first + size) - 1)
    first += size
  }
  await changes.flush()
  // What is deleted takes room until the tables that hold it are written anew.
  await core.compact()
}
