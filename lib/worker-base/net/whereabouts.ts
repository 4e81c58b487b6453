import type DHT from 'hyperdht'
import type { KeyPair } from 'hyperdht'
import { ownAddresses } from '../../lan/index.js'
import type { Link } from '../../link/index.js'
import {
  isLoopback,
  isLoopbackHost,
  type MemberNode,
  MeshError,
  type MeshProfile,
  memberNodeSchema,
  nodeAddress,
  nodeText,
  type Role,
} from '../../protocol/index.js'
import type { Directory } from '../../store/index.js'
import { isOwnAddress, plainAddress } from '../origin.js'
import type { NetConfig } from './config.js'
import { nextNode, type OwnNode, openNode } from './dht.js'
import { MeetingPoints } from './meeting-points.js'
import { OwnAddress } from './own-address.js'
import { Places } from './places.js'
import { keepPort } from './ports.js'

/** How often a worker that is not linked with the authority looks whether its home knows by now where that is. */
const REMEMBER_MS = 2000

/** Nodes to begin at that a profile names, and an invite with it. */
const MAX_BOOTSTRAP = 5

export interface WhereaboutsOptions {
  config: NetConfig
  profile: MeshProfile
  directory: Directory
  keyPair: KeyPair
  publicKey: string
  role: Role
  workerDir: string
  /** Where members were seen last, as the home remembers it. */
  remembered: () => readonly MemberNode[]
  /** Whether an announcement of this key under this topic is kept. */
  mayAnnounce: (topic: Uint8Array, publicKey: Uint8Array) => boolean
  /** Whether there is a link with the authority, or this worker is it. */
  isAuthorityHere: () => boolean
  /** A node to begin at answers again. */
  onReturned: () => void
  /** Others look for this worker where it is no longer. */
  onMoved: (reason: MeshError) => void
}

/** Where this worker's DHT node is, where the other members' are, and which nodes to begin at live. */
export class Whereabouts {
  readonly #options: WhereaboutsOptions
  readonly #places: Places
  #node: OwnNode | undefined
  #points: MeetingPoints | undefined
  #ownAddress: OwnAddress | undefined
  #rememberedAt = 0

  constructor(options: WhereaboutsOptions) {
    this.#options = options
    this.#places = new Places(options)
  }

  /** Opens this worker's node. @throws MeshError DHT_UNREACHABLE, PORT_IN_USE */
  async open(): Promise<DHT> {
    const { config, profile, keyPair, role, workerDir, mayAnnounce } = this.#options
    const { network } = profile
    const node = await openNode(network, { config, keyPair, role, workerDir, whereIs: this.#places.next, mayAnnounce })
    const { dht, port, address } = node
    this.#node = node
    if (port !== undefined) keepPort(workerDir, network.kind, port)
    // On a LAN others are told this machine's address, unless the settings say it.
    if (address !== undefined && config.host === '' && !isLoopback(network)) {
      const { host } = nodeAddress(address)
      this.#ownAddress = new OwnAddress({ host, addresses: ownAddresses, now: () => performance.now() })
    }
    return dht
  }

  /** On local and LAN networks: follows from here on which of the nodes to begin at live. */
  watch(): void {
    const mesh = this.#node?.mesh
    if (mesh === undefined) return
    const topic = this.#options.directory.core.discoveryKey
    this.#points = new MeetingPoints({
      probe: (point) => mesh.holds(topic, point),
      onChange: (alive, returned) => {
        mesh.know(alive)
        if (returned.length > 0) this.#options.onReturned()
      },
      now: () => performance.now(),
    })
    this.consider()
  }

  /** The directory may name other nodes to begin at. */
  consider(): void {
    const own = this.#node?.address
    this.#points?.consider(this.#places.meetingPoints.filter((point) => point !== own))
  }

  /** Announces a topic at this worker's own node, where that is a meeting point. */
  async announceHere(topic: Uint8Array): Promise<void> {
    await this.#node?.mesh?.announceHere(topic)
  }

