import { setTimeout as sleep } from 'node:timers/promises'
import type Hypercore from 'hypercore'
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
  own: () => readonly string[]
  /** Replicates a journal with the gateway that writes it. */
  share: (core: Hypercore, gateway: string) => void
  /** How long entries are kept once they are folded. */
  retentionMs: number
  onFolded: (counts: { folded: number; malformed: number }) => void
}

/** How often old entries are looked for. What must outlast readers of the usage is kept for as long, too. */
const TIDY_MS = 10 * 60_000

/** The journals of all gateways that ever were in the mesh: what a removed one wrote before still counts. */
export class Journals {
  readonly #options: JournalsOptions
  readonly #open = new Map<string, JournalReader>()
  #tidyTimer: NodeJS.Timeout | undefined
  #tidying: Promise<void> | undefined
  /** How many read what must stay meanwhile. */
  #holds = 0

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
    for (const [key, { gateway }] of this.#options.writer.accounts.journals) await this.#follow(key, gateway)
    this.#tidyTimer = setInterval(() => void this.tidy(), TIDY_MS).unref()
  }

  /** How far a gateway's journal is folded. @throws MeshError NOT_FOUND for one that is not the gateway's */
  async folded(gateway: string, journal: string): Promise<number> {
    if (this.#options.writer.accounts.journals.get(journal)?.gateway !== gateway) {
      throw MeshError.NOT_FOUND(`${journal} is no journal of this gateway: it enlists first`)
    }
    return (await this.#options.ledger.cursor(journal)).next
  }

  /** Lets nothing be given back while something is read. */
  async holding<T>(work: () => Promise<T>): Promise<T> {
    this.#holds++
    try {
      await this.#tidying
      return await work()
    } finally {
      this.#holds--
    }
  }

  /** Gives back the room of what is old or was replaced. Never throws. */
  tidy(now = this.#options.writer.now()): Promise<void> {
    const { ledger, retentionMs, log } = this.#options
    const isIdle = () => this.#holds === 0
    const tidy = async (): Promise<void> => {
      for (const journal of this.#open.values()) if (isIdle()) await journal.release(now, now - retentionMs)
      await ledger.compact(isIdle)
    }
    this.#tidying ??= tidy()
      .catch((err: unknown) => log.error({ err }, 'old usage records could not be deleted'))
      .finally(() => {
        this.#tidying = undefined
      })
    return this.#tidying
  }

  /**
   * Remembers a gateway's journal and follows it.
   * @throws MeshError BAD_REQUEST for what is no core key, CONFLICT for a core that is not this gateway's journal,
   * NOT_A_MEMBER for a gateway that was removed since it asked
   */
  async enlist(gateway: string, journal: string, signal?: AbortSignal): Promise<void> {
    const { writer, own } = this.#options
    const key = encodeKey(decodeKey(journal, 'journal key'))
    await writer.change((draft) => {
      const known = writer.accounts.journals.get(key)
      const member = writer.directory.member(gateway)
      if (member?.role !== 'gateway') throw MeshError.NOT_A_MEMBER(`${gateway} is no gateway of this mesh`)
      if (own().includes(key) || (known !== undefined && known.gateway !== gateway)) {
        throw MeshError.CONFLICT(`The core ${key} is not this gateway's journal: each gateway writes one of its own`)
      }
      if (known !== undefined) return
      draft.account(authorityAccountKeys.journal(key), { gateway, at: writer.now() })
      draft.audit(`${member.role}/${member.name}`, 'gateway.enlist', key)
    }, signal)
    await this.#follow(key, gateway)
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
    clearInterval(this.#tidyTimer)
    this.#holds++
    await this.#tidying
    await Promise.all([...this.#open.values()].map((journal) => journal.close()))
  }

  async #follow(key: string, gateway: string): Promise<void> {
    if (this.#open.has(key)) return
    const { store, share, ledger, log, onFolded } = this.#options
    const core = store.journal(decodeKey(key))
    const journal = new JournalReader({
      core,
      key,
      ledger,
      onFolded,
      onError: (err) => log.error({ err, journal: key }, 'a journal cannot be folded now'),
    })
    this.#open.set(key, journal)
    await journal.open()
    share(core, gateway)
  }
}
