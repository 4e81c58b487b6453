import { EventEmitter } from 'node:events'
import { type InferenceRequest, MeshError, type TokenBatch } from '../../lib/protocol/index.js'
import type { EmbeddingInput, EngineFinish, EngineInfo, FromEngine, LoadOptions, ToEngine } from './engine/messages.js'
import { ENGINE_MODULE, EngineChild } from './engine-child.js'
import { checkGguf } from './gguf.js'

export type EngineState = 'stopped' | 'loading' | 'loaded' | 'failed'

export interface EngineOptions extends LoadOptions {
  loadTimeoutMs: number
  /** Wait before a crashed engine is started again; doubles with each crash in a row, up to the maximum. */
  restartMinMs: number
  restartMaxMs: number
  onLog?: (level: 'info' | 'warn' | 'error', message: string) => void
  /** The module that runs as the engine process. For benches and fault tests only; no setting leads here. */
  modulePath?: string
  /** Variables for the engine process, on top of this process's own. */
  env?: Record<string, string>
}

/** An engine that has run this long is sound: the next crash counts as the first again. */
const SOUND_MS = 60_000
/** How long a bad grammar's reason may take to arrive from standard error. */
const REASON_MS = 25

interface Job {
  onTokens: (batch: TokenBatch) => void
  settle: (message: Extract<FromEngine, { type: 'finish' | 'embedded' }>) => void
  fail: (err: MeshError) => void
}

interface EngineEvents {
  /** Its state has changed. */
  change: []
  /** How much of the model is loaded, from 0 to 1. */
  progress: [number]
  /** One decode step came back: how many sequences it gave tokens for, and how many tokens. */
  step: [sequences: number, tokens: number]
}

/** One model in one child process. A crash fails what runs within milliseconds and starts the process again. */
export class Engine extends EventEmitter<EngineEvents> {
  readonly #options: EngineOptions
  readonly #jobs = new Map<number, Job>()
  #child: EngineChild | undefined
  #info: EngineInfo | undefined
  #state: EngineState = 'stopped'
  #failure: MeshError | undefined
  #loading: Promise<EngineInfo> | undefined
  #nextId = 1
  #generating = 0
  #crashes = 0
  #loadedAt = 0
  #restart: NodeJS.Timeout | undefined
  #restarting = false
  #loadMs = 0

  constructor(options: EngineOptions) {
    super()
    this.#options = options
  }

  get state(): EngineState {
    return this.#state
  }
  /** What the engine said of its model; undefined until it was loaded once. */
  get info(): EngineInfo | undefined {
    return this.#info
  }
  /** Why it failed. */
  get failure(): MeshError | undefined {
    return this.#failure
  }
  /** True from a crash until the model is loaded again. */
  get restarting(): boolean {
    return this.#restarting
  }
  /** Generations under way. */
  get generating(): number {
    return this.#generating
  }
  /** How long the last load took. */
  get loadMs(): number {
    return this.#loadMs
  }
  get pid(): number | undefined {
    return this.#child?.pid
  }

