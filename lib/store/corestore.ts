import { setTimeout as sleep } from 'node:timers/promises'
import Corestore, { type Core, type CorestoreOptions } from 'corestore'
import type HypercoreStorage from 'hypercore-storage'
import { isDiskFull } from '../protocol/index.js'

// What is used here is private to the libraries: their versions are pinned, and tests cover each use.

/** How often what came over a link is tried again while the disk has no room for it. */
const RETRY_MS = 1000

/** A Corestore that can be closed while blocks still come in, and whose disk may be full. */
export function openCorestore(storage: string | HypercoreStorage, options?: CorestoreOptions): Corestore {
  const store = new Corestore(storage, options)
  store.watch((core) => {
    resolveWhileOpen(core)
    storeWhenThereIsRoom(core)
    loseNoMoreThanHints(core)
  })
  return store
}

/**
 * A block that was being written when its core closed is taken over afterwards, and the replicator then reads from the
 * closed storage, in a promise that nobody waits for: the process would end. hypercore 11.39 no longer does.
 */
function resolveWhileOpen({ replicator }: Core): void {
  const resolve = replicator._resolveBlocksLocally
  replicator._resolveBlocksLocally = async () => {
    if (!replicator.destroyed) await resolve.call(replicator)
  }
}

/**
 * What a peer sent stays until it can be stored: the replicator would take a full disk for a fault of the peer, and take
 * nothing from it any more as long as they are connected. It asks for so much at a time and no more, so what waits here is
 * bounded.
 */
function storeWhenThereIsRoom(core: Core): void {
  const verify = core.verify
  core.verify = async (proof, from) => {
    while (true) {
      try {
        return await verify.call(core, proof, from)
      } catch (err) {
        if (core.closed || !isDiskFull(err)) throw err
        await sleep(RETRY_MS, undefined, { ref: false })
        if (core.closed) throw err
      }
    }
  }
}

/**
 * Hints say how much of a core is there and spare the next start a search for it. They are written after what they tell
 * of: a failure would be taken for one of the append that has just been stored, or for a peer's, whose link would be cut.
 */
function loseNoMoreThanHints(core: Core): void {
  const flushHints = core.flushHints
  core.flushHints = async () => {
    try {
      await flushHints.call(core)
    } catch {
      core.hintsChanged = true
    }
  }
}
