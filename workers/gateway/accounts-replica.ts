import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../../lib/home/index.js'
import type { Link } from '../../lib/link/index.js'
import { decodeKey, encodeKey, MeshError, parseJson, type TokenVerifier, validate } from '../../lib/protocol/index.js'
import { Accounts, type BeeView, type Principal } from '../../lib/store/index.js'
import type { Store } from '../../lib/worker-base/index.js'

const credentialsSchema = z.object({ accounts: z.string(), accountsEncryptionKey: z.string() })
type Credentials = z.infer<typeof credentialsSchema>

/**
 * This gateway's replica of the accounts, from which keys are checked without a round trip. How to read it is asked of
 * the authority once and kept (mode 0600), so that the gateway can start while the authority is down.
 */
export class AccountsReplica {
  readonly #store: Store
  readonly #file: string
  readonly #journal: string
  readonly #tokens: TokenVerifier
  readonly #watch: (accounts: BeeView) => void
  #accounts: Accounts | undefined
  #opened: Credentials | undefined
  #complete = false

  /** @param journal core key of this gateway's journal, which the authority reads; @param watch told once they are there */
  constructor(
    store: Store,
    workerDir: string,
    journal: Uint8Array,
    tokens: TokenVerifier,
    watch: (accounts: BeeView) => void,
  ) {
    this.#store = store
    this.#file = join(workerDir, 'accounts.json')
    this.#journal = encodeKey(journal)
    this.#tokens = tokens
    this.#watch = watch
  }

  /** Opens the replica with what an earlier run was told. */
  async open(): Promise<void> {
    if (!existsSync(this.#file)) return
    const text = readFileSync(this.#file)
    await this.#follow(validate(credentialsSchema, parseJson(text, this.#file), this.#file, 'STORE_INVALID'))
  }

  /** Tells the authority where the journal is, and learns how to read the accounts. @throws MeshError */
  async enlist(authority: Link): Promise<void> {
    const { accounts, accountsEncryptionKey } = await authority.call('gateway.enlist', { journal: this.#journal })
    const credentials = { accounts, accountsEncryptionKey }
    writeFileAtomic(this.#file, JSON.stringify(credentials), { mode: 0o600 })
    await this.#follow(credentials)
  }

  /** True once the whole of the accounts has been read: before that, a good key might look like an unknown one. */
  get ready(): boolean {
    this.#complete ||= this.#accounts?.caughtUp ?? false
    return this.#complete
  }

  /** @throws MeshError INVALID_API_KEY, or AUTHORITY_DOWN while nothing has been replicated yet */
  authenticate(key: string): Principal {
    if (this.#accounts === undefined || !this.ready) {
      throw MeshError.AUTHORITY_DOWN(
        'This gateway has not read the accounts yet, and cannot check keys. Try again shortly',
        { retryAfterMs: 1000 },
      )
    }
    return this.#accounts.authenticate(key)
  }

  async close(): Promise<void> {
    await this.#accounts?.close()
  }

  async #follow(credentials: Credentials): Promise<void> {
    if (this.#opened?.accounts === credentials.accounts) return
    this.#opened = credentials
    const core = this.#store.replica(
      decodeKey(credentials.accounts),
      Buffer.from(credentials.accountsEncryptionKey, 'hex'),
    )
    await core.ready()
    const accounts = new Accounts(core)
    accounts.tokens = this.#tokens
    this.#watch(accounts)
    await accounts.open()
    this.#accounts = accounts
  }
}
