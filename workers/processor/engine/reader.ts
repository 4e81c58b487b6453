import { MeshError } from '../../../lib/errors/index.js'

/** How many pieces of a prompt may be under way that the processor has not passed on. */
const MOST_UNREAD = 4
/** A reader that takes nothing for so long has given up. */
const WAIT_MS = 10_000

/** How far the reader of one answer is with the pieces of a prompt: they come faster than a slow link carries them. */
export class Reader {
  #unread = 0
  #wake: () => void = () => {}

  /** The processor has passed a piece on. */
  taken(): void {
    this.#unread--
    this.#wake()
  }

  /** Counts a piece that is told, and resolves once there is room for another. @throws MeshError CANCELLED, SLOW_READER */
  async told(signal: AbortSignal): Promise<void> {
    this.#unread++
    if (this.#unread < MOST_UNREAD) return
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      this.#wake()
    }, WAIT_MS)
    const onAbort = () => this.#wake()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      while (this.#unread >= MOST_UNREAD && !signal.aborted && !isLate) {
        await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    }
    if (signal.aborted) throw MeshError.CANCELLED('The generation was cancelled')
    if (isLate) throw MeshError.SLOW_READER(`The reader of this prompt took nothing of it for ${WAIT_MS / 1000} s`)
  }
}
