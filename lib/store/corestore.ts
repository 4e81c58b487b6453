import Corestore, { type CorestoreOptions } from 'corestore'
import type HypercoreStorage from 'hypercore-storage'

/**
 * A Corestore that can be closed while blocks still come in.
 *
 * A block that was being written when its core closed is taken over afterwards, and the replicator then reads from the
 * closed storage, in a promise that nobody waits for: the process would end. hypercore 11.39 no longer does. What is used
 * here is private to the library: its version is pinned, and a test covers the use.
 */
export function openCorestore(storage: string | HypercoreStorage, options?: CorestoreOptions): Corestore {
  const store = new Corestore(storage, options)
  store.watch(({ replicator }) => {
    const resolve = replicator._resolveBlocksLocally
    replicator._resolveBlocksLocally = async () => {
      if (!replicator.destroyed) await resolve.call(replicator)
    }
  })
  return store
}
