import { Worker } from 'node:worker_threads'
import { type ErrorBody, MeshError } from '../../../lib/errors/index.js'
import type { Program } from './grammar/index.js'

/** What the thread answers. */
export type Compiled = { program: Program } | { error: ErrorBody }

interface Job {
  readonly signal: AbortSignal
  readonly onAbort: () => void
  readonly source: string
  readonly param: string
  resolve(program: Program): void
  reject(err: MeshError): void
}

const THREAD = new URL('./compile-thread.js', import.meta.url)
/** The limits let nothing through that takes as long, on a machine that has any time to spare. */
const DEADLINE_MS = 4000
const MOST_MEMORY_MB = 256

/** Compiles grammars in a thread of its own, which is ended where one takes too long, and started when it is needed. */
export class Compiler {
  readonly #thread: URL
  readonly #deadlineMs: number
  readonly #waiting: Job[] = []
  #worker: Worker | undefined
  #running: { job: Job; timer: NodeJS.Timeout } | undefined

  /** @param thread the module that runs as the thread; other than its own for tests */
  constructor(deadlineMs = DEADLINE_MS, thread = THREAD) {
    this.#deadlineMs = deadlineMs
    this.#thread = thread
  }

  /**
   * @param source a GrammarSource as JSON
   * @param param what in the request it comes from
   * @throws MeshError BAD_REQUEST as `compile`, and where it takes too long or too much memory; CANCELLED at once when
   * the signal aborts
   */
  compile(source: string, param: string, signal: AbortSignal): Promise<Program> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(cancelled())
      const job: Job = { source, param, signal, resolve, reject, onAbort: () => this.#cancel(job) }
      signal.addEventListener('abort', job.onAbort, { once: true })
      this.#waiting.push(job)
      this.#next()
    })
  }

  #next(): void {
    if (this.#running) return
    const job = this.#waiting.shift()
    if (job === undefined) return
    this.#worker ??= this.#start()
    const timer = setTimeout(() => this.#tooMuch(`takes more than ${this.#deadlineMs} ms to compile`), this.#deadlineMs)
    this.#running = { job, timer }
    this.#worker.ref()
    this.#worker.postMessage(job.source)
  }

  #start(): Worker {
    const worker = new Worker(this.#thread, {
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: MOST_MEMORY_MB },
    })
    worker.on('message', (compiled: Compiled) => {
      if (this.#worker !== worker) return
      if ('program' in compiled) this.#end()?.resolve(compiled.program)
      else this.#end()?.reject(MeshError.fromJSON(compiled.error))
      this.#next()
    })
    worker.on('error', () => {
      if (this.#worker === worker) this.#tooMuch(`takes more than ${MOST_MEMORY_MB} MB to compile`)
    })
    return worker
  }

  #cancel(job: Job): void {
    const place = this.#waiting.indexOf(job)
    if (place >= 0) {
      this.#waiting.splice(place, 1)
      job.reject(cancelled())
    } else if (this.#running?.job === job) this.#fail(cancelled())
  }

  #tooMuch(what: string): void {
    const param = this.#running?.job.param ?? 'format'
    this.#fail(MeshError.BAD_REQUEST(`${param} is too complex: it ${what}`, { param }))
  }

  /** Ends the thread, and with it the job that runs. */
  #fail(reason: MeshError): void {
    const worker = this.#worker
    this.#worker = undefined
    void worker?.terminate()
    this.#end()?.reject(reason)
    this.#next()
  }

  #end(): Job | undefined {
    const running = this.#running
    this.#running = undefined
    clearTimeout(running?.timer)
    running?.job.signal.removeEventListener('abort', running.job.onAbort)
    // A thread that has nothing to do keeps no process alive.
    this.#worker?.unref()
    return running?.job
  }
}

function cancelled(): MeshError {
  return MeshError.CANCELLED('The request was cancelled')
}
