import { setTimeout as sleep } from 'node:timers/promises'
import { readHomeInvite } from '../home/index.js'
import type { Link } from '../link/index.js'
import { decodeInvite, type InviteText, MeshError, type Role } from '../protocol/index.js'
import { type Directory, directoryKeys } from '../store/index.js'
import type { Logger } from './log.js'
import type { Net } from './net/index.js'

/** How long a worker that is linked with the authority waits to see itself in the directory. */
const DIRECTORY_WAIT_MS = 5000

export interface MembershipOptions {
  role: Role
  name: string
  publicKey: string
  /** The authority's public key. */
  authority: string
  home: string
  /** An invite that counts before the home's own. */
  invite: string | undefined
  net: Net
  directory: Directory
  log: Logger
  /** Told when this worker cannot be a member. */
  onRefused: (reason: MeshError) => void
}

/** Keeps a worker in the directory: it joins with an invite where the authority does not list it, or no longer. */
export class Membership {
  readonly #options: MembershipOptions
  #joining: Promise<void> | undefined
  #stopped = false

  constructor(options: MembershipOptions) {
    this.#options = options
  }

  /** Joins with each link to the authority that finds this worker not listed. */
  start(): void {
    const { net, directory, authority, onRefused } = this.#options
    net.on('link', (link) => {
      if (link.publicKey === authority) this.#joinThrough(link)
    })
    // What a worker has on disk may be from before it was removed: it learns that only now.
    directory.on('change', () => {
      const link = net.members.get(authority)
      if (link !== undefined) this.#joinThrough(link)
    })
    net.on('unlink', (link, reason) => {
      if (link.publicKey === authority && reason.code === 'NOT_A_MEMBER') onRefused(reason)
    })
  }

  /** What fails from here on is nobody's fault. */
  stop(): void {
    this.#stopped = true
  }

  #joinThrough(authority: Link): void {
    this.#joining ??= this.#join(authority)
      .catch((err: unknown) => this.#onFailed(err))
      .finally(() => {
        this.#joining = undefined
      })
  }

  /** Spends the invite where the directory does not list this worker yet. */
  async #join(authority: Link): Promise<void> {
    const { role, name, publicKey, directory, log } = this.#options
    if (this.#listed) return
    // It is a member, but of a version that this one does not understand: an invite would not change that.
    if (directory.unreadable.has(directoryKeys.member(publicKey))) return
    let invite: InviteText
    try {
      invite = this.#readInvite()
    } catch (err) {
      // A member that has only just linked may not have read the directory yet, and needs no invite.
      if (await this.#listedSoon()) return
      throw err
    }
    const { id, secret } = invite
    // The authority answers one that is a member already without looking at the invite.
    await authority.call('join', { id, secret, role, name })
    log.info('joined the mesh')
  }

  get #listed(): boolean {
    const { directory, publicKey } = this.#options
    return directory.member(publicKey) !== undefined
  }

  async #listedSoon(): Promise<boolean> {
    const end = performance.now() + DIRECTORY_WAIT_MS
    while (!this.#listed && performance.now() < end && !this.#stopped) await sleep(20)
    return this.#listed
  }

  #readInvite(): InviteText {
    const { invite, home } = this.#options
    const found = invite === undefined ? readHomeInvite(home) : decodeInvite(invite)
    if (found !== undefined) return found
    throw MeshError.NOT_A_MEMBER(
      'This worker is not a member of the mesh and has no invite. Run `infermesh invite` where the mesh was made, then `infermesh join <invite>` here',
    )
  }

  #onFailed(err: unknown): void {
    if (this.#stopped) return
    const failure = MeshError.from(err)
    // A link that broke is dialled again, and joining with it.
    if (failure.code === 'LINK_CLOSED' || failure.code === 'TIMEOUT') return
    this.#options.onRefused(failure)
  }
}
