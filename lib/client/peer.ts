import { EventEmitter } from 'node:events'
import type RPC from '@hyperswarm/rpc'
import type { Client } from '@hyperswarm/rpc'
import c from 'compact-encoding'
import type Corestore from 'corestore'
import type { NodeAddress } from 'hyperdht'
import Protomux from 'protomux'
import {
  type CallOptions,
  callMethod,
  connectError,
  FetchCall,
  type FetchRequest,
  Generation,
  guardMux,
} from '../link/index.js'
import {
  CLIENT_HELLO,
  CONTROL_PROTOCOL,
  encodeJson,
  encodeKey,
  type GenerateEvent,
  type GenerateInput,
  type InputOf,
  MeshError,
  type MethodName,
  openHello,
  type ResponseOf,
  readGoodbye,
} from '../protocol/index.js'

/** While something is under way, a peer that has said nothing for this long is asked whether it lives. */
const PING_MS = 1500
/** And is given up after this long. */
const SILENT_MS = 3000
const TICK_MS = 250

interface PeerEvents {
  open: []
  close: [MeshError]
}

export interface PeerOptions {
  rpc: RPC
  /** Replicates its cores over the connection. */
  store: Corestore
  publicKey: Buffer
  /** DHT nodes that know the peer; none: the DHT is asked. */
  nodes: NodeAddress[]
  /** How long the connection may take to open. */
  dialMs: number
}

/**
 * One connection to a gateway or to the authority, dialled by public key: Noise proves that the other side has it.
 * Whether that key belongs to the mesh is for the directory to say, before anything secret is sent.
 */
export class Peer extends EventEmitter<PeerEvents> {
  readonly publicKey: string
  readonly #client: Client
  readonly #stream: Client['stream']
  #opened = false
  #closed = false
  #reason: MeshError | undefined
  #underWay = 0
  #lastHeard = 0
  #lastBytes = 0
  #lastTick = 0
  #timer: NodeJS.Timeout | undefined
  #pinging = false

