import { EventEmitter } from 'node:events'
import type { NoiseStream } from 'hyperdht'
import Protomux from 'protomux'
import ProtomuxRPC from 'protomux-rpc'
import {
  type Caller,
  encodeKey,
  type GenerateInput,
  type Hello,
  type InputOf,
  isDiskFull,
  type Load,
  MeshError,
  type MethodName,
  type ResponseOf,
} from '../protocol/index.js'
import { linkClosed, noteReason } from './closed.js'
import { connectError } from './connect.js'
import { Control, type OwnHello } from './control.js'
import { FetchCall, type FetchRequest } from './fetch.js'
import { Generation } from './generate.js'
import { answerSeparately, flushMux, guardMux } from './guard.js'
import { callMethod, type LinkCallOptions } from './rpc.js'
import { SILENT_MS, Silence } from './silence.js'

/** A link that has been silent for this long gets no new work. */
const SUSPECT_MS = 1500
/** A link whose other side has not said hello after this long is closed. */
const HELLO_MS = 5000

/** How long a closed link's goodbye has to arrive. */
const GOODBYE_MS = 200

interface LinkEvents {
  /** The other side has opened its half: calls reach it. */
  open: []
  /** The other side's hello was read and accepted, be it a client's. */
  hello: []
  load: []
  suspect: []
  /** The other side sent what is no frame of this protocol; the close follows. */
  garbage: []
  close: [MeshError]
}

export interface LinkOptions {
  /** May be one that is still being dialled. */
  conn: NoiseStream
  /** Absent: made here. */
  rpc?: ProtomuxRPC
  hello: OwnHello
  /** The other side's role at this moment; `client` for a stranger. */
  roleOf: (publicKey: string) => Caller
}

/**
 * The one connection between this process and another peer: hello and goodbye, calls, generations, fetches, and how long
 * the other side has been silent. Everything else on the connection is attached to it in the tick in which it is made.
 */
export class Link extends EventEmitter<LinkEvents> {
  readonly publicKey: string
  readonly mux: Protomux
  readonly rpc: ProtomuxRPC
  readonly conn: NoiseStream
  /** Resolves once the connection itself is closed, and with it everything said before. */
  readonly gone: Promise<void>
  /** What the other side said of itself; undefined until it has, and always for clients. */
  hello: Hello | undefined
  load: Load | undefined
  readonly #roleOf: (publicKey: string) => Caller
  readonly #control: Control
  readonly #silence = new Silence(performance.now())
  #suspect = false
  #greeted = false
  #callable = false
  #opened: boolean
  #reason: MeshError | undefined

