import type Hypercore from 'hypercore'

/**
 * Puts a core that is written here under a higher fork, with all its blocks. To be called before anything is appended to a
 * core that may be older than what others have of it, as one from a backup is: they would find two blocks with one number,
 * both signed, and trust neither, nor anything that follows. Under a higher fork they let go of what is not in this one,
 * and follow.
 * @param fork higher than any that the core ever had: a time is. Where the core has it already, nothing is done
 */
export async function raiseFork(core: Hypercore, fork: number): Promise<void> {
  await core.ready()
  if (core.length === 0 || core.fork === fork) return
  // The clock may have been put back since the last time.
  await core.truncate(core.length, { fork: Math.max(fork, core.fork + 1) })
}
