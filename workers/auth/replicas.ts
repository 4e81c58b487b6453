import type { Link } from '../../lib/link/index.js'
import { type Confirmation, type Member, MeshError } from '../../lib/protocol/index.js'
import type { AccountsCore } from './accounts-core.js'

/** How long the answer to a revocation waits for the gateways. */
const CONFIRM_MS = 2000

export interface ReplicasOptions {
  core: Pick<AccountsCore, 'access'>
  /** The gateways of the mesh. */
  gateways: () => Member[]
  /** The link to a member; undefined where there is none. */
  linkTo: (publicKey: string) => Pick<Link, 'call'> | undefined
  /** Told where a gateway could not be told of new accounts. It learns of them with its next link. */
  onUntold: (gateway: Member, reason: MeshError) => void
}

/** The gateways' replicas of the accounts, and how far they are. */
export class Replicas {
  readonly #options: ReplicasOptions

  constructor(options: ReplicasOptions) {
    this.#options = options
  }

  /**
   * Waits until the gateways check keys by all that was written up to now, or 2 s have passed. One that is not linked, or
   * hangs, checks them by what it knows until it is linked again.
   */
  async confirm(): Promise<Confirmation> {
    const confirmation: Confirmation = { confirmedBy: [], pending: [] }
    await Promise.all(
      this.#options.gateways().map(async (gateway) => {
        const failure = await this.#follow(gateway, CONFIRM_MS)
        confirmation[failure === undefined ? 'confirmedBy' : 'pending'].push(gateway.name)
      }),
    )
    confirmation.confirmedBy.sort()
    confirmation.pending.sort()
    return confirmation
  }

  /** Tells the gateways that are linked where the accounts are now. */
  async tell(): Promise<void> {
    const { gateways, linkTo, onUntold } = this.#options
    await Promise.all(
      gateways().map(async (gateway) => {
        if (linkTo(gateway.publicKey) === undefined) return
        const failure = await this.#follow(gateway)
        if (failure !== undefined) onUntold(gateway, failure)
      }),
    )
  }

  /** @returns why the gateway does not follow */
  async #follow({ publicKey, name }: Member, timeoutMs?: number): Promise<MeshError | undefined> {
    const { core, linkTo } = this.#options
    const link = linkTo(publicKey)
    if (link === undefined) return MeshError.LINK_CLOSED(`gateway ${name} is not linked`)
    try {
      await link.call('gateway.follow', core.access, timeoutMs === undefined ? {} : { timeoutMs })
      return undefined
    } catch (err) {
      return MeshError.from(err)
    }
  }
}
