import type Protomux from 'protomux'
import { MeshError } from './errors.js'

/** What protomux calls where a frame cannot be handled. Private to it: the version is pinned, and a test covers each. */
interface MuxInternals {
  _safeDestroy(err: unknown): void
  _safeDestroyBound(err: unknown): void
  _warn(err: unknown): void
}

/**
 * Makes whatever goes wrong while a connection's frames are handled end that connection, and nothing else.
 *
 * Protomux does the same, but throws a TypeError, RangeError or SyntaxError again where nobody can catch it (in
 * `safety-catch`, as a mistake of the programmer): a peer that tries to open the control channel, or nests batches until
 * the stack is full, would end the process.
 */
export function guardMux(mux: Protomux, onGarbage: (err: unknown) => void): void {
  const end = (err: unknown): void => {
    onGarbage(err)
    mux.destroy(MeshError.from(err, 'BAD_REQUEST', 'What came over this link is no frame of its protocol'))
  }
  const internals = mux as unknown as MuxInternals
  internals._safeDestroy = end
  internals._safeDestroyBound = end
  internals._warn = onGarbage
}
