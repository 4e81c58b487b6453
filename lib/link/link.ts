import { EventEmitter } from 'node:events'
import c from 'compact-encoding'
import type { NoiseStream } from 'hyperdht'
import type { Message } from 'protomux'
import Protomux from 'protomux'
import ProtomuxRPC from 'protomux-rpc'
import {
  type Caller,
  CONTROL_PROTOCOL,
  encodeJson,
  encodeKey,
  type GenerateInput,
  type Hello,
  helloSchema,
  type InputOf,
  type Load,
  MeshError,
  type MethodName,
  openHello,
  parseJson,
  type Report,
  type ResponseOf,
  readGoodbye,
  reportSchema,
  validate,
} from '../protocol/index.js'
import { Generation } from './generate.js'
import { answerSeparately, flushMux, guardMux } from './guard.js'
import { type CallOptions, callMethod } from './rpc.js'

/** A link that has been silent for this long gets no new work. */
export const SUSPECT_MS = 1500
/** A link that has been silent for this long is closed. */
export const SILENT_MS = 3000

/** How long a closed link's goodbye has to arrive. */
const GOODBYE_MS = 200

interface LinkEvents {
  /** The other side's hello was read and accepted. */
  hello: [Hello]
  load: []
  suspect: []
  /** The other side sent what is no frame of this protocol; the close follows. */
  garbage: []
  close: [MeshError]
}

export interface LinkOptions {
  conn: NoiseStream
  hello: Hello
  /** The other side's role at this moment; `client` for a stranger. */
  roleOf: (publicKey: string) => Caller
}

/** The one connection between this worker and another peer: RPC, generations, replication and the control channel. */
export class Link extends EventEmitter<LinkEvents> {
  readonly publicKey: string
  readonly mux: Protomux
  readonly rpc: ProtomuxRPC
  readonly conn: NoiseStream
  readonly since = Date.now()
  /** Resolves once the connection itself is closed, and with it everything said before. */
  readonly gone: Promise<void>
  /** What the other side said of itself; undefined until it has, and always for clients. */
  hello: Hello | undefined
  load: Load | undefined
  rttMs: number | undefined
  suspect = false
  lastHeard = Date.now()
  readonly #roleOf: (publicKey: string) => Caller
  readonly #report: Message<Uint8Array>
  readonly #goodbye: Message<Uint8Array>
  #sent = new Map<number, number>()
  #seq = 0
  #heardReport: { seq: number; at: number } | undefined
  #closed = false