  /**
   * Starts the process and loads the model; where that is under way or done already, waits for the same.
   * @throws MeshError MODEL_INVALID, ENGINE_FAILED, CONFIG_INVALID, TIMEOUT
   */
  load(): Promise<EngineInfo> {
    clearTimeout(this.#restart)
    this.#loading ??= this.#load().catch((err: unknown) => {
      this.#loading = undefined
      throw err
    })
    return this.#loading
  }

  /**
   * Runs one generation. `onTokens` is called as tokens come.
   * @throws MeshError BUSY when no slot is free or the engine is not loaded, ENGINE_FAILED when the process dies,
   * CANCELLED at once when the signal aborts, and what the engine answers: CONTEXT_LENGTH_EXCEEDED, BAD_REQUEST
   */
  async generate(
    request: InferenceRequest,
    onTokens: (batch: TokenBatch) => void,
    signal?: AbortSignal,
  ): Promise<EngineFinish> {
    this.#generating++
    try {
      const message = await this.#run((id) => ({ type: 'generate', id, request }), onTokens, signal)
      if (message.type !== 'finish') throw MeshError.ENGINE_FAILED('The engine answered a generation with an embedding')
      return message.finish
    } finally {
      this.#generating--
    }
  }

  /** One vector of length 1 for each text or list of token ids. @throws as `generate` */
  async embed(
    input: EmbeddingInput[],
    signal?: AbortSignal,
  ): Promise<{ embeddings: number[][]; promptTokens: number }> {
    const message = await this.#run(
      (id) => ({ type: 'embed', id, input }),
      () => {},
      signal,
    )
    if (message.type !== 'embedded') throw MeshError.ENGINE_FAILED('The engine answered an embedding with a generation')
    return message
  }

  /** Ends the process, and with it gives all its memory back. What runs fails with ENGINE_FAILED. */
  async stop(): Promise<void> {
    clearTimeout(this.#restart)
    const child = this.#child
    this.#child = undefined
    this.#loading = undefined
    this.#restarting = false
    this.#setState('stopped')
    this.#failAll(MeshError.ENGINE_FAILED('The engine was stopped'))
    await child?.end()
  }

  async #load(): Promise<EngineInfo> {
    const began = performance.now()
    this.#setState('loading')
    try {
      if (this.#options.modulePath === undefined) await checkGguf(this.#options.modelPath)
      // Stopped while the file was read: a process started now would be nobody's.
      if (this.state === 'stopped') throw MeshError.ENGINE_FAILED('The engine was stopped')
      this.#info = await this.#startChild()
    } catch (err) {
      const failure = MeshError.from(err, 'ENGINE_FAILED', 'The engine could not be started')
      if (this.#state !== 'stopped') this.#setState('failed', failure)
      throw failure
    }
    this.#loadMs = performance.now() - began
    this.#loadedAt = Date.now()
    this.#restarting = false
    this.#setState('loaded')
    return this.#info
  }

  #startChild(): Promise<EngineInfo> {
    const { modulePath = ENGINE_MODULE, env = {}, loadTimeoutMs } = this.#options
    const { modelPath, gpu, slots, contextLength, threads } = this.#options
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(MeshError.TIMEOUT(`The model was not loaded within ${loadTimeoutMs} ms`))
        void child.end()
      }, loadTimeoutMs)
      const child = new EngineChild(modulePath, env, {
        onMessage: (message) => {
          if (message.type === 'ready')
            child.send({ type: 'load', options: { modelPath, gpu, slots, contextLength, threads } })
          else if (message.type === 'loaded') {
            clearTimeout(timer)
            resolve(message.info)
          } else if (message.type === 'failed') {
            clearTimeout(timer)
            reject(MeshError.fromJSON(message.error))
          } else this.#onMessage(message, child)
        },
        onExit: (how, signal) => {
          clearTimeout(timer)
          reject(loadCrash(how, signal))
          this.#onExit(child, how)
        },
      })
      this.#child = child
    })
  }

  #onMessage(message: FromEngine, child: EngineChild): void {
    switch (message.type) {
      case 'progress':
        this.emit('progress', message.fraction)
        return
      case 'log':
        child.note(message.message)
        // What llama.cpp says of a grammar quotes it, and a grammar is the user's text.
        if (!message.message.includes('grammar')) this.#options.onLog?.(message.level, message.message)
        return
      case 'tokens': {
        const count = message.batches.reduce((sum, { batch }) => sum + batch.ids.length, 0)
        if (count > 0) this.emit('step', message.batches.length, count)
        for (const { id, batch } of message.batches) this.#jobs.get(id)?.onTokens(batch)
        return
      }
      case 'finish':
      case 'embedded':
        this.#take(message.id)?.settle(message)
        return
      case 'error': {
        const job = this.#take(message.id)
        if (job) failWithReason(job, MeshError.fromJSON(message.error), child)
      }
    }
  }

  #onExit(child: EngineChild, how: string): void {
    if (this.#child !== child) return
    this.#child = undefined
    this.#failAll(MeshError.ENGINE_FAILED(`The engine process ${how} while it generated; it is started again`))
    // While it loads, whoever waits for the load is told, and decides.
    if (this.#state !== 'loaded') return
    this.#options.onLog?.('error', `the engine process ${how}${child.lastWords()}`)
    this.#crashes = Date.now() - this.#loadedAt > SOUND_MS ? 0 : this.#crashes
    this.#loading = undefined
    this.#startAgain()
  }

  #startAgain(failure?: MeshError): void {
    const { restartMinMs, restartMaxMs, onLog } = this.#options
    const waitMs = Math.min(restartMaxMs, restartMinMs * 2 ** this.#crashes++)
    this.#restarting = true
    this.#setState(failure ? 'failed' : 'loading', failure)
    this.#restart = setTimeout(() => {
      this.load().catch((err: unknown) => {
        const reason = MeshError.from(err)
        onLog?.('error', `the engine could not be started again: ${reason.message}`)
        if (this.#state !== 'stopped') this.#startAgain(reason)
      })
    }, waitMs)
  }

  async #run(
    message: (id: number) => ToEngine,
    onTokens: Job['onTokens'],
    signal: AbortSignal | undefined,
  ): Promise<Extract<FromEngine, { type: 'finish' | 'embedded' }>> {
    if (signal?.aborted) throw MeshError.CANCELLED('The request was cancelled')
    const child = this.#child
    if (this.#state !== 'loaded' || child === undefined) {
      throw MeshError.BUSY('The engine is not loaded now', { retryAfterMs: 500 })
    }
    const id = this.#nextId++
    let onAbort: () => void = () => {}
    try {
      return await new Promise((resolve, reject) => {
        this.#jobs.set(id, { onTokens, settle: resolve, fail: reject })
        onAbort = () => {
          child.send({ type: 'cancel', id })
          this.#take(id)?.fail(MeshError.CANCELLED('The request was cancelled'))
        }
        signal?.addEventListener('abort', onAbort, { once: true })
        child.send(message(id))
      })
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  #take(id: number): Job | undefined {
    const job = this.#jobs.get(id)
    this.#jobs.delete(id)
    return job
  }

  #failAll(err: MeshError): void {
    const jobs = [...this.#jobs.values()]
    this.#jobs.clear()
    for (const job of jobs) job.fail(err)
  }

  #setState(state: EngineState, failure?: MeshError): void {
    this.#state = state
    this.#failure = failure
    this.emit('change')
  }
}

/** A process that dies of the file is the file's fault; one that is killed most likely ran out of memory. */
function loadCrash(how: string, signal: NodeJS.Signals | null): MeshError {
  if (signal === 'SIGABRT' || signal === 'SIGSEGV' || signal === 'SIGBUS' || signal === 'SIGFPE') {
    return MeshError.MODEL_INVALID(`llama.cpp crashes when it loads this file (the engine process ${how})`)
  }
  const hint = signal === 'SIGKILL' ? '; the machine may be out of memory' : ''
  return MeshError.ENGINE_FAILED(`The engine process ${how} while it loaded the model${hint}`)
}

/** llama.cpp tells why a grammar does not compile on standard error or in its log, which may arrive after the answer. */
function failWithReason(job: Job, err: MeshError, child: EngineChild): void {
  if (err.details.param !== 'format.grammar' || !err.message.endsWith('does not compile')) {
    job.fail(err)
    return
  }
  setTimeout(() => {
    const reason = child.grammarComplaint()
    job.fail(reason ? MeshError.BAD_REQUEST(`${err.message}: ${reason}`, err.details) : err)
  }, REASON_MS)
}
