import type { FastifyReply } from 'fastify'
import { MeshError } from '../../../lib/protocol/index.js'

/** What of all bodies may lie in memory, from the first byte until their answers are complete. */
const MAX_BYTES = 256 * 1024 * 1024
/** The same for all keys of one user: nobody takes the room of the others. */
const MAX_BYTES_PER_USER = 64 * 1024 * 1024
/** Bodies up to this always have room: what is small is served when the large ones have filled theirs. */
export const SMALL_BODY_BYTES = 16 * 1024

const RETRY_MS = 1000

/** The room that one body takes. */
export interface HeldRoom {
  /** Makes it larger. @throws MeshError RATE_LIMITED, BUSY; it is as it was then */
  add(bytes: number): void
  /** Gives it back. */
  release(): void
}

/** Gives room back once an answer has gone out or its client has left, also where that was before. */
export function releaseAtEnd({ raw }: FastifyReply, room: HeldRoom): void {
  if (raw.closed || raw.destroyed) room.release()
  else raw.once('close', () => room.release())
}

/** Counts the bytes of bodies that this gateway holds, by user and in all. */
export class BodyRoom {
  readonly #ofUser = new Map<string, number>()
  #bytes = 0

  get sizeBytes(): number {
    return this.#bytes
  }

  /**
   * Takes room for a body.
   * @param bytes its length; 0 where that is not known yet
   * @throws MeshError RATE_LIMITED where the user's bodies fill the user's share, BUSY where all of the room is taken
   */
  hold(user: string, bytes: number): HeldRoom {
    let size = 0
    let counted = 0
    let released = false
    const add = (more: number): void => {
      if (released) return
      size += more
      const wanted = (size > SMALL_BODY_BYTES ? size : 0) - counted
      try {
        this.#take(user, wanted)
      } catch (err) {
        size -= more
        throw err
      }
      counted += wanted
    }
    add(bytes)
    return {
      add,
      release: () => {
        if (!released) this.#take(user, -counted)
        released = true
      },
    }
  }

  #take(user: string, bytes: number): void {
    if (bytes === 0) return
    const own = (this.#ofUser.get(user) ?? 0) + bytes
    if (bytes > 0 && own > MAX_BYTES_PER_USER) {
      throw MeshError.RATE_LIMITED(
        `The requests that ${user} has under way have ${own} bytes; at most ${MAX_BYTES_PER_USER} are held for one user`,
        { retryAfterMs: RETRY_MS },
      )
    }
    if (bytes > 0 && this.#bytes + bytes > MAX_BYTES) {
      throw MeshError.BUSY(`This gateway holds ${this.#bytes} bytes of requests, and has no room for ${bytes} more`, {
        retryAfterMs: RETRY_MS,
      })
    }
    this.#bytes += bytes
    if (own === 0) this.#ofUser.delete(user)
    else this.#ofUser.set(user, own)
  }
}
