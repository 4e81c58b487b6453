import { type AccountsAccess, readAccountsAccess, writeAccountsAccess } from '../../lib/home/index.js'
import type { Link } from '../../lib/link/index.js'
import { decodeKey, encodeKey, MeshError, type RequestOf, type TokenVerifier } from '../../lib/protocol/index.js'
import { Accounts, type BeeView, type Principal } from '../../lib/store/index.js'
import type { Net, Store } from '../../lib/worker-base/index.js'
import { Freshness } from './freshness.js'

export interface AccountsReplicaOptions {
  store: Pick<Store, 'replica'>
  net: Pick<Net, 'share' | 'withdraw'>
  workerDir: string
  /** Core key of this gateway's journal, which the authority reads. */
  journal: Uint8Array
  tokens: TokenVerifier
  /** The link to the authority; undefined while there is none. */
  authority: () => Pick<Link, 'call'> | undefined
  /** Told of accounts before they are opened. */
  watch: (accounts: BeeView) => void
}

/** Accounts, and how they are read. */
interface Replica {
  access: AccountsAccess
  view: Accounts
}

/**
 * This gateway's replica of the accounts, from which keys are checked without a round trip. How to read it the authority
 * tells with each link, and when the accounts move because a gateway was removed; it is kept (mode 0600), so that the
 * gateway can start while the authority is down.
 */
export class AccountsReplica {
  readonly #options: AccountsReplicaOptions
  /** Keys are checked by these. */
  #current: Replica | undefined
  /** Where the accounts have moved to: keys are checked by these once they are here. */
  #next: Replica | undefined
  readonly #freshness: Freshness
  /** How often the authority has told of its own accord how the accounts are read. */
  #told = 0
  #complete = false
  #closed = false

