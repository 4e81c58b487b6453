import type Hyperbee from 'hyperbee'
import { forgetHashes } from '../../lib/store/index.js'

/** Blocks that are replaced before room is given back: about 16 MB. */
const MIN_REPLACED = 50_000
/** Blocks that are looked at before it is asked again whether to go on. */
const AT_ONCE = 2000

/**
 * Gives back the room of what a bee no longer says. It appends a block for each change, so that a row which is counted up
 * a thousand times takes a thousand blocks, of which one is needed. A kill leaves the rest for the next run.
 */
export class Compaction {
  readonly #bee: Hyperbee
  readonly #minReplaced: number
  /** The version at the last look: whoever read an older one has ended. */
  #settled: number | undefined
  /** The version that was compacted last, and how many entries it had. */
  #compacted = 0
  #entries = 0

  constructor(bee: Hyperbee, minReplaced = MIN_REPLACED) {
    this.#bee = bee
    this.#minReplaced = minReplaced
  }

  /** Works where more was replaced than is left. @param isIdle false while somebody reads an older version */
  async run(isIdle: () => boolean): Promise<void> {
    const settled = this.#settled
    const { version } = this.#bee
    this.#settled = version
    const replaced = version - this.#compacted - this.#entries
    if (settled === undefined || replaced < Math.max(this.#minReplaced, this.#entries)) return
    const bee = this.#bee.checkout(settled, { reuseSession: true })
    for (let gte = 1; gte < settled - 1; gte += AT_ONCE) {
      if (!isIdle()) return
      await bee.clearUnlinked({ gte, lt: Math.min(settled - 1, gte + AT_ONCE) })
    }
    await forgetHashes(this.#bee.core, settled)
    this.#entries = 0
    for await (const _ of this.#bee.createReadStream({})) this.#entries++
    this.#compacted = settled
  }
}
