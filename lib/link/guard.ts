import type Protomux from 'protomux'
import type ProtomuxRPC from 'protomux-rpc'
import { MeshError } from '../protocol/index.js'

/** Private to protomux and protomux-rpc: their versions are pinned, and tests cover each use. */
interface MuxInternals {
  /** Called where a frame cannot be handled. */
  _safeDestroy(err: unknown): void
  _safeDestroyBound(err: unknown): void
  _warn(err: unknown): void
  /** What is held back to be sent as one frame; null while nothing is. */
  _batch: unknown[] | null
  _batchState: { buffer: null; start: number; end: number }
  _sendBatch(batch: unknown[], state: MuxInternals['_batchState']): void
}

interface RpcInternals {
  _request: { autoBatch: boolean }
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

/**
 * Lets calls be answered each by itself. Protomux holds back all that it sends while the messages of a received batch
 * are worked on: a call that takes minutes would hold back every heartbeat and token of the connection with it.
 */
export function answerSeparately(rpc: ProtomuxRPC): void {
  const internals = rpc as unknown as RpcInternals
  internals._request.autoBatch = false
}

/** Sends at once what is held back: after the end of a stream it would be lost. */
export function flushMux(mux: Protomux): void {
  const internals = mux as unknown as MuxInternals
  if (internals._batch === null) return
  internals._sendBatch(internals._batch, internals._batchState)
  internals._batch = []
  internals._batchState = { buffer: null, start: 0, end: 1 }
}