  /** Call it often. */
  tick(): void {
    this.#points?.tick()
    if (this.#points !== undefined) this.#rememberAgain()
    this.#checkAddress()
  }

  /**
   * How the mesh is reached. On local and LAN networks, where the authority's own node is the first to begin at, the authority
   * says where that is now, and where the gateways are.
   */
  get profile(): MeshProfile {
    const { profile, role, directory, publicKey: self } = this.#options
    const own = role === 'auth' ? this.#node?.address : undefined
    if (own === undefined) return profile
    // Of a mesh that was on this machine alone, or is now, what the directory remembers of then leads nowhere.
    const isLocal = isLoopbackHost(nodeAddress(own).host)
    const others = directory.nodes.filter(
      ({ publicKey, host }) => publicKey !== self && isLoopbackHost(host) === isLocal,
    )
    const bootstrap = [...new Set([own, ...others.map(nodeText)])].slice(0, MAX_BOOTSTRAP)
    return { ...profile, network: { ...profile.network, bootstrap } }
  }

  /** Addresses for the status file. */
  get addresses(): Record<string, string> {
    const address = this.#node?.address
    if (address === undefined) return {}
    // Others call this worker there, without asking anybody where it is.
    return this.#options.role === 'auth' ? { bootstrap: address, dht: address } : { dht: address }
  }

  /** True while the DHT answers; the authority of a network of its own is where that begins. */
  get online(): boolean {
    if (this.#points !== undefined) return this.#options.role === 'auth' || this.#points.alive.length > 0
    return this.#node?.dht.bootstrapped ?? false
  }

  /** Where this worker can be called directly; undefined on networks where that is not known. */
  get ownNode(): MemberNode | undefined {
    const { publicKey, role } = this.#options
    const address = this.#node?.address
    return address === undefined ? undefined : { publicKey, role, ...nodeAddress(address) }
  }

  /** Where a linked member can be called directly; undefined where it has not said. */
  placeOf(link: Link): MemberNode | undefined {
    const said = link.hello?.addresses.dht
    const own = this.#node?.address
    if (said === undefined || own === undefined || link.hello === undefined) return undefined
    // Only the port: whoever could name another host would have everybody call that.
    const host = isOwnAddress(link.address) ? nodeAddress(own).host : plainAddress(link.address)
    const node = { publicKey: link.publicKey, role: link.hello.role, host, port: nodeAddress(said).port }
    return memberNodeSchema.safeParse(node).data
  }

  /** A member is linked. */
  saw(link: Link): void {
    const place = this.placeOf(link)
    if (place !== undefined) this.#places.saw(link.publicKey, place)
  }

  /** Whether a member can be called without asking the DHT where it is. */
  isPlaceKnown(publicKey: string): boolean {
    return this.#node?.mesh !== undefined && this.#places.of(publicKey).length > 0
  }

  /** Where the authority's node will be on another network of the mesh's own. @throws MeshError DHT_UNREACHABLE */
  nextNode(kind: 'local' | 'lan', config: NetConfig): Promise<string> {
    return nextNode(kind, { config, workerDir: this.#options.workerDir, own: this.#node?.port })
  }

  #checkAddress(): void {
    const other = this.#ownAddress?.movedTo()
    if (other === undefined) return
    this.#ownAddress = undefined
    const { host } = nodeAddress(this.#node?.address ?? '')
    this.#options.onMoved(
      MeshError.LINK_CLOSED(`This machine is at ${other} now, not at ${host}: this worker starts anew`),
    )
  }

  /** Another worker of the home may have learnt where the authority is: it was on the same machine, and moved with it. */
  #rememberAgain(): void {
    const now = performance.now()
    if (this.#options.isAuthorityHere() || now - this.#rememberedAt < REMEMBER_MS) return
    this.#rememberedAt = now
    this.#places.rememberAgain()
    this.consider()
  }
}
