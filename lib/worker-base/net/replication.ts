import type Hypercore from 'hypercore'
import type { Duplex } from 'streamx'
import type { Link } from '../../link/index.js'
import type { Caller } from '../../protocol/index.js'

/** To whom a core is replicated. A member has said hello as what the directory says it is; all others are clients. */
export type Audience = (peer: { readonly publicKey: string; readonly role: Caller }) => boolean

/** What this needs of a link. */
type Replicating = Pick<Link, 'publicKey' | 'greeted' | 'closed'> & { readonly conn: Duplex }
type Core = Pick<Hypercore, 'replicate'>

interface Shared {
  audience: Audience
  /** Who has it already. */
  links: WeakSet<Replicating>
}

/** Which cores go to whom: each to its own audience, and to nobody before a valid hello. */
export class Replication<L extends Replicating = Link> {
  readonly #shared = new Map<Core, Shared>()
  readonly #links: Iterable<L>
  readonly #roleOf: (link: L) => Caller

  /** @param roleOf what a link counts as: a member's role once it has been admitted, else `client` */
  constructor(links: Iterable<L>, roleOf: (link: L) => Caller) {
    this.#links = links
    this.#roleOf = roleOf
  }

  /** Replicates a core, from now on and on the links that there are. It ends with the core. */
  share(core: Core, audience: Audience): void {
    this.#shared.set(core, { audience, links: new WeakSet() })
    for (const link of this.#links) this.update(link)
  }

  /** Replicates a core on no further links. */
  withdraw(core: Core): void {
    this.#shared.delete(core)
  }

  /** Gives a link what it is entitled to now. */
  update(link: L): void {
    if (!link.greeted || link.closed) return
    const peer = { publicKey: link.publicKey, role: this.#roleOf(link) }
    for (const [core, { audience, links }] of this.#shared) {
      if (links.has(link) || !audience(peer)) continue
      links.add(link)
      core.replicate(link.conn)
    }
  }
}
