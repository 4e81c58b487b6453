import type Protomux from 'protomux'
import { MeshError, requestIdSchema } from '../protocol/index.js'
import { cork } from './cork.js'

/** This side's end of a channel that the other side opens with a request. */
interface Accepted {
  /** Tells the other side, and closes the channel. */
  fail(err: MeshError): void
}

/** What this side's end of a channel tells of it, each once. */
export interface ChannelHooks {
  /** The channel is open. @param handshake what the other side opened it with */
  onOpen(handshake: Uint8Array): void
  onClose(): void
}

interface Acceptance<T extends Accepted> {
  protocol: string
  /** Channels that one link may have open at a time. */
  mostOpen: number
  /** Makes and opens this side's end. */
  open: (requestId: string, hooks: ChannelHooks) => T
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
    cork(mux)
    let onOpen: ChannelHooks['onOpen'] = () => {}
    const request = new Promise<Uint8Array>((resolve) => (onOpen = resolve))
    const channel = open(requestId.data, { onOpen, onClose: () => count-- })
    request.then((bytes) => run(bytes, channel)).catch((err: unknown) => channel.fail(MeshError.from(err)))
  })
}
