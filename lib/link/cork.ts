import type Protomux from 'protomux'

/**
 * Holds what is written on a link back until the end of this turn of the event loop: the tokens that several streams
 * get at once then travel as one packet, and answering a request does not wait for the send.
 */
export function cork(mux: Protomux): void {
  if (corked.has(mux)) return
  corked.add(mux)
  mux.cork()
  setImmediate(() => {
    corked.delete(mux)
    mux.uncork()
  })
}
const corked = new WeakSet<Protomux>()
