import { Worker } from 'node:worker_threads'
import { type ErrorBody, MeshError } from '../../../lib/protocol/index.js'

/** Two, so that what one user sends never makes all others wait. */
const MOST_THREADS = 2
/** A thread with nothing to do ends after this long, and gives its memory back. */
const IDLE_MS = 30_000
/** What takes longer was made to: the largest body takes a tenth of a second. */
const DEADLINE_MS = 10_000
/** Past it the thread ends, and the gateway goes on. */
const MAX_HEAP_MIB = 512

/** What a thread is asked. */
export interface ThreadJob {
  kind: string
  bytes: Uint8Array
}
/** What it answers. */
export type ThreadAnswer<T> = { value: T } | { error: ErrorBody }

interface Job extends ThreadJob {
  user: string
  settle: (answer: ThreadAnswer<never>) => void
}

interface Thread {
  worker: Worker
  job: Job | undefined
  timer: NodeJS.Timeout
}

/**
 * Threads that do what would hold the loop. They start when there is work and end when there is none. Of each user they
 * do one job at a time, the oldest; what may wait is bounded by the room that bodies have.
 */
export class ThreadPool {
  readonly #script: URL
  readonly #deadlineMs: number
  readonly #waiting: Job[] = []
  readonly #threads = new Set<Thread>()
  #closed = false

  /** @param script answers each ThreadJob with one ThreadAnswer */
  constructor(script: URL, deadlineMs = DEADLINE_MS) {
    this.#script = script
    this.#deadlineMs = deadlineMs
  }

  /** @throws MeshError what the thread answered, TIMEOUT where it took too long, BAD_REQUEST where it ran out of memory */
  run<T>(user: string, kind: string, bytes: Uint8Array): Promise<T> {
    if (this.#closed) throw MeshError.SHUTTING_DOWN('This gateway is stopping; use another one', { retryAfterMs: 1000 })
    return new Promise<T>((resolve, reject) => {
      const settle = (answer: ThreadAnswer<T>): void => {
        if ('value' in answer) resolve(answer.value)
        else reject(MeshError.fromJSON(answer.error))
      }
      this.#waiting.push({ user, kind, bytes, settle })
      this.#dispatch()
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()))
  }

  #dispatch(): void {
    const busy = [...this.#threads].flatMap(({ job }) => job?.user ?? [])
    for (let at = this.#next(busy); at !== -1; at = this.#next(busy)) {
      const thread = this.#free()
      if (thread === undefined) return
      for (const job of this.#waiting.splice(at, 1)) {
        busy.push(job.user)
        thread.job = job
        clearTimeout(thread.timer)
        thread.timer = setTimeout(() => {
          this.#over(thread, MeshError.TIMEOUT(`Reading the body took more than ${this.#deadlineMs} ms`))
          void thread.worker.terminate()
        }, this.#deadlineMs)
        thread.worker.postMessage({ kind: job.kind, bytes: job.bytes } satisfies ThreadJob)
      }
    }
  }

  #next(busy: readonly string[]): number {
    return this.#waiting.findIndex(({ user }) => !busy.includes(user))
  }

  #free(): Thread | undefined {
    for (const thread of this.#threads) if (thread.job === undefined) return thread
    return this.#threads.size < MOST_THREADS ? this.#start() : undefined
  }

  #start(): Thread {
    const worker = new Worker(this.#script, { resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB } })
    // A gateway that is done does not wait for its threads.
    worker.unref()
    const thread: Thread = { worker, job: undefined, timer: setTimeout(() => {}, 0) }
    this.#threads.add(thread)
    worker.on('message', (answer) => {
      const { job } = thread
      thread.job = undefined
      clearTimeout(thread.timer)
      thread.timer = setTimeout(() => {
        // Before it has ended: nobody gives it work any more.
        this.#threads.delete(thread)
        void worker.terminate()
      }, IDLE_MS)
      thread.timer.unref()
      job?.settle(answer)
      this.#dispatch()
    })
    worker.on('error', (err: NodeJS.ErrnoException) => {
      const tooMuch = err.code === 'ERR_WORKER_OUT_OF_MEMORY'
      this.#over(
        thread,
        tooMuch ? MeshError.BAD_REQUEST('Reading the body takes more memory than a body may') : MeshError.from(err),
      )
    })
    worker.on('exit', () => this.#over(thread, MeshError.SHUTTING_DOWN('This gateway is stopping; use another one')))
    return thread
  }

  /** A thread is gone, or as good as gone. */
  #over(thread: Thread, reason: MeshError): void {
    clearTimeout(thread.timer)
    this.#threads.delete(thread)
    thread.job?.settle({ error: reason.toJSON() })
    thread.job = undefined
    if (!this.#closed) return this.#dispatch()
    for (const { settle } of this.#waiting.splice(0)) settle({ error: reason.toJSON() })
  }
}
