import { join } from 'node:path'
import { z } from 'zod'
import { readRecord, writeFileAtomic } from '../../lib/home/index.js'
import { keyUseSchema, messageOf } from '../../lib/protocol/index.js'
import type { Logger } from '../../lib/worker-base/index.js'

/** How much a restart of the machine may forget. */
const SAVE_MS = 60_000

/** The last time that an API key with an admin's rights came over HTTP from another machine. */
type Use = z.infer<typeof keyUseSchema>

const fileSchema = z.object({ members: z.record(z.string(), z.number()), keys: z.record(z.string(), keyUseSchema) })

export interface SightingsOptions {
  workerDir: string
  now: () => number
  /** What is kept of whom: what neither names is forgotten. */
  isMember: (publicKey: string) => boolean
  isKey: (id: string) => boolean
  log: Logger
}

/**
 * When members were last linked, and from where admin keys were last used: for `doctor --security`, and for whoever
 * wonders what may be removed. A file, and no store: it is written often and nothing depends on it.
 */
export class Sightings {
  readonly #options: SightingsOptions
  readonly #path: string
  readonly #members: Map<string, number>
  readonly #uses: Map<string, Use>
  #savedAt = Number.NEGATIVE_INFINITY

  constructor(options: SightingsOptions) {
    this.#options = options
    this.#path = join(options.workerDir, 'sightings.json')
    const { members, keys } = this.#read()
    this.#members = new Map(Object.entries(members))
    this.#uses = new Map(Object.entries(keys))
  }

  /** A member is linked now. */
  sawMember(publicKey: string): void {
    this.#members.set(publicKey, this.#options.now())
  }

  /** When a member was last linked, in milliseconds since the epoch; undefined where it never was. */
  memberSeenAt(publicKey: string): number | undefined {
    return this.#members.get(publicKey)
  }

  /** A key was used from another machine. */
  sawKey(id: string, from: Omit<Use, 'at'>): void {
    this.#uses.set(id, { ...from, at: this.#options.now() })
  }

  /** The last use of a key from another machine. */
  lastUse(id: string): Use | undefined {
    return this.#uses.get(id)
  }

  /** Saves what changed, at most once a minute. A disk without room costs this alone. */
  save({ atOnce = false } = {}): void {
    const { now, isMember, isKey, log } = this.#options
    const since = now() - this.#savedAt
    if (!atOnce && since >= 0 && since < SAVE_MS) return
    this.#savedAt = now()
    for (const publicKey of this.#members.keys()) if (!isMember(publicKey)) this.#members.delete(publicKey)
    for (const id of this.#uses.keys()) if (!isKey(id)) this.#uses.delete(id)
    const text = JSON.stringify({ members: Object.fromEntries(this.#members), keys: Object.fromEntries(this.#uses) })
    try {
      writeFileAtomic(this.#path, `${text}\n`, { mode: 0o600, lasting: false })
    } catch (err) {
      log.warn({ reason: messageOf(err) }, 'when members and keys were last seen could not be saved')
    }
  }

  #read(): z.infer<typeof fileSchema> {
    try {
      const read = readRecord(this.#path, fileSchema, 'It is made anew')
      if (read !== undefined) return read
    } catch (err) {
      this.#options.log.warn({ reason: messageOf(err) }, 'when members and keys were last seen is not known any more')
    }
    return { members: {}, keys: {} }
  }
}
