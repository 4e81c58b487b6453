import type Protomux from 'protomux'
import { MeshError, requestIdSchema } from '../protocol/index.js'

/** This side's end of a channel that the other side opens with a request. */
interface Accepted {
  /** The request as bytes, once the channel is open. */
  readonly handshake: Promise<Uint8Array>
  /** Tells the other side, and closes the channel. */
  fail(err: MeshError): void
}

interface Acceptance<T extends Accepted> {
  protocol: string
  /** Channels that one link may have open at a time. */
  mostOpen: number
  /** Makes this side's end. @param onEnd to be called once, when the channel is closed */
  open: (requestId: string, onEnd: () => void) => T
  /** Does what is asked. What it throws fails the channel. */
  run: (request: Uint8Array, channel: T) => Promise<void>
}

/** Accepts channels whose ids are request ids. */
export function acceptChannels<T extends Accepted>(
  mux: Protomux,
  { protocol, mostOpen, open, run }: Acceptance<T>,
): void {
  let count = 0
  mux.pair({ protocol }, (id) => {
    // Not creating the channel makes protomux reject it.
    const requestId = requestIdSchema.safeParse(id?.toString())
    if (count >= mostOpen || !requestId.success || mux.opened({ protocol, id })) return
    count++
    const channel = open(requestId.data, () => count--)
    channel.handshake.then((bytes) => run(bytes, channel)).catch((err: unknown) => channel.fail(MeshError.from(err)))
  })
}
