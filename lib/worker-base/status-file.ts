import { removeStatus, type WorkerName, writeStatus } from '../home/index.js'
import type { WorkerStatus } from '../protocol/index.js'

/** How often it is looked whether the file still says how the worker stands. */
const REFRESH_MS = 1000

/**
 * What a worker says of itself in the home's status folder, from the first time that it is written on. Where it cannot be
 * written it is written later.
 */
export class StatusFile {
  readonly #home: string
  readonly #status: () => WorkerStatus
  /** Told why it cannot be written, once for each time that it is asked for. */
  readonly #onFailure: (err: unknown) => void
  #timer: NodeJS.Timeout | undefined
  #isOwn = false
  /** What of it was written last. */
  #written = ''

  constructor(home: string, status: () => WorkerStatus, onFailure: (err: unknown) => void) {
    this.#home = home
    this.#status = status
    this.#onFailure = onFailure
  }

  /** Writes what the worker says of itself now. Never throws. */
  write(): void {
    this.#isOwn = true
    this.#timer ??= setInterval(() => this.refresh(), REFRESH_MS).unref()
    this.#write((err) => this.#onFailure(err))
  }

  /** Writes it where it has changed, but for how busy the worker is, which changes all the time. Never throws. */
  refresh(): void {
    if (this.#isOwn && lastingOf(this.#status()) !== this.#written) this.#write(() => {})
  }

  /** Takes the file away. Only its own: where the store was locked, it is the other process's. Never throws. */
  remove(worker: WorkerName): void {
    clearInterval(this.#timer)
    if (!this.#isOwn) return
    this.#isOwn = false
    try {
      removeStatus(this.#home, worker)
    } catch (err) {
      this.#onFailure(err)
    }
  }

  #write(onFailure: (err: unknown) => void): void {
    try {
      const status = this.#status()
      writeStatus(this.#home, status)
      this.#written = lastingOf(status)
    } catch (err) {
      this.#written = ''
      onFailure(err)
    }
  }
}

function lastingOf({ addresses, links, listed, load: { state, models, gpu, unreadable } }: WorkerStatus): string {
  const kept = models.map(({ name, state, slots, reason }) => ({ name, state, slots, reason }))
  return JSON.stringify({ addresses, links, listed, state, models: kept, gpu, unreadable })
}
