import { randomBytes } from 'node:crypto'
import Hyperbee, { type Entry } from 'hyperbee'
import {
  type AccountsAccess,
  type AccountsKey,
  accountsKeyPath,
  readAccountsKey,
  writeAccountsKey,
} from '../../lib/home/index.js'
import { encodeKey, MeshError, type TokenVerifier } from '../../lib/protocol/index.js'
import { changeBee } from '../../lib/store/index.js'
import type { Store } from '../../lib/worker-base/index.js'
import { AuthorityAccounts, RENEWAL } from './accounts.js'

/** Entries that are copied in one batch. */
const BATCH = 500

export interface AccountsCoreOptions {
  store: Pick<Store, 'own' | 'persist'>
  workerDir: string
  tokens: TokenVerifier
  /** Told of the accounts before they are opened. */
  onOpening: (accounts: AuthorityAccounts) => void
  /** Told once they are the ones that count. */
  onCurrent: (accounts: AuthorityAccounts) => void
}

/**
 * The core that the accounts lie in. A gateway that is removed knows its key and that of its blocks, so the accounts move
 * then: to a new core with new keys, of which the removed one never hears.
 *
 * The file that names the core is written last. A kill before leaves the old accounts, and beside them a core that nothing
 * names; a kill after it leaves the new ones.
 */
export class AccountsCore {
  readonly #options: AccountsCoreOptions
  #key: AccountsKey
  #accounts: AuthorityAccounts | undefined

  /** @param key of the accounts that there are */
  constructor(options: AccountsCoreOptions, key: AccountsKey) {
    this.#options = options
    this.#key = key
  }

  /** What a gateway needs to read the accounts, and how far they go at this moment. Never log it. */
  get access(): Required<AccountsAccess> {
    if (this.#accounts === undefined) throw new Error('the accounts are opened first')
    const { key, length } = this.#accounts.core
    return { accounts: encodeKey(key), accountsEncryptionKey: this.#key.encryptionKey.toString('hex'), length }
  }

  /**
   * @param isKnown whether the mesh has had accounts: then an empty core is not taken for a beginning
   * @throws MeshError STORE_INVALID where the file names a core that is not here, or no longer
   */
  async open(isKnown: boolean): Promise<AuthorityAccounts> {
    const accounts = await this.#open(this.#key)
    const { length, contiguousLength } = accounts.core
    if (contiguousLength < length || (isKnown && length === 0)) {
      await accounts.close()
      throw MeshError.STORE_INVALID(
        `${accountsKeyPath(this.#options.workerDir)} names accounts that are not in this store: they were moved since it was saved, or never were here. Restore the newest copy of it, or the whole home from one backup`,
      )
    }
    this.#accounts = accounts
    this.#options.onCurrent(accounts)
    return accounts
  }

  /** Moves the accounts. When this fails, the old ones are current as before. @throws what the store or the disk says */
  async renew(from: AuthorityAccounts): Promise<AuthorityAccounts> {
    const { store, onCurrent } = this.#options
    const key = newAccountsKey()
    const core = store.own(key.core, key.encryptionKey)
    const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
    let accounts: AuthorityAccounts | undefined
    try {
      await copy(from.bee, bee)
      accounts = await this.#open(key)
      // Else a power cut might leave the file that names the new core, and not what is in it.
      await store.persist()
      this.#name(key)
    } catch (err) {
      await accounts?.close()
      await core.clear(0, core.length).catch(() => {})
      await bee.close()
      throw err
    }
    this.#key = key
    this.#accounts = accounts
    onCurrent(accounts)
    await letGo(from, bee)
    return accounts
  }

  /** Makes a core the one that counts. That the folder could not be synced then does not undo it. */
  #name(key: AccountsKey): void {
    const { workerDir } = this.#options
    try {
      writeAccountsKey(workerDir, key)
    } catch (err) {
      if (readAccountsKey(workerDir)?.core !== key.core) throw err
    }
  }

  async #open({ core, encryptionKey }: AccountsKey): Promise<AuthorityAccounts> {
    const { store, tokens, onOpening } = this.#options
    const accounts = new AuthorityAccounts(store.own(core, encryptionKey))
    accounts.tokens = tokens
    onOpening(accounts)
    await accounts.open()
    return accounts
  }
}

/** Gives back what is used no more. The accounts have moved by now, whatever becomes of this. */
async function letGo(from: AuthorityAccounts, bee: Hyperbee): Promise<void> {
  try {
    await bee.close()
    // Nobody asks for its blocks any more, and they would lie here for ever.
    await from.core.clear(0, from.core.length)
    await from.close()
  } catch {
    // They stay on the disk.
  }
}

/** Keys of accounts that never were: a half-made core is not taken up again. */
function newAccountsKey(): AccountsKey {
  return { core: `accounts-${randomBytes(8).toString('hex')}`, encryptionKey: randomBytes(32) }
}

/** Copies every entry, but not those that ask for the copy. */
async function copy(from: Hyperbee, to: Hyperbee): Promise<void> {
  let entries: Entry[] = []
  const write = () =>
    changeBee(to, async (batch) => {
      for (const { key, value } of entries) await batch.put(key, value)
    })
  for await (const entry of from.createReadStream()) {
    if (entry.key.startsWith(`${RENEWAL}/`)) continue
    entries.push(entry)
    if (entries.length < BATCH) continue
    await write()
    entries = []
  }
  await write()
}
