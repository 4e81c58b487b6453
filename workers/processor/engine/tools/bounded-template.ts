import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import type { Rendered, TemplateThreadData } from './template-thread.js'

const THREAD = new URL('./template-thread.js', import.meta.url)
/** A template's thread is ended when its heap grows beyond this. */
const HEAP_MB = 256
/** What a template may write besides twice what it is given: its own words, and those of a model's makers. */
const ADDED_CHARS = 256 * 1024

interface Thread {
  worker: Worker
  port: MessagePort
  done: Int32Array
  /** Resolves once it takes work, or has ended. */
  ready: Promise<void>
}

/**
 * A model file's chat template. It is a program by whoever made the file: it runs in a thread of its own, which is ended
 * where it takes too long or needs too much memory, and what it writes has a bound. The caller waits for it, as for any
 * function.
 */
export class BoundedTemplate {
  readonly #source: string
  #thread: Thread
  #deadline = 0
  #budgetMs = 0
  #exceeded: string | undefined

  /** @param source Jinja */
  constructor(source: string) {
    this.#source = source
    this.#thread = startThread(source)
  }

  /** Resolves once a rendering does not wait for the thread's start. */
  get ready(): Promise<void> {
    return this.#thread.ready
  }

  /** Which bound the last `within` went over, for people; undefined where it went over none. */
  get exceeded(): string | undefined {
    return this.#exceeded
  }

  /** Gives all renderings in `work` so much time together; what comes later fails at once. */
  within<T>(budgetMs: number, work: () => T): T {
    this.#budgetMs = budgetMs
    this.#deadline = performance.now() + budgetMs
    this.#exceeded = undefined
    return work()
  }

  /**
   * To be called in `within`.
   * @param variables plain JSON
   * @throws Error what the template throws, or which bound it went over
   */
  render(variables: Record<string, unknown>): string {
    const left = this.#deadline - performance.now()
    if (left <= 0) throw this.#over(`it takes longer than ${this.#budgetMs} ms`)
    const { port, done } = this.#thread
    Atomics.store(done, 0, 0)
    port.postMessage(JSON.stringify(variables))
    if (Atomics.wait(done, 0, 0, left) === 'timed-out') {
      this.#restart()
      throw this.#over(`it takes longer than ${this.#budgetMs} ms, or more than ${HEAP_MB} MiB of memory`)
    }
    const answer: Rendered = receiveMessageOnPort(port)?.message
    if ('text' in answer) return answer.text
    throw answer.tooLong ? this.#over(answer.error) : new Error(answer.error)
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    await this.#thread.worker.terminate()
  }

  #over(why: string): Error {
    this.#exceeded ??= why
    return new Error(why)
  }

  #restart(): void {
    void this.#thread.worker.terminate()
    this.#thread = startThread(this.#source)
  }
}

function startThread(source: string): Thread {
  const { port1, port2 } = new MessageChannel()
  const done = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
  const workerData: TemplateThreadData = { source, done, port: port2, addedChars: ADDED_CHARS }
  const worker = new Worker(THREAD, {
    workerData,
    transferList: [port2],
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: 4 },
  })
  const ready = new Promise<void>((resolve) => worker.once('message', () => resolve()).once('exit', () => resolve()))
  // From then on it keeps nobody from ending.
  void ready.then(() => worker.unref())
  // Out of memory: whoever waits for it is told when its time is over.
  worker.on('error', () => {})
  return { worker, port: port1, done, ready }
}
