import { EventEmitter } from 'node:events'
import { type InferenceRequest, MeshError, type TokenBatch } from '../../lib/protocol/index.js'
import type { EmbeddingInput, EngineFinish, EngineInfo, LoadOptions } from './engine/index.js'
import { EngineProcess } from './engine-process.js'
import { checkGguf } from './gguf.js'
import { type FileStamp, mustBeSame } from './model-file.js'

export type EngineState = 'stopped' | 'loading' | 'loaded' | 'failed'

export interface EngineOptions extends LoadOptions {
  loadTimeoutMs: number
  /** Wait before a crashed engine is started again; doubles with each crash in a row, up to the maximum. */
  restartMinMs: number
  restartMaxMs: number
  onLog?: (level: 'info' | 'warn' | 'error', message: string) => void
  /** How the file was when it was hashed; undefined where it was not. */
  known?: () => FileStamp | undefined
  /** The module that runs as the engine process. For benches and fault tests only; no setting leads here. */
  modulePath?: string
  /** Variables for the engine process, on top of this process's own. */
  env?: Record<string, string>
}

/** An engine that has run this long is sound: the next crash counts as the first again. */
const SOUND_MS = 60_000

interface EngineEvents {
  /** Its state has changed. */
  change: []
  /** One decode step came back: how many sequences it gave tokens for, and how many tokens. */
  step: [sequences: number, tokens: number]
}

/**
 * The engine of one model: one engine process at a time, started again when it crashes. What ran then fails within
 * milliseconds.
 */
export class Engine extends EventEmitter<EngineEvents> {
  readonly #options: EngineOptions
  #process: EngineProcess | undefined
  #info: EngineInfo | undefined
  #state: EngineState = 'stopped'
  #failure: MeshError | undefined
  #loading: Promise<EngineInfo> | undefined
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
    return this.#process?.pid
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
      const outcome = await this.#ready(signal).run({ type: 'generate', request }, onTokens, signal)
      if (outcome.type !== 'finish') throw MeshError.ENGINE_FAILED('The engine answered a generation with an embedding')
      return outcome.finish
    } finally {
      this.#generating--
    }
  }

  /** One vector of length 1 for each text or list of token ids. @throws as `generate` */
  async embed(
    input: EmbeddingInput[],
    signal?: AbortSignal,
  ): Promise<{ embeddings: number[][]; promptTokens: number }> {
    const outcome = await this.#ready(signal).run({ type: 'embed', input }, () => {}, signal)
    if (outcome.type !== 'embedded') throw MeshError.ENGINE_FAILED('The engine answered an embedding with a generation')
    return outcome
  }

  /** Ends the process, and with it gives all its memory back. What runs fails with ENGINE_FAILED. */
  async stop(): Promise<void> {
    clearTimeout(this.#restart)
    const running = this.#process
    this.#process = undefined
    this.#loading = undefined
    this.#restarting = false
    this.#setState('stopped')
    await running?.end(MeshError.ENGINE_FAILED('The engine was stopped'))
  }

  async #load(): Promise<EngineInfo> {
    const began = performance.now()
    this.#setState('loading')
    try {
      const before = await this.#checkFile()
      // Stopped while the file was read: a process started now would be nobody's.
      if (this.state === 'stopped') throw MeshError.ENGINE_FAILED('The engine was stopped')
      this.#info = await this.#startProcess()
      await this.#checkFile(before)
    } catch (err) {
      const failure = MeshError.from(err, 'ENGINE_FAILED', 'The engine could not be started')
      // One that has loaded something else than what was checked.
      void this.#process?.end(failure)
      this.#process = undefined
      if (this.#state !== 'stopped') this.#setState('failed', failure)
      throw failure
    }
    this.#loadMs = performance.now() - began
    this.#loadedAt = performance.now()
    this.#restarting = false
    this.#setState('loaded')
    return this.#info
  }

  /** What is loaded is what was checked, and what was hashed. @throws MeshError MODEL_INVALID */
  async #checkFile(before = this.#options.known?.()): Promise<FileStamp | undefined> {
    const { modulePath, modelPath } = this.#options
    if (modulePath !== undefined) return undefined
    const now = await checkGguf(modelPath)
    if (before !== undefined) mustBeSame(modelPath, before, now)
    return now
  }

  #startProcess(): Promise<EngineInfo> {
    const { modulePath, env, loadTimeoutMs, modelPath, gpu, slots, contextLength, threads } = this.#options
    const started: EngineProcess = new EngineProcess(
      {
        onLog: (level, message) => this.#options.onLog?.(level, message),
        onStep: (sequences, tokens) => this.emit('step', sequences, tokens),
        onExit: (why) => this.#onExit(started, why),
      },
      modulePath,
      env,
    )
    this.#process = started
    return started.load({ modelPath, gpu, slots, contextLength, threads }, loadTimeoutMs)
  }

  #onExit(ended: EngineProcess, why: string): void {
    if (this.#process !== ended) return
    this.#process = undefined
    // While it loads, whoever waits for the load is told, and decides.
    if (this.#state !== 'loaded') return
    this.#options.onLog?.('error', `the engine process ${why}`)
    this.#crashes = performance.now() - this.#loadedAt > SOUND_MS ? 0 : this.#crashes
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

  /** The process that takes jobs now. @throws MeshError BUSY, CANCELLED */
  #ready(signal: AbortSignal | undefined): EngineProcess {
    if (signal?.aborted) throw MeshError.CANCELLED('The request was cancelled')
    if (this.#state !== 'loaded' || this.#process === undefined) {
      throw MeshError.BUSY('The engine is not loaded now', { retryAfterMs: 500 })
    }
    return this.#process
  }

  #setState(state: EngineState, failure?: MeshError): void {
    this.#state = state
    this.#failure = failure
    this.emit('change')
  }
}
