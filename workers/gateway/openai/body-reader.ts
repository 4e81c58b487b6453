import { BodyRoom, type HeldRoom, SMALL_BODY_BYTES, ThreadPool } from '../http/index.js'
import { type BodyKind, type PreparedBody, prepare } from './prepare.js'

const THREAD = new URL('./body-thread.js', import.meta.url)

/** Reads the bodies of requests: small ones at once, large ones in a thread. Bounds what of them lies in memory. */
export class BodyReader {
  readonly #room = new BodyRoom()
  readonly #threads = new ThreadPool(THREAD)

  /** Takes room for a body, before it is read. @throws MeshError RATE_LIMITED, BUSY */
  hold(user: string, bytes: number): HeldRoom {
    return this.#room.hold(user, bytes)
  }

  /**
   * What a body says.
   * @param body its bytes, or whatever else came in its place
   * @throws MeshError BAD_REQUEST naming the parameter, TIMEOUT
   */
  async read<K extends BodyKind>(kind: K, user: string, body: unknown): Promise<PreparedBody<K>> {
    if (!(body instanceof Uint8Array) || body.byteLength <= SMALL_BODY_BYTES) return prepare(kind, body)
    const prepared = await this.#threads.run<PreparedBody<K>>(user, kind, body)
    // Taking a large answer over has cost the loop something already.
    await new Promise((resolve) => setImmediate(resolve))
    return prepared
  }

  close(): Promise<void> {
    return this.#threads.close()
  }
}
