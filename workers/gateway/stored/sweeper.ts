import type { Entry } from './entry.js'
import type { Owner, Shelves } from './shelves.js'

const DAY_MS = 86_400_000

export interface SweeperOptions {
  /** What is older is deleted. */
  days: number
  /** Things of this owner that were made before this time are nobody's any more. In milliseconds since the epoch. */
  keptFrom: (owner: Owner) => number
  now: () => number
  shelves: Shelves<Entry>
  /** What has to be done before anything is swept. */
  ready: () => Promise<void> | undefined
  /** Takes off the disk what stands on no shelf. */
  removeAll: (entries: readonly Entry[]) => Promise<void>
  /** Takes a file off the disk. */
  remove: (name: string) => Promise<void>
}

/** Knows how long things are kept, and deletes what is older. */
export class Sweeper {
  readonly #options: SweeperOptions
  /** Files that hold nothing that can be read, with their times. */
  readonly #unreadable = new Map<string, number>()
  #sweeping: Promise<void> | undefined
  #again = false

  constructor(options: SweeperOptions) {
    this.#options = options
  }

  /** Whether something is too old, or nobody's any more. */
  isOver({ owner, createdAt }: Entry): boolean {
    return createdAt < this.#keptFrom(owner)
  }

  /** A file that holds nothing that can be read goes once it is too old. @param changedAt in milliseconds since the epoch */
  noteUnreadable(name: string, changedAt: number): void {
    this.#unreadable.set(name, changedAt)
  }

  /** Deletes what is over. Looks again where it is asked meanwhile. */
  sweep(): Promise<void> {
    this.#again = true
    this.#sweeping ??= this.#sweep().finally(() => {
      this.#sweeping = undefined
    })
    return this.#sweeping
  }

  /** Waits for what is under way. */
  async settled(): Promise<void> {
    await this.#sweeping
  }

  async #sweep(): Promise<void> {
    const { shelves, ready, removeAll, remove } = this.#options
    await ready()
    while (this.#again) {
      this.#again = false
      const gone: Entry[] = []
      for (const oldest of shelves.owners()) {
        const from = this.#keptFrom(oldest.owner)
        // In the order in which they came, which a clock that was put back is not.
        if (oldest.createdAt >= from) continue
        for (const entry of shelves.of(oldest.owner.keyId)) if (entry.createdAt < from) gone.push(entry)
      }
      for (const { key } of gone) shelves.delete(key)
      await removeAll(gone)
      for (const [name, changedAt] of this.#unreadable) {
        if (changedAt >= this.#oldest()) continue
        this.#unreadable.delete(name)
        await remove(name)
      }
    }
  }

  #keptFrom(owner: Owner): number {
    return Math.max(this.#oldest(), this.#options.keptFrom(owner))
  }

  #oldest(): number {
    return this.#options.now() - this.#options.days * DAY_MS
  }
}
