import { isIPv4 } from 'node:net'
import type { NodeAddress } from 'hyperdht'
import { encodeKey, isDoor, type MemberNode, type MeshProfile, nodeAddress, nodeText } from '../../protocol/index.js'
import type { Directory } from '../../store/index.js'

export interface PlacesOptions {
  profile: MeshProfile
  directory: Pick<Directory, 'nodes' | 'known' | 'member'>
  /** What the home remembers. */
  remembered: () => readonly MemberNode[]
}

/**
 * Where members were seen last, by their links, the directory and what the home remembers. A member that is called
 * there proves its key: an address that has become another's costs no more than a call.
 */
export class Places {
  readonly #options: PlacesOptions
  #kept: readonly MemberNode[]
  readonly #seen = new Map<string, NodeAddress>()
  /** How often each was asked for. */
  readonly #turns = new Map<string, number>()

  constructor(options: PlacesOptions) {
    this.#options = options
    this.#kept = options.remembered()
  }

  /** The home may know more by now. */
  rememberAgain(): void {
    this.#kept = this.#options.remembered()
  }

  /** A member is linked, and said where its node is. */
  saw(publicKey: string, place: NodeAddress): void {
    this.#seen.set(publicKey, place)
  }

  /** What is remembered of members; of strangers while the directory is not known. */
  get #remembered(): MemberNode[] {
    const { directory } = this.#options
    return this.#kept.filter(({ publicKey }) => !directory.known || directory.member(publicKey) !== undefined)
  }

  /** Every place that is known of a member, the surest first. */
  of(publicKey: string): NodeAddress[] {
    const { profile, directory } = this.#options
    const seen = this.#seen.get(publicKey)
    const listed = [...directory.nodes, ...this.#remembered].filter((node) => node.publicKey === publicKey)
    // Of a mesh's own network the first node that a profile names is the authority's.
    const first = profile.network.bootstrap.slice(0, publicKey === profile.authority ? 1 : 0).map(nodeAddress)
    const all = [...(seen === undefined ? [] : [seen]), ...listed, ...first.filter(({ host }) => isIPv4(host))]
    return [...new Map(all.map(({ host, port }) => [nodeText({ host, port }), { host, port }])).values()]
  }

  /** One of them, each in its turn: a call tries one after another, and waits long for one where nobody is. */
  next = (publicKey: Uint8Array): NodeAddress[] => {
    const key = encodeKey(publicKey)
    const places = this.of(key)
    const turn = this.#turns.get(key) ?? 0
    this.#turns.set(key, turn + 1)
    const place = places[turn % places.length]
    return place === undefined ? [] : [place]
  }

  /** Nodes that others may begin at, as `host:port`, the surest first. */
  get meetingPoints(): string[] {
    const { profile, directory } = this.#options
    const doors = [...directory.nodes, ...this.#remembered.filter(({ role }) => isDoor(role))]
    return [...new Set([...profile.network.bootstrap, ...doors.map(nodeText)])]
  }
}
