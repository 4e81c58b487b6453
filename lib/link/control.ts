import c from 'compact-encoding'
import type Protomux from 'protomux'
import type { Message } from 'protomux'
import {
  type CLIENT_HELLO,
  encodeJson,
  type Hello,
  helloSchema,
  type Load,
  MeshError,
  openHello,
  parseJson,
  type Report,
  readGoodbye,
  reportSchema,
  validate,
} from '../protocol/index.js'

/**
 * The control channel: one on every link. It opens with each side's hello, then carries load reports between members,
 * which are the heartbeats, and at most one goodbye with the reason why the sender closes the link.
 */
export const CONTROL_PROTOCOL = 'infermesh/control/1'

/** Reports whose echo is still waited for. */
const MOST_ECHOES = 16

/** What a side says of itself; a client says no more than which version it speaks. */
export type OwnHello = Hello | typeof CLIENT_HELLO

export interface ControlListener {
  /** Undefined where the other side is a client, which has nothing more to say. */
  onHello(hello: Hello | undefined): void
  onReport(load: Load): void
  onGoodbye(reason: MeshError): void
  /** What came is nothing of this channel, or of another version. */
  onUnreadable(reason: MeshError): void
}

/** This side's end of a link's control channel. */
export class Control {
  readonly #listener: ControlListener
  readonly #report: Message<Uint8Array>
  readonly #goodbye: Message<Uint8Array>
  readonly #sentAt = new Map<number, number>()
  #seq = 0
  #heard: { seq: number; at: number } | undefined
  #rttMs: number | undefined

  /** Opens the channel with this side's hello. @throws MeshError LINK_CLOSED */
  constructor(mux: Protomux, hello: OwnHello, listener: ControlListener) {
    this.#listener = listener
    const channel = mux.createChannel({
      protocol: CONTROL_PROTOCOL,
      handshake: c.raw,
      onopen: (bytes) => this.#read(() => this.#onHello(bytes)),
    })
    if (channel === null) throw MeshError.LINK_CLOSED('The connection closed before the link was set up')
    this.#report = channel.addMessage({
      encoding: c.raw,
      onmessage: (bytes) => this.#read(() => this.#onReport(bytes)),
    })
    this.#goodbye = channel.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onGoodbye(bytes) })
    channel.open(encodeJson(hello))
  }

  /** Round trip of the last report; undefined until one was echoed. */
  get rttMs(): number | undefined {
    return this.#rttMs
  }

  report(load: Load): void {
    const now = performance.now()
    const seq = ++this.#seq
    this.#sentAt.set(seq, now)
    this.#sentAt.delete(seq - MOST_ECHOES)
    const heard = this.#heard
    const echo = heard && { seq: heard.seq, heldMs: now - heard.at }
    this.#report.send(encodeJson({ seq, echo, load } satisfies Report))
  }

  goodbye(reason: MeshError): void {
    this.#goodbye.send(encodeJson(reason.toJSON()))
  }

  #onHello(bytes: Uint8Array): void {
    const raw = openHello(bytes)
    this.#listener.onHello(raw.role === 'client' ? undefined : validate(helloSchema, raw, 'hello'))
  }

  #onReport(bytes: Uint8Array): void {
    const { seq, echo, load } = validate(reportSchema, parseJson(bytes, 'The report'), 'report')
    const now = performance.now()
    this.#heard = { seq, at: now }
    const sentAt = echo && this.#sentAt.get(echo.seq)
    if (sentAt !== undefined) this.#rttMs = Math.max(0, now - sentAt - (echo?.heldMs ?? 0))
    this.#listener.onReport(load)
  }

  #onGoodbye(bytes: Uint8Array): void {
    let reason: MeshError
    try {
      reason = readGoodbye(bytes)
    } catch (err) {
      return this.#listener.onUnreadable(MeshError.from(err))
    }
    this.#listener.onGoodbye(reason)
  }

  /** Nothing that the other side says leaves as an exception. */
  #read(work: () => void): void {
    try {
      work()
    } catch (err) {
      this.#listener.onUnreadable(MeshError.from(err))
    }
  }
}
