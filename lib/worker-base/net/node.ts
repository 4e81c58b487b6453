import { lookup } from 'node:dns/promises'
import type {
  ConnectOptions,
  DHTOptions,
  DHTRequest,
  KeyPair,
  NodeAddress,
  NoiseStream,
  QueryOptions,
  QueryRequest,
} from 'hyperdht'
import DHT from 'hyperdht'
import { nodeAddress } from '../../protocol/index.js'

/** A node that is gone keeps a lookup waiting for this many tries of one second each, and no longer. */
const RETRIES = 1

/** What is kept of each kind for others; a mesh has some hundreds of members at most. Twice as much, as it ages. */
const MAX_KEPT = 1024
/** HyperDHT's numbers of what it is asked: to announce, to take that back, and from here on to keep values, which nobody of a mesh does. */
const ANNOUNCE = 4
const UNANNOUNCE = 5
const VALUES = 6
/** An announcement says in its first bit that it names a key, which comes next. */
const NAMES_KEY = 1
const KEY_BYTES = 32

export interface MeshNodeOptions {
  keyPair: KeyPair
  /** Where other machines reach this node. */
  host: string
  port: number
  /** The address that it binds to; empty: all. */
  bind: string
  /** Whether others may begin at it, and leave their announcements there. */
  isMeetingPoint: boolean
  /** Where a peer was seen last: it is called there before anybody is asked where it is. */
  whereIs: (publicKey: Uint8Array) => readonly NodeAddress[]
  /** Whether an announcement of this key under this topic is kept. */
  mayAnnounce: (topic: Uint8Array, publicKey: Uint8Array) => boolean
}

/**
 * A DHT node on a network of its own, local or LAN. HyperDHT fills its tables with whoever answers, and waits six seconds
 * for each that is gone; here the nodes are few and known, and only those count of which it is known that they live.
 */
export class MeshNode extends DHT {
  readonly #own: string | undefined
  readonly #whereIs: MeshNodeOptions['whereIs']
  readonly #mayAnnounce: MeshNodeOptions['mayAnnounce']
  /** What its own key is announced under. */
  readonly #ownTarget: Buffer
  #known: ReadonlySet<string> = new Set()

  private constructor({ keyPair, host, port, bind, isMeetingPoint, whereIs, mayAnnounce }: MeshNodeOptions) {
    super({
      keyPair,
      bootstrap: [],
      firewalled: false,
      ephemeral: !isMeetingPoint,
      maxSize: MAX_KEPT,
      // A range without its end. Where the port was taken meanwhile, any free one.
      port: [port, port + 1],
      ...(bind === '' ? {} : { host: bind }),
    } satisfies DHTOptions)
    this.#own = isMeetingPoint ? `${host}:${port}` : undefined
    this.#whereIs = whereIs
    this.#mayAnnounce = mayAnnounce
    this.#ownTarget = DHT.hash(keyPair.publicKey)
    // It need ask nobody what its address is: while it is alone there is nobody to tell it.
    this._nat.add(host, port)
    this._filterNode = (node) => this.#known.has(`${node.host}:${node.port}`)
  }

  /** @throws the system's error where it cannot be bound */
  static async open(options: MeshNodeOptions): Promise<MeshNode> {
    const node = new MeshNode(options)
    try {
      // It asks nobody, so this takes no longer than the binding.
      await node.fullyBootstrapped()
    } catch (err) {
      await node.destroy({ force: true })
      throw err
    }
    node.know([])
    return node
  }

  /**
   * Says which other nodes live, as `host:port`: they alone are asked and told from here on, and this node itself where it is
   * a meeting point.
   */
  know(nodes: readonly string[]): void {
    this.#known = new Set(nodes)
    const asked = this.#own === undefined ? nodes : [this.#own, ...nodes]
    this.bootstrapNodes = asked.map(nodeAddress)
    for (const node of this.nodes.toArray()) if (!this._filterNode?.(node)) this._removeNode(node)
  }

  /**
   * Announces a topic at this node alone, where it is a meeting point: that waits for nobody. Whoever asks it finds it, though
   * the announcing elsewhere waits for a node that has just gone.
   */
  async announceHere(topic: Uint8Array): Promise<void> {
    if (this.#own === undefined) return
    const own = [nodeAddress(this.#own)]
    await this.announce(topic, this.defaultKeyPair, own, { nodes: own, onlyClosestNodes: true }).finished()
  }

  /**
   * A first announcement takes away what an earlier run left, and what this node itself holds at once, but is told anew only
   * when every node has answered: one that has just gone would leave nobody to be found here for seconds.
   */
  override announce(
    topic: Uint8Array,
    keyPair: KeyPair,
    relayAddresses: NodeAddress[],
    options: QueryOptions = {},
  ): ReturnType<DHT['announce']> {
    const query = super.announce(topic, keyPair, relayAddresses, options)
    if (options.clear) this.announceHere(topic).catch(() => {})
    return query
  }

  /** Whether a node answers that holds announcements of a topic: another mesh's may have come to the same address. */
  async holds(topic: Uint8Array, node: string): Promise<boolean> {
    const { host, port } = nodeAddress(node)
    try {
      const { address } = await lookup(host, 4)
      const query = this.lookup(topic, { nodes: [{ host: address, port }], onlyClosestNodes: true, retries: 0 })
      for await (const { peers } of query) if (peers.length > 0) return true
    } catch {
      // Nobody knows the name, or this node was destroyed in the midst of it.
    }
    return false
  }

  /** Anybody of the network may ask. What a stranger would have kept here could push out what members announce. */
  override onrequest(request: DHTRequest): boolean {
    const { command, target, value } = request
    if (command >= VALUES) return false
    if (command === ANNOUNCE && target !== null && value !== null && ((value[0] ?? 0) & NAMES_KEY) !== 0) {
      // Answered as if it were kept: a gateway that is not listed here yet announces itself again once it is linked.
      if (!this.#mayAnnounce(target, value.subarray(1, 1 + KEY_BYTES))) {
        request.reply(null, { token: false, closerNodes: false })
        return true
      }
    }
    // It takes back what it left at nodes that it uses no more, and may be one of them. HyperDHT would forget with it that
    // this very node is that peer, and leave every call unanswered from then on.
    if (command === UNANNOUNCE && target !== null && this.#ownTarget.equals(target)) {
      request.reply(null, { token: false, closerNodes: false })
      return true
    }
    return super.onrequest(request)
  }

  override connect(publicKey: Uint8Array, options: ConnectOptions = {}): NoiseStream {
    return super.connect(publicKey, { ...options, relayAddresses: this.#whereIs(publicKey) })
  }

  override query(request: QueryRequest, options: QueryOptions = {}): ReturnType<DHT['query']> {
    const given = options.nodes ?? options.closestNodes
    const nodes = options.onlyClosestNodes
      ? given
      : given?.filter(({ host, port }) => this.#known.has(`${host}:${port}`))
    return super.query(request, { ...options, nodes, retries: Math.min(options.retries ?? RETRIES, RETRIES) })
  }
}