  /**
   * Attaches everything in the tick of the connection: later, the other side would get CHANNEL_CLOSED.
   * @throws MeshError LINK_CLOSED where the connection is closed already
   */
  constructor({ conn, rpc, hello, roleOf }: LinkOptions) {
    super()
    this.conn = conn
    this.#roleOf = roleOf
    this.publicKey = encodeKey(conn.remotePublicKey)
    this.#opened = conn.connected || !conn.isInitiator
    this.mux = Protomux.from(conn)
    guardMux(this.mux, (cause) => this.#onBadFrame(cause))
    // The id that @hyperswarm/rpc uses: the public key of the side that was dialled.
    this.rpc = rpc ?? new ProtomuxRPC(conn, { id: conn.isInitiator ? conn.remotePublicKey : conn.publicKey })
    answerSeparately(this.rpc)
    this.rpc.once('open', () => this.#onOpen())
    this.#control = new Control(this.mux, hello, {
      onHello: (said) => this.#onHello(said),
      onReport: (load) => this.#onReport(load),
      onGoodbye: (reason) => this.destroy(reason),
      onUnreadable: (reason) => this.#onUnreadable(reason),
    })
    conn.on('error', (err: Error) => this.#onEnd(this.#brokenBy(err)))
    this.gone = new Promise((resolve) => conn.on('close', () => resolve()))
    // Before the multiplexer tells what is under way, so that it can say why.
    conn.prependListener('close', () => this.#onEnd(this.#closedByPeer()))
  }

  /** Whether this side dialled. */
  get dialled(): boolean {
    return this.conn.isInitiator
  }

  /** The address that the connection comes from or goes to. */
  get address(): string {
    return this.conn.rawStream.remoteHost
  }

  get role(): Caller {
    return this.#roleOf(this.publicKey)
  }

  get opened(): boolean {
    return this.#opened && !this.closed
  }

  get closed(): boolean {
    return this.#reason !== undefined
  }

  /** Whether the other side has said a valid hello: before that nothing is replicated to it. */
  get greeted(): boolean {
    return this.#greeted
  }

  /** Whether the other side has been silent for so long that it gets no new work. */
  get suspect(): boolean {
    return this.#suspect
  }

  get rttMs(): number | undefined {
    return this.#control.rttMs
  }

  /** `processor p1`, or the beginning of the key of one who has not said its name, or is no member whatever it says. */
  get label(): string {
    return this.hello && this.role !== 'client'
      ? `${this.hello.role} ${this.hello.name}`
      : `peer ${this.publicKey.slice(0, 8)}`
  }

  /** @throws MeshError: the other side's answer, or TIMEOUT, CANCELLED, LINK_CLOSED */
  async call<M extends MethodName>(name: M, body: InputOf<M>, options?: LinkCallOptions): Promise<ResponseOf<M>> {
    this.#assertOpen(name)
    return callMethod(this.rpc, name, body, options)
  }

  /**
   * Asks the other side for a generation.
   * @param lastWordMs how long one that is cancelled goes on to tell what it has used; absent: it ends at once
   * @throws MeshError LINK_CLOSED, CANCELLED, MESSAGE_TOO_LARGE
   */
  generate(request: GenerateInput, signal?: AbortSignal, lastWordMs?: number): Generation {
    this.#assertOpen('the request')
    return new Generation(this.mux, request, signal, lastWordMs)
  }

  /** Opens a fetch. @throws MeshError LINK_CLOSED, BAD_REQUEST, MESSAGE_TOO_LARGE */
  fetch(request: FetchRequest, body?: Uint8Array | AsyncIterable<Uint8Array>): FetchCall {
    this.#assertOpen('the request')
    return new FetchCall(this.mux, request, body)
  }

  /** Sends a heartbeat with this worker's load. */
  report(load: Load): void {
    if (this.closed) return
    this.#control.report(load)
    // A message that takes long, such as a block for which the disk has no room yet, must not make this side silent.
    flushMux(this.mux)
  }

  /** Notes that the other side lives. */
  heard(): void {
    this.#silence.heard(performance.now())
    this.#suspect = false
  }

  /** Judges the silence, from the beginning on. Call it every CHECK_MS. @param now of `performance.now()` */
  check(now: number): void {
    const silentMs = this.#silence.look(now)
    if (!this.#greeted && silentMs >= HELLO_MS && !this.#isBareClient) {
      return this.close(MeshError.TIMEOUT(`${this.label} said no hello within ${HELLO_MS / 1000} s`))
    }
    // Clients send no heartbeats. A peer that was dialled is no client.
    if (this.hello === undefined && !this.dialled) return
    if (silentMs >= SILENT_MS) {
      this.close(MeshError.LINK_CLOSED(`${this.label} was silent for ${Math.round(silentMs)} ms`))
    } else if (silentMs >= SUSPECT_MS && !this.#suspect) {
      this.#suspect = true
      this.emit('suspect')
    }
  }

  /** Tells the other side why, and ends the connection. What is under way fails with the reason. */
  close(reason: MeshError): void {
    if (this.closed) return
    this.#control.goodbye(reason)
    flushMux(this.mux)
    this.#onEnd(reason)
    // Graceful first, so that the goodbye arrives; a peer that hangs must not keep the stream open.
    this.conn.end(undefined)
    setTimeout(() => this.conn.destroy(), GOODBYE_MS).unref()
  }

  /** Ends the connection at once, without a word. */
  destroy(reason: MeshError): void {
    this.#onEnd(reason)
    this.conn.destroy()
  }

  /** A program that knows nothing but `@hyperswarm/rpc` says no hello: it may call, and gets nothing else. */
  get #isBareClient(): boolean {
    return this.#callable && this.role === 'client'
  }

  #assertOpen(what: string): void {
    if (this.closed) throw linkClosed(this.mux, `The link to ${this.label} was closed before ${what} was sent`)
  }

  #onOpen(): void {
    if (this.closed) return
    this.#opened = true
    this.#callable = true
    this.emit('open')
  }

  #onHello(hello: Hello | undefined): void {
    this.#greeted = true
    this.hello = hello
    this.heard()
    this.emit('hello')
  }

  #onReport(load: Load): void {
    this.heard()
    this.load = load
    this.emit('load')
  }

  #onUnreadable(reason: MeshError): void {
    if (reason.code === 'BAD_REQUEST') this.#onGarbage(reason)
    else this.close(reason)
  }

  #onBadFrame(cause: unknown): void {
    // Not the other side's fault: what it sent could not be stored here.
    if (isDiskFull(cause)) this.close(MeshError.from(cause))
    else this.#onGarbage(MeshError.BAD_REQUEST('What came over this link is no frame of its protocol', {}, { cause }))
  }

  #onGarbage(reason: MeshError): void {
    if (this.closed) return
    this.emit('garbage')
    this.close(reason)
  }

  #brokenBy(err: Error): MeshError {
    return this.#opened
      ? MeshError.LINK_CLOSED(`The connection to ${this.label} broke`, {}, { cause: err })
      : connectError(err, this.label)
  }

  #closedByPeer(): MeshError {
    return this.#opened
      ? MeshError.LINK_CLOSED(`${this.label} closed the connection`)
      : MeshError.REFUSED(`${this.label} closed the connection before it was open`)
  }

  #onEnd(reason: MeshError): void {
    if (this.closed) return
    this.#reason = reason
    noteReason(this.mux, reason)
    this.emit('close', reason)
  }
}