  /** Attaches everything in the tick of the connection: later, the other side would get CHANNEL_CLOSED. */
  constructor({ conn, hello, roleOf }: LinkOptions) {
    super()
    this.conn = conn
    this.#roleOf = roleOf
    this.publicKey = encodeKey(conn.remotePublicKey)
    this.mux = Protomux.from(conn)
    guardMux(this.mux, (err) => this.#onGarbage(err))
    // The id that @hyperswarm/rpc uses: the public key of the side that was dialled.
    this.rpc = new ProtomuxRPC(conn, { id: conn.isInitiator ? conn.remotePublicKey : conn.publicKey })
    answerSeparately(this.rpc)
    const control = this.mux.createChannel({
      protocol: CONTROL_PROTOCOL,
      handshake: c.raw,
      onopen: (bytes) => this.#onHello(bytes),
    })
    if (control === null) throw MeshError.LINK_CLOSED('The connection closed before the link was set up')
    this.#report = control.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onReport(bytes) })
    this.#goodbye = control.addMessage({ encoding: c.raw, onmessage: (bytes) => this.#onGoodbye(bytes) })
    control.open(encodeJson(hello))
    conn.on('error', () => {
      // 'close' follows and says it.
    })
    this.gone = new Promise((resolve) => conn.on('close', () => resolve()))
    conn.on('close', () => this.#onClose(MeshError.LINK_CLOSED('The connection ended')))
  }

  get role(): Caller {
    return this.#roleOf(this.publicKey)
  }

  get closed(): boolean {
    return this.#closed
  }

  /** `processor p1`, or the beginning of the key of a stranger. */
  get label(): string {
    return this.hello ? `${this.hello.role} ${this.hello.name}` : `peer ${this.publicKey.slice(0, 8)}`
  }

  /** @throws MeshError: the other side's answer, or TIMEOUT, CANCELLED, LINK_CLOSED */
  call<M extends MethodName>(name: M, body: InputOf<M>, options?: CallOptions): Promise<ResponseOf<M>> {
    return callMethod(this.rpc, name, body, options)
  }

  /** Asks the other side for a generation. @throws MeshError LINK_CLOSED, CANCELLED */
  generate(request: GenerateInput, signal?: AbortSignal): Generation {
    return new Generation(this.mux, request, signal)
  }

  /** Sends a heartbeat with this worker's load. */
  report(load: Load): void {
    if (this.#closed) return
    const seq = ++this.#seq
    this.#sent.set(seq, performance.now())
    this.#sent.delete(seq - 16)
    const heard = this.#heardReport
    const echo = heard && { seq: heard.seq, heldMs: performance.now() - heard.at }
    this.#report.send(encodeJson({ seq, echo, load } satisfies Report))
  }

  /** Judges the silence. Called on every heartbeat tick. */
  check(now: number): void {
    const silentMs = now - this.lastHeard
    if (silentMs >= SILENT_MS) {
      this.close(MeshError.LINK_CLOSED(`${this.label} was silent for ${Math.round(silentMs)} ms`))
    } else if (silentMs >= SUSPECT_MS && !this.suspect) {
      this.suspect = true
      this.emit('suspect')
    }
  }

  /** Tells the other side why, and ends the connection. */
  close(reason: MeshError): void {
    if (this.#closed) return
    this.#goodbye.send(encodeJson(reason.toJSON()))
    flushMux(this.mux)
    this.#onClose(reason)
    // Graceful first, so that the goodbye arrives; a peer that hangs must not keep the stream open.
    this.conn.end(undefined)
    setTimeout(() => this.conn.destroy(), GOODBYE_MS).unref()
  }

  #onGarbage(cause: unknown): void {
    if (this.#closed) return
    this.emit('garbage')
    this.close(MeshError.BAD_REQUEST('What came over this link is no frame of its protocol', {}, { cause }))
  }

  #onHello(bytes: Uint8Array): void {
    try {
      const raw = openHello(bytes)
      // A client has nothing more to say.
      if (raw.role === 'client') return
      this.hello = validate(helloSchema, raw, 'hello')
      this.#heard()
      this.emit('hello', this.hello)
    } catch (err) {
      this.#onUnreadable(err)
    }
  }

  #onReport(bytes: Uint8Array): void {
    try {
      const { seq, echo, load } = validate(reportSchema, parseJson(bytes, 'The report'), 'report')
      this.#heard()
      this.#heardReport = { seq, at: performance.now() }
      const sentAt = echo && this.#sent.get(echo.seq)
      if (sentAt !== undefined) this.rttMs = Math.max(0, performance.now() - sentAt - (echo?.heldMs ?? 0))
      this.load = load
      this.emit('load')
    } catch (err) {
      this.#onUnreadable(err)
    }
  }

  #onUnreadable(err: unknown): void {
    const reason = MeshError.from(err)
    if (reason.code === 'BAD_REQUEST') this.emit('garbage')
    this.close(reason)
  }

  #onGoodbye(bytes: Uint8Array): void {
    let reason: MeshError
    try {
      reason = readGoodbye(bytes)
    } catch {
      this.emit('garbage')
      reason = MeshError.LINK_CLOSED('The other side closed the link and gave no readable reason')
    }
    this.#onClose(reason)
    this.conn.destroy()
  }

  #heard(): void {
    this.lastHeard = Date.now()
    this.suspect = false
  }

  #onClose(reason: MeshError): void {
    if (this.#closed) return
    this.#closed = true
    this.emit('close', reason)
  }
}
