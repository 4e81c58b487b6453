import { rememberNodes } from '../../lib/home/index.js'
import type { Link } from '../../lib/link/index.js'
import { MAX_NODES, type MemberNode } from '../../lib/protocol/index.js'
import { type Directory, directoryKeys } from '../../lib/store/index.js'
import type { Logger, Net } from '../../lib/worker-base/index.js'
import type { StoreWriter } from './store-writer.js'

export interface NodesOptions {
  net: Net
  directory: Directory
  writer: StoreWriter
  home: string
  /** The mesh's address. */
  mesh: string
  log: Logger
}

/**
 * Where members can be called. Of the authority and the gateways the directory says it, so that whoever has it finds the mesh
 * while any of them is there; of all it is kept in the home, so that the authority finds them from a new address.
 */
export class Nodes {
  readonly #options: NodesOptions

  constructor(options: NodesOptions) {
    this.#options = options
    options.net.on('link', (link) => this.#onLink(link))
  }

  /** Says where the authority itself is now. Call it once the net has started. */
  async start(): Promise<void> {
    await this.#list(this.#options.net.ownNode)
  }

  #onLink(link: Link): void {
    const { net, home, mesh, log } = this.#options
    const node = net.placeOf(link)
    if (node === undefined) return
    try {
      rememberNodes(home, mesh, [node])
    } catch (err) {
      log.warn({ err, peer: link.label }, 'where a member is could not be kept')
    }
    if (node.role === 'gateway') void this.#list(node)
  }

  /** Puts a node among those of the directory. A disk that is full keeps it out until the next link. */
  async #list(node: MemberNode | undefined): Promise<void> {
    const { directory, writer, log } = this.#options
    if (node === undefined) return
    try {
      await writer.change((draft) => {
        const known = directory.nodes
        const others = known.filter(({ publicKey }) => publicKey !== node.publicKey)
        // In the place where it was: what has not changed is not written.
        const at = known.findIndex(({ publicKey }) => publicKey === node.publicKey)
        const nodes = at === -1 ? [...others, node] : known.with(at, node)
        // Of those that are too many the one goes that was there first, but for the authority.
        if (nodes.length > MAX_NODES)
          nodes.splice(
            nodes.findIndex(({ role }) => role !== 'auth'),
            1,
          )
        if (JSON.stringify(nodes) !== JSON.stringify(known)) draft.directory(directoryKeys.nodes(), { nodes })
      })
    } catch (err) {
      log.warn({ err }, 'where a gateway is could not be written to the directory')
    }
  }
}
