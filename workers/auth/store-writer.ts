import type Hyperbee from 'hyperbee'
import { type AuditEntry, encodeJson, isDiskFull, MeshError } from '../../lib/protocol/index.js'
import { accountKeys, changeBee, type Directory } from '../../lib/store/index.js'
import type { AuthorityAccounts } from './accounts.js'
import { cutDetail } from './audit.js'

/** How often what the directory lacks is tried again. */
const OWED_RETRY_MS = 1000

/** What one change writes, collected while it is decided. A value of undefined deletes the entry. */
export interface Draft {
  account(key: string, value: object | undefined): void
  directory(key: string, value: object | undefined): void
  /** @param actor user name, or `system`; @param detail never a secret */
  audit(actor: string, action: string, target: string, detail?: Record<string, unknown>): void
}

interface Edit {
  key: string
  value: object | undefined
}

export interface StoreWriterOptions {
  accounts: AuthorityAccounts
  directory: Directory
  /** Milliseconds since the epoch, for the dates of what is written. */
  now: () => number
  /** Why nothing should be written, though it could be still: there is little room. Absent: there always is. */
  shortage?: () => MeshError | undefined
  /** Moves the accounts to where the gateways that were removed cannot read them. */
  renew: (accounts: AuthorityAccounts) => Promise<AuthorityAccounts>
  /** Told why the accounts could not move now. */
  onNotRenewed?: (err: unknown) => void
  /** Told how long each batch took. */
  onWrite?: (store: 'accounts' | 'directory', seconds: number) => void
}

/**
 * The only writer of the accounts and the directory. Changes are made one after another: each is decided from what the
 * ones before it wrote, so two that race cannot both win.
 *
 * A change is one batch in the accounts, its audit entry included, and then one in the directory. A crash in between
 * leaves the stricter half: an invite is spent but its member not yet listed (it may join again with the same invite),
 * a removal is recorded but the member still listed (`Members.repair` completes it at the next start). Where the directory
 * cannot be written in between, for want of room, it is as soon as there is some.
 *
 * Once a gateway has been removed the accounts move, before anything else is written to them: what cannot move them, a full
 * disk say, refuses every change until they have moved.
 */
export class StoreWriter {
  readonly directory: Directory
  readonly now: () => number
  readonly #shortage: NonNullable<StoreWriterOptions['shortage']>
  readonly #renew: StoreWriterOptions['renew']
  readonly #onNotRenewed: NonNullable<StoreWriterOptions['onNotRenewed']>
  #accounts: AuthorityAccounts
  readonly #onWrite: NonNullable<StoreWriterOptions['onWrite']>
  #last: Promise<unknown> = Promise.resolve()
  /** Of a change that is in the accounts, what the directory could not be told. */
  #owed: readonly Edit[] = []
  #owedTimer: NodeJS.Timeout | undefined
  #closed = false

  constructor({ accounts, directory, now, shortage, renew, onNotRenewed, onWrite }: StoreWriterOptions) {
    this.#accounts = accounts
    this.#renew = renew
    this.#onNotRenewed = onNotRenewed ?? (() => {})
    this.directory = directory
    this.now = now
    this.#shortage = shortage ?? (() => undefined)
    this.#onWrite = onWrite ?? (() => {})
  }

  /** The accounts as they are now: others after a gateway was removed. */
  get accounts(): AuthorityAccounts {
    return this.#accounts
  }

