import { setTimeout as sleep } from 'node:timers/promises'
import { decodeKey, encodeKey, MeshError } from '../../lib/protocol/index.js'
import type { Logger, Store } from '../../lib/worker-base/index.js'
import { authorityAccountKeys } from './accounts.js'
import { JournalReader } from './journal-reader.js'
import type { UsageLedger } from './ledger.js'
import type { StoreWriter } from './store-writer.js'

export interface JournalsOptions {
  writer: StoreWriter
  store: Store
  ledger: UsageLedger
  log: Logger
  /** Core keys that are no journals: the authority's own. */
  own: readonly string[]
  onFolded: (counts: { folded: number; malformed: number }) => void
}

/** The journals of all gateways that ever were in the mesh: what a removed one wrote before still counts. */
export class Journals {
  readonly #options: JournalsOptions
  readonly #open = new Map<string, JournalReader>()

  constructor(options: JournalsOptions) {
    this.#options = options
  }

  /** Entries of all journals that are not folded yet, as far as is known. */
  get lag(): number {
    return [...this.#open.values()].reduce((sum, { lag }) => sum + lag, 0)
  }

  get readers(): JournalReader[] {
    return [...this.#open.values()]
  }

  /** Goes on where the last run ended. */
  async open(): Promise<void> {
    for (const key of this.#options.writer.accounts.journals.keys()) await this.#follow(key)
  }

  /**
   * Remembers a gateway's journal and follows it.
   * @throws MeshError BAD_REQUEST for what is no core key, CONFLICT for a core that is not this gateway's journal
   */
  async enlist(gateway: string, journal: string, signal?: AbortSignal): Promise<void> {
    const { writer, own } = this.#options
    const key = encodeKey(decodeKey(journal, 'journal key'))
    await writer.change((draft) => {
      const known = writer.accounts.journals.get(key)
      if (own.includes(key) || (known !== undefined && known.gateway !== gateway)) {
        throw MeshError.CONFLICT(`The core ${key} is not this gateway's journal: each gateway writes one of its own`)
      }
      if (known !== undefined) return
      const member = writer.directory.members.get(gateway)
      draft.account(authorityAccountKeys.journal(key), { gateway, at: writer.now() })
      draft.audit(member ? `${member.role}/${member.name}` : gateway, 'gateway.enlist', key)
    }, signal)
    await this.#follow(key)
  }

  /** Folds what the connected gateways have written up to now, for at most `timeoutMs`. */
  async catchUp(timeoutMs: number): Promise<void> {
    const behind = [...this.#open.values()].filter(({ lag }) => lag > 0)
    if (behind.length === 0) return
    await Promise.race([
      Promise.all(behind.map((journal) => journal.fold())),
      sleep(timeoutMs, undefined, { ref: false }),
    ])
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map((journal) => journal.close()))
  }

  async #follow(key: string): Promise<void> {
    if (this.#open.has(key)) return
    const { store, ledger, log, onFolded } = this.#options
    const journal = new JournalReader({
      core: store.journal(decodeKey(key)),
      key,
      ledger,
      onFolded,
      onError: (err) => log.error({ err, journal: key }, 'a journal cannot be folded now'),
    })
    this.#open.set(key, journal)
    await journal.open()
  }
}