  constructor(options: AccountsReplicaOptions) {
    this.#options = options
    this.#freshness = new Freshness({
      ask: () => {
        const authority = options.authority()
        if (authority !== undefined) this.enlist(authority).catch(() => {})
      },
    })
  }

  /** Opens the replica with what an earlier run was told. @throws MeshError STORE_INVALID */
  async open(): Promise<void> {
    const access = readAccountsAccess(this.#options.workerDir)
    if (access === undefined) return
    const replica = this.#make(access)
    await replica.view.open()
    this.#current = replica
    // What came after that may be missing still, as for any gateway without the authority.
    this.#complete = access.length !== undefined && replica.view.applied >= access.length
  }

  /**
   * Tells the authority where the journal is, and follows the accounts as far as they go at that moment.
   * @throws MeshError
   */
  async enlist(authority: Pick<Link, 'call'>): Promise<void> {
    const { doubt } = this.#freshness
    const told = this.#told
    const access = await authority.call('gateway.enlist', { journal: encodeKey(this.#options.journal) })
    // What it told meanwhile is as new as this answer, or newer.
    if (told !== this.#told) return this.enlist(authority)
    await this.#follow(access)
    this.#freshness.confirm(doubt)
  }

  /**
   * Checks keys by these accounts, once they are here up to this length; until then by those of before.
   * @throws MeshError CANCELLED when the signal aborts, SHUTTING_DOWN, CONFLICT where they have moved on meanwhile
   */
  async follow(access: RequestOf<'gateway.follow'>, signal?: AbortSignal): Promise<void> {
    this.#told++
    await this.#follow(access, signal)
  }

  async #follow(access: RequestOf<'gateway.follow'>, signal?: AbortSignal): Promise<void> {
    const replica = await this.#open(access)
    await untilApplied(replica.view, access.length, signal)
    if (replica === this.#next) this.#take(replica)
  }

  /** Resolves once keys may be checked after a pause of this process; undefined where they may now. */
  settled(): Promise<void> | undefined {
    return this.#freshness.settled()
  }

  /** True once the whole of the accounts has been read: before that, a good key might look like an unknown one. */
  get ready(): boolean {
    this.#complete ||= this.#current?.view.caughtUp ?? false
    return this.#complete
  }

  /** From when on what was made with a key belongs to somebody, as far as is known here: see `Accounts.ownedFrom`. */
  ownedFrom(keyId: string, user: string): number {
    // Before all of the accounts are here, a good key looks like one that is gone.
    return this.ready ? (this.#current?.view.ownedFrom(keyId, user) ?? 0) : 0
  }

  /** When a user was added; undefined where that cannot be told. */
  userAddedAt(name: string): number | undefined {
    return this.#current?.view.users.get(name)?.createdAt
  }

  /** When each user was added, by name; undefined where that cannot be told of all of them. */
  usersAddedAt(): Map<string, number> | undefined {
    const view = this.ready ? this.#current?.view : undefined
    if (view === undefined || [...view.unreadable.keys()].some((key) => key.startsWith('user/'))) return undefined
    return new Map([...view.users.values()].map(({ name, createdAt }) => [name, createdAt]))
  }

  /** @throws MeshError INVALID_API_KEY, or AUTHORITY_DOWN while nothing has been replicated yet */
  authenticate(key: string): Principal {
    if (this.#current === undefined || !this.ready) {
      throw MeshError.AUTHORITY_DOWN(
        'This gateway has not read the accounts yet, and cannot check keys. Try again shortly',
        { retryAfterMs: 1000 },
      )
    }
    return this.#current.view.authenticate(key)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#freshness.stop()
    await this.#next?.view.close()
    await this.#current?.view.close()
  }

  /** The replica with this core; where there is none yet, the one that is to take the current one's place. */
  async #open(access: AccountsAccess): Promise<Replica> {
    if (this.#closed) throw MeshError.SHUTTING_DOWN('This gateway is stopping')
    for (const known of [this.#current, this.#next]) if (known?.access.accounts === access.accounts) return known
    const replica = this.#make(access)
    const before = this.#next
    this.#next = replica
    if (before !== undefined) await this.#drop(before)
    try {
      await replica.view.open()
    } catch (err) {
      if (this.#next === replica) this.#next = undefined
      throw err
    }
    return replica
  }

  #make(access: AccountsAccess): Replica {
    const { store, net, tokens, watch } = this.#options
    const core = store.replica(decodeKey(access.accounts), Buffer.from(access.accountsEncryptionKey, 'hex'))
    const view = new Accounts(core)
    view.tokens = tokens
    // As many wait for it as revoke at a time.
    view.setMaxListeners(0)
    watch(view)
    // Also with other gateways: what one has been told while the authority was there, the others learn without it.
    net.share(core, ({ role }) => role === 'auth' || role === 'gateway')
    return { access, view }
  }

  #take(replica: Replica): void {
    const before = this.#current
    writeAccountsAccess(this.#options.workerDir, replica.access)
    this.#current = replica
    this.#next = undefined
    this.#complete = true
    if (before !== undefined) void this.#drop(before)
  }

  /** Lets go of accounts that have moved, and of what of them is on the disk. */
  async #drop({ access, view }: Replica): Promise<void> {
    const { store, net } = this.#options
    net.withdraw(view.core)
    const core = store.replica(decodeKey(access.accounts))
    try {
      // The view would fetch again what is cleared.
      await view.close()
      await core.clear(0, core.length)
    } catch {
      // Blocks that nobody reads any more stay on the disk.
    } finally {
      await core.close()
    }
  }
}

/** @throws MeshError CANCELLED when the signal aborts, CONFLICT where the view closes before */
function untilApplied(view: Accounts, length: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (view.applied >= length) end(resolve)
    }
    const onClose = () => end(() => reject(MeshError.CONFLICT('The accounts are elsewhere by now')))
    const onAbort = () => end(() => reject(MeshError.from(signal?.reason)))
    const end = (settle: () => void) => {
      view.off('change', look)
      view.off('close', onClose)
      signal?.removeEventListener('abort', onAbort)
      settle()
    }
    view.on('change', look)
    view.once('close', onClose)
    signal?.addEventListener('abort', onAbort)
    if (signal?.aborted) onAbort()
    else if (view.core.closed) onClose()
    else look()
  })
}