  constructor({ rpc, store, publicKey, nodes, dialMs }: PeerOptions) {
    super()
    this.publicKey = encodeKey(publicKey)
    this.#client = rpc.connect(publicKey, {
      relayAddresses: nodes.map(({ host, port }) => ({ host, port })),
    })
    this.#stream = this.#client.stream
    // Whoever announces the address can be dialled: what it sends must not end this process.
    guardMux(Protomux.from(this.#stream), (err) => {
      this.#reason ??= MeshError.LINK_CLOSED(`${this.label} sent what is no frame of the protocol`, {}, { cause: err })
    })
    // In the tick of the dial, so that no message of the other side finds its channel missing.
    store.replicate(this.#stream)
    this.#greet()
    const timer = setTimeout(
      () => this.close(MeshError.PEER_NOT_FOUND(`${this.label} does not answer within ${dialMs} ms`)),
      dialMs,
    )
    this.#client.on('open', () => {
      clearTimeout(timer)
      if (this.closed) return
      this.#opened = true
      this.emit('open')
    })
    this.#client.on('error', () => {
      // 'close' follows.
    })
    this.#stream.on('error', (err: Error) => {
      this.#reason ??= this.#opened
        ? MeshError.LINK_CLOSED(`The connection to ${this.label} broke`, {}, { cause: err })
        : connectError(err, this.label)
    })
    this.#stream.on('close', () => {
      clearTimeout(timer)
      this.#onClose(
        this.#opened
          ? MeshError.LINK_CLOSED(`${this.label} closed the connection`)
          : MeshError.REFUSED(`${this.label} closed the connection before it was open`),
      )
    })
  }

  get label(): string {
    return `peer ${this.publicKey.slice(0, 8)}`
  }

  get opened(): boolean {
    return this.#opened && !this.closed
  }

  get closed(): boolean {
    return this.#closed
  }

  /** @throws MeshError: the other side's answer, or TIMEOUT, CANCELLED, LINK_CLOSED */
  async call<M extends MethodName>(name: M, body: InputOf<M>, options: CallOptions = {}): Promise<ResponseOf<M>> {
    const { rpc } = this.#client
    if (rpc === null || this.closed) throw this.#lost(name)
    const release = this.#hold()
    try {
      return await callMethod(rpc, name, body, options)
    } catch (err) {
      throw this.#explain(err)
    } finally {
      release()
    }
  }

  /** Opens a generation and gives its events. @throws MeshError LINK_CLOSED, CANCELLED, or what the gateway says */
  async *generate(request: GenerateInput, signal?: AbortSignal): AsyncGenerator<GenerateEvent> {
    const { rpc } = this.#client
    if (rpc === null || this.closed) throw this.#lost('the request')
    const release = this.#hold()
    try {
      yield* new Generation(rpc.mux, request, signal)
    } catch (err) {
      throw this.#explain(err)
    } finally {
      release()
    }
  }

  /** Opens a fetch. @throws MeshError LINK_CLOSED, BAD_REQUEST, MESSAGE_TOO_LARGE */
  fetch(request: FetchRequest, body?: Uint8Array | AsyncIterable<Uint8Array>): FetchCall {
    const { rpc } = this.#client
    if (rpc === null || this.closed) throw this.#lost('the request')
    const call = new FetchCall(rpc.mux, request, body)
    void call.done.then(this.#hold())
    return call
  }

  /** Ends the connection. @param reason what those who still wait are told of */
  close(reason: MeshError = MeshError.LINK_CLOSED('The client was closed')): void {
    if (this.closed) return
    this.#reason ??= reason
    this.#client.destroy()
    this.#stream.destroy()
    this.#onClose(reason)
  }

  /** Says which version this client speaks, and hears the other side's, and why it closes the connection if it does. */
  #greet(): void {
    const channel = Protomux.from(this.#stream).createChannel({
      protocol: CONTROL_PROTOCOL,
      handshake: c.raw,
      onopen: (bytes) => this.#onSaid(() => openHello(bytes)),
    })
    if (channel === null) return
    // Reports are for members.
    channel.addMessage({ encoding: c.raw })
    channel.addMessage({
      encoding: c.raw,
      onmessage: (bytes) =>
        this.#onSaid(() => {
          throw readGoodbye(bytes)
        }),
    })
    channel.open(encodeJson(CLIENT_HELLO))
  }

  #onSaid(read: () => void): void {
    try {
      read()
    } catch (err) {
      this.close(MeshError.from(err))
    }
  }

  #lost(what: string): MeshError {
    return MeshError.LINK_CLOSED(`The connection to ${this.label} was closed before ${what} was sent`)
  }

  #onClose(fallback: MeshError): void {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    this.emit('close', this.#reason ?? fallback)
  }

  /** Adds why the connection ended to the error of what was under way on it. */
  #explain(err: unknown): MeshError {
    const failure = MeshError.from(err)
    if (failure.code !== 'LINK_CLOSED' || this.#reason === undefined) return failure
    return MeshError.LINK_CLOSED(`${failure.message}: ${this.#reason.message}`, failure.details, { cause: err })
  }

  /** Watches the silence until released. */
  #hold(): () => void {
    if (++this.#underWay === 1) {
      this.#lastHeard = this.#lastTick = Date.now()
      this.#timer = setInterval(() => this.#tick(), TICK_MS)
    }
    return () => {
      if (--this.#underWay === 0) clearInterval(this.#timer)
    }
  }

  #tick(): void {
    const now = Date.now()
    // After a pause of this process itself (suspended laptop, long garbage collection) the silence was ours.
    const ownPauseMs = now - this.#lastTick - TICK_MS
    this.#lastTick = now
    if (ownPauseMs > TICK_MS) this.#lastHeard += ownPauseMs
    const bytes = this.#stream.rawBytesRead
    if (bytes !== this.#lastBytes) {
      this.#lastBytes = bytes
      this.#lastHeard = now
    }
    const silentMs = now - this.#lastHeard
    if (silentMs >= SILENT_MS) {
      this.close(MeshError.LINK_CLOSED(`${this.label} was silent for ${Math.round(silentMs)} ms`))
    } else if (silentMs >= PING_MS && !this.#pinging) this.#ping()
  }

  #ping(): void {
    const { rpc } = this.#client
    if (rpc === null) return
    this.#pinging = true
    callMethod(rpc, 'ping', {}, { timeoutMs: SILENT_MS })
      .catch(() => {
        // Bytes count, not this answer; and where none come, the tick closes the connection.
      })
      .finally(() => {
        this.#pinging = false
      })
  }
}
