import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { readRecord, writeFileAtomic } from './files.js'

/**
 * Which cores of its store a gateway's journals are: journals.json. There is one as a rule, and no file. After a restore
 * it begins another, because the authority may have more of the first than is here.
 */

const FILE = 'journals.json'
const FIRST = 'journal'
const NAME = /^journal(-[0-9a-f]{16})?$/
const ADVICE = 'Restore it from a backup: the usage that was not counted yet lies in the journals that it names'

const journalsSchema = z.object({
  /** The core that is written. */
  current: z.string().regex(NAME),
  /** Cores that are not written any more, oldest first, and how long each was when it was restored: all of that is here. */
  earlier: z.array(z.object({ name: z.string().regex(NAME), length: z.int().min(0) })),
})
export type JournalNames = z.infer<typeof journalsSchema>

/** The names of a gateway's journals in its store. @throws MeshError CONFIG_INVALID when the file cannot be read */
export function readJournalNames(workerDir: string): JournalNames {
  return readRecord(join(workerDir, FILE), journalsSchema, ADVICE) ?? { current: FIRST, earlier: [] }
}

/** Makes another journal the one that is written. @param length blocks of the one that was until now */
export function beginJournal(workerDir: string, length: number): JournalNames {
  const { current, earlier } = readJournalNames(workerDir)
  const names = {
    current: `${FIRST}-${randomBytes(8).toString('hex')}`,
    earlier: [...earlier, { name: current, length }],
  }
  writeFileAtomic(join(workerDir, FILE), `${JSON.stringify(names)}\n`, { mode: 0o600 })
  return names
}
