import { randomBytes } from 'node:crypto'
import { addUsage, MeshError, NO_USAGE, type UsageCheck } from '../../lib/protocol/index.js'
import type { Logger } from '../../lib/worker-base/index.js'
import type { Actor } from './actor.js'
import type { Journals } from './journals.js'
import type { UsageLedger } from './ledger.js'
import type { StoreWriter } from './store-writer.js'
import { checkUsage, type UsageCheckOptions } from './usage-check.js'

/** Differences that an answer names. The sums count all. */
const NAMED = 100

/** Checks of the totals, one at a time. They outlive the call that begins them, and are asked after by their id. */
export class UsageChecks {
  readonly #parts: { ledger: UsageLedger; journals: Journals; writer: StoreWriter; log: Logger }
  #last: UsageCheck | undefined

  constructor(parts: { ledger: UsageLedger; journals: Journals; writer: StoreWriter; log: Logger }) {
    this.#parts = parts
  }

  /** @throws MeshError NOT_FOUND for one that another has followed, or that a restart ended */
  get(id: string): UsageCheck {
    if (this.#last?.id === id) return this.#last
    throw MeshError.NOT_FOUND(`No check of the usage has the id ${id.slice(0, 64)} now: begin a new one`, {
      param: 'id',
    })
  }

  /**
   * Begins one. @param dryRun changes nothing
   * @throws MeshError CONFLICT while one runs
   */
  begin(by: Actor, dryRun: boolean): UsageCheck {
    if (this.#last?.state === 'running') {
      throw MeshError.CONFLICT('The usage is being checked already: one check runs at a time', { id: this.#last.id })
    }
    const { ledger, journals, log } = this.#parts
    const readers = journals.readers
    const check: UsageCheck = {
      id: randomBytes(8).toString('hex'),
      state: 'running',
      dryRun,
      entries: 0,
      ofEntries: readers.reduce((sum, { folded }) => sum + folded, 0),
      different: 0,
      differences: [],
      stored: NO_USAGE,
      correct: NO_USAGE,
    }
    this.#last = check
    const options: UsageCheckOptions = {
      ledger,
      journals: readers,
      mend: !dryRun,
      onProgress: (entries) => {
        check.entries += entries
      },
      onDifference: (difference) => {
        check.different++
        if (check.differences.length < NAMED) check.differences.push(difference)
        check.stored = addUsage(check.stored, difference.stored)
        check.correct = addUsage(check.correct, difference.correct)
      },
    }
    journals
      .holding(() => checkUsage(options))
      .then(async (result) => {
        await this.#record(by, check)
        check.result = result
        check.state = 'done'
      })
      .catch((err: unknown) => {
        log.error({ err }, 'the usage could not be checked')
        const { code, message } = MeshError.from(err)
        check.state = 'failed'
        check.failure = { code, message }
      })
    return check
  }

  /** What was found and done is in the audit trail before it is told. */
  #record(by: Actor, { dryRun, different, stored, correct }: UsageCheck): Promise<void> {
    return this.#parts.writer.change((draft) => {
      draft.audit(by.user, 'usage.verify', 'usage', { dryRun, different, stored, correct })
    })
  }
}