  /**
   * Makes one change and resolves once it is stored and visible in the maps.
   * @param decide reads the maps, throws where the change may not be, and says what to write
   * @param signal a change whose caller has gone is not begun
   * @throws MeshError SHUTTING_DOWN, DISK_FULL, and what `decide` throws
   */
  async change<T>(decide: (draft: Draft) => T, signal?: AbortSignal): Promise<T> {
    if (this.#closed) {
      throw MeshError.SHUTTING_DOWN('The authority is stopping. Try again shortly', { retryAfterMs: 2000 })
    }
    const result = this.#last.then(() => {
      signal?.throwIfAborted()
      return this.#make(decide)
    })
    this.#last = result.catch(() => {})
    return result
  }

  /** Moves the accounts where an earlier run did not come to it. What keeps them from moving is told, not thrown. */
  async renewWhereDue(): Promise<void> {
    await this.change(() => {})
  }

  /** Finishes the changes under way and takes no more. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#owedTimer)
    await this.#last
  }

  async #make<T>(decide: (draft: Draft) => T): Promise<T> {
    const accounts: Edit[] = []
    const directory: Edit[] = []
    const at = this.now()
    let seq = this.accounts.nextAudit
    const result = decide({
      account: (key, value) => accounts.push({ key, value }),
      directory: (key, value) => directory.push({ key, value }),
      audit: (actor, action, target, detail) => {
        const entry: AuditEntry = { seq, at, actor, action, target, ...(detail && { detail: cutDetail(detail) }) }
        accounts.push({ key: accountKeys.audit(seq), value: entry })
        seq++
      },
    })
    const shortage = accounts.length + directory.length > 0 ? this.#shortage() : undefined
    if (shortage !== undefined) throw shortage
    await this.#writeOwed()
    if (accounts.length + directory.length > 0) await this.#move()
    await this.#write('accounts', accounts)
    this.#owed = directory
    try {
      await this.#writeOwed()
    } catch (err) {
      this.#completeSoon()
      if (!isDiskFull(err)) throw err
      throw MeshError.DISK_FULL(
        'The authority’s disk is full: this is half done, and the rest follows once there is room',
        { retryAfterMs: 10_000 },
        { cause: err },
      )
    }
    // A gateway that this change has removed is in the directory no more: whoever asks from here on is not that.
    await this.#move().catch((err: unknown) => {
      this.#onNotRenewed(err)
      this.#completeSoon()
    })
    return result
  }

  /** @throws MeshError DISK_FULL */
  async #move(): Promise<void> {
    if (this.#accounts.renewals.size === 0) return
    try {
      this.#accounts = await this.#renew(this.#accounts)
    } catch (err) {
      throw storeError(err)
    }
  }

  /** Writes what the directory lacks of a change that is in the accounts: after one that failed, before any other. */
  async #writeOwed(): Promise<void> {
    await this.#write('directory', this.#owed)
    this.#owed = []
  }

  /** Nobody need ask again, or start this worker anew, for the rest of a change. */
  #completeSoon(): void {
    this.#owedTimer ??= setTimeout(() => {
      this.#owedTimer = undefined
      this.#last = this.#last
        .then(() => this.#writeOwed())
        .then(() => this.#move())
        .catch(() => {
          if (!this.#closed) this.#completeSoon()
        })
    }, OWED_RETRY_MS).unref()
  }

  async #write(store: 'accounts' | 'directory', edits: readonly Edit[]): Promise<void> {
    if (edits.length === 0) return
    const started = performance.now()
    const view = this[store]
    await writeBatch(view.bee, edits)
    await view.refresh()
    this.#onWrite(store, (performance.now() - started) / 1000)
  }
}

/** Writes all edits or none. @throws MeshError DISK_FULL */
async function writeBatch(bee: Hyperbee, edits: readonly Edit[]): Promise<void> {
  try {
    await changeBee(bee, async (batch) => {
      for (const { key, value } of edits) {
        if (value === undefined) await batch.del(key)
        else await batch.put(key, encodeJson(value))
      }
    })
  } catch (err) {
    throw storeError(err)
  }
}

/** What went wrong with a store, in our vocabulary. */
export function storeError(err: unknown): MeshError {
  return isDiskFull(err)
    ? MeshError.DISK_FULL('The authority’s disk is full: nothing was changed', { retryAfterMs: 10_000 }, { cause: err })
    : MeshError.from(err)
}
