import type Protomux from 'protomux'
import type ProtomuxRPC from 'protomux-rpc'
import { MeshError } from '../protocol/index.js'

// What is used here is private to protomux and protomux-rpc: their versions are pinned, and tests cover each use.

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
  mux._safeDestroy = end
  mux._safeDestroyBound = end
  mux._warn = onGarbage
}

/**
 * Lets calls be answered each by itself. Protomux holds back all that it sends while the messages of a received batch
 * are worked on: a call that takes minutes would hold back every heartbeat and token of the connection with it.
 */
export function answerSeparately(rpc: ProtomuxRPC): void {
  rpc._request.autoBatch = false
}

/** Sends at once what is held back: after the end of a stream it would be lost. */
export function flushMux(mux: Protomux): void {
  if (mux._batch === null) return
  mux._sendBatch(mux._batch, mux._batchState)
  mux._batch = []
  mux._batchState = { buffer: null, start: 0, end: 1 }
}
