import type RPC from '@hyperswarm/rpc'
import type Corestore from 'corestore'
import type { NodeAddress } from 'hyperdht'
import {
  CHECK_MS,
  type FetchCall,
  type FetchRequest,
  type Generation,
  type KeyedCallOptions,
  Link,
} from '../link/index.js'
import {
  type Caller,
  CLIENT_HELLO,
  type GenerateInput,
  type InputOf,
  MeshError,
  type MethodName,
  type ResponseOf,
} from '../protocol/index.js'

/** How long a peer has to answer whether it lives. */
const PING_MS = 3000

export interface PeerOptions {
  rpc: RPC
  /** Replicates its cores over the connection. */
  store: Corestore
  publicKey: Buffer
  /** DHT nodes that know the peer; none: the DHT is asked. */
  nodes: NodeAddress[]
  /** How long the connection may take to open. */
  dialMs: number
  /** The role that the directory gives a public key; `client` for a stranger. */
  roleOf: (publicKey: string) => Caller
}

/**
 * A client's link to a gateway or to the authority, dialled by public key: Noise proves that the other side has it.
 * Whether that key belongs to the mesh is for the directory to say, before anything secret is sent.
 *
 * Clients hear no heartbeats: silence counts only while something is under way, and whatever comes breaks it.
 */
export class Peer extends Link {
  #underWay = 0
  #bytesRead = 0
  #timer: NodeJS.Timeout | undefined

  constructor({ rpc, store, publicKey, nodes, dialMs, roleOf }: PeerOptions) {
    const client = rpc.connect(publicKey, { relayAddresses: nodes.map(({ host, port }) => ({ host, port })) })
    // Whoever announces the address can be dialled: the link takes care that what it sends does not end this process.
    super({ conn: client.stream, rpc: client.rpc, hello: CLIENT_HELLO, roleOf })
    // In the tick of the dial, so that no message of the other side finds its channel missing.
    store.replicate(this.conn)
    const timer = setTimeout(
      () => this.close(MeshError.PEER_NOT_FOUND(`${this.label} does not answer within ${dialMs} ms`)),
      dialMs,
    )
    this.once('open', () => clearTimeout(timer))
    this.once('close', () => {
      clearTimeout(timer)
      clearInterval(this.#timer)
    })
    this.on('suspect', () => this.#ping())
  }

  override async call<M extends MethodName>(
    name: M,
    body: InputOf<M>,
    options?: KeyedCallOptions,
  ): Promise<ResponseOf<M>> {
    const answer = super.call(name, body, options)
    this.#watch(answer)
    return answer
  }

  override generate(request: GenerateInput, signal?: AbortSignal): Generation {
    const generation = super.generate(request, signal)
    this.#watch(generation.done)
    return generation
  }

  override fetch(request: FetchRequest, body?: Uint8Array | AsyncIterable<Uint8Array>): FetchCall {
    const call = super.fetch(request, body)
    this.#watch(call.done)
    return call
  }

  /** Ends the connection, and says nothing: the other side may be anybody. */
  override close(reason = MeshError.LINK_CLOSED('The client was closed')): void {
    // What the other side does wrong is no mistake of this client's caller.
    const isTheirs = reason.code === 'BAD_REQUEST'
    this.destroy(isTheirs ? MeshError.LINK_CLOSED(`${this.label}: ${reason.message}`, {}, { cause: reason }) : reason)
  }

  /** Watches the silence until the work is done. */
  #watch(work: Promise<unknown>): void {
    if (++this.#underWay === 1) {
      this.heard()
      this.#timer = setInterval(() => this.#tick(), CHECK_MS)
    }
    const release = () => {
      if (--this.#underWay === 0) clearInterval(this.#timer)
    }
    work.then(release, release)
  }

  #tick(): void {
    const { rawBytesRead } = this.conn
    if (rawBytesRead !== this.#bytesRead) {
      this.#bytesRead = rawBytesRead
      this.heard()
    }
    this.check(performance.now())
  }

  #ping(): void {
    // What comes counts, not this answer; and where nothing comes, the next ticks close the connection.
    super.call('ping', {}, { timeoutMs: PING_MS }).catch(() => {})
  }
}
