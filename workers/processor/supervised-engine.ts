import { EventEmitter } from 'node:events'
import {
  type ErrorCode,
  type InferenceRequest,
  MeshError,
  type TokensRequest,
  type TokensResult,
} from '../../lib/protocol/index.js'
import type { EmbeddingInput, EngineFinish, EngineInfo, EngineMemory, LoadOptions } from './engine/index.js'
import type { OnTokens } from './engine-jobs.js'
import { EngineProcess, type EngineProcessOptions } from './engine-process.js'
import { checkGguf } from './gguf.js'
import { type FileStamp, mustBeSame } from './model-file.js'

export type EngineState = 'stopped' | 'loading' | 'loaded' | 'failed'

export interface EngineOptions extends LoadOptions, EngineProcessOptions {
  loadTimeoutMs: number
  /** Wait before a crashed engine is started again; doubles with each crash in a row, up to the maximum. */
  restartMinMs: number
  restartMaxMs: number
  onLog?: (level: 'info' | 'warn' | 'error', message: string) => void
  /** How the file was when it was hashed; undefined where it was not. */
  known?: () => FileStamp | undefined
  /** Lets one model load at a time. Absent: at once. */
  turn?: <T>(load: () => Promise<T>) => Promise<T>
}

/** An engine that has run this long is sound: the next crash counts as the first again. */
const SOUND_MS = 60_000
/** A model that was never loaded is given up after so many loads that failed. */
const MOST_LOADS = 5
/** What another load may not meet. */
const PASSING: ReadonlySet<ErrorCode> = new Set(['ENGINE_FAILED', 'TIMEOUT'])

interface EngineEvents {
  /** Its state has changed. */
  change: []
  /** One decode step came back: how many sequences it gave tokens for, and how many tokens. */
  step: [sequences: number, tokens: number]
  /** A process was started, or is gone. */
  process: [pid: number, running: boolean]
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
  #failedLoads = 0
  /** How often it was stopped: what was begun before is nobody's. */
  #stops = 0
  #restart: NodeJS.Timeout | undefined
  #restarting = false
  #quiet = false
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
  /** True where it should work, and has said nothing for some seconds: it gets no work until it does. */
  get quiet(): boolean {
    return this.#quiet
  }
  /** True from a crash, or a load that failed and is tried again, until the model is loaded. */
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
   * Starts the process and loads the model; where that is under way or done already, waits for the same. What fails and
   * may not fail another time is tried again later, with growing pauses; `stop` ends that.
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
   * Runs one generation. `onTokens` is called as tokens come; where it waits, so do the pieces of a prompt that is echoed.
   * @throws MeshError BUSY when no slot is free or the engine is not loaded, ENGINE_FAILED when the process dies (with
   * `details.suspect` where this request may be why), ENGINE_ENDED where this request is why,
   * CANCELLED at once when the signal aborts, and what the engine answers: CONTEXT_LENGTH_EXCEEDED, BAD_REQUEST
   */
  async generate(request: InferenceRequest, onTokens: OnTokens, signal?: AbortSignal): Promise<EngineFinish> {
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

  /** Counts and tells tokens. @throws as `generate` */
  async tokens(asked: TokensRequest, signal?: AbortSignal): Promise<TokensResult> {
    const outcome = await this.#ready(signal).run({ type: 'tokenize', asked }, () => {}, signal)
    if (outcome.type !== 'tokenized') throw MeshError.ENGINE_FAILED('The engine answered with something else')
    return outcome.result
  }

  /** What memory its process takes now; undefined where none is loaded, or it does not say so in time. */
  async memory(withinMs: number): Promise<EngineMemory | undefined> {
    return this.#state === 'loaded' ? this.#process?.memory(withinMs) : undefined
  }

  /** Ends the process, and with it gives all its memory back. What runs fails with ENGINE_FAILED. */
  async stop(): Promise<void> {
    clearTimeout(this.#restart)
    this.#stops++
    const running = this.#process
    this.#process = undefined
    this.#loading = undefined
    this.#restarting = false
    this.#quiet = false
    this.#failedLoads = 0
    this.#setState('stopped')
    await running?.end(MeshError.ENGINE_FAILED('The engine was stopped'))
  }

  async #load(): Promise<EngineInfo> {
    const stops = this.#stops
    let began = performance.now()
    // What failed before stands until it has not.
    this.#setState('loading', this.#failure)
    try {
      const before = await this.#checkFile()
      const start = async () => {
        if (this.#stops !== stops) throw MeshError.ENGINE_FAILED('The engine was stopped')
        began = performance.now()
        return this.#startProcess()
      }
      // An engine that crashed takes the place that it had, and waits for nobody.
      const { turn } = this.#options
      this.#info = await (turn && this.#info === undefined ? turn(start) : start())
      await this.#checkFile(before)
    } catch (err) {
      const failure = MeshError.from(err, 'ENGINE_FAILED', 'The engine could not be started')
      if (this.#stops === stops) {
        // One that has loaded something else than what was checked.
        const wrong = this.#process
        this.#process = undefined
        await wrong?.end(failure)
      }
      if (this.#stops === stops) this.#onFailedLoad(failure)
      throw failure
    }
    this.#failedLoads = 0
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
    const { loadTimeoutMs, modelPath, gpu, slots, contextLength, threads } = this.#options
    const started: EngineProcess = new EngineProcess(
      {
        onLog: (level, message) => this.#options.onLog?.(level, message),
        onStep: (sequences, tokens) => this.emit('step', sequences, tokens),
        onQuiet: (quiet) => this.#onQuiet(started, quiet),
        onExit: (why, byRequest) => {
          if (started.pid !== undefined) this.emit('process', started.pid, false)
          this.#onExit(started, why, byRequest)
        },
      },
      this.#options,
    )
    this.#process = started
    if (started.pid !== undefined) this.emit('process', started.pid, true)
    return started.load({ modelPath, gpu, slots, contextLength, threads }, loadTimeoutMs)
  }

  #onExit(ended: EngineProcess, why: string, byRequest: boolean): void {
    if (this.#process !== ended) return
    this.#process = undefined
    this.#quiet = false
    // While it loads, whoever waits for the load is told, and decides.
    if (this.#state !== 'loaded') return
    this.#options.onLog?.('error', `the engine process ${why}`)
    // Nor would others be served sooner if they had to wait for what one request did.
    if (byRequest || performance.now() - this.#loadedAt > SOUND_MS) this.#crashes = 0
    this.#loading = undefined
    this.#startAgain()
  }

  #onQuiet(from: EngineProcess, quiet: boolean): void {
    if (this.#process !== from) return
    this.#quiet = quiet
    if (quiet) this.#options.onLog?.('warn', 'the engine process does not answer')
    this.emit('change')
  }

  #onFailedLoad(failure: MeshError): void {
    this.#failedLoads++
    const { onLog } = this.#options
    const wasSound = this.#info !== undefined
    if (wasSound || (PASSING.has(failure.code) && this.#failedLoads < MOST_LOADS)) {
      onLog?.('error', `the model could not be loaded and is tried again: ${failure.message}`)
      this.#startAgain(failure)
      return
    }
    this.#restarting = false
    onLog?.('error', `the model could not be loaded: ${failure.message}`)
    this.#setState('failed', failure)
  }

  #startAgain(failure?: MeshError): void {
    const { restartMinMs, restartMaxMs } = this.#options
    const waitMs = Math.min(restartMaxMs, restartMinMs * 2 ** this.#crashes++)
    this.#restarting = true
    this.#setState(failure ? 'failed' : 'loading', failure)
    this.#restart = setTimeout(() => {
      // Where it fails, that has been seen to.
      this.load().catch(() => {})
    }, waitMs)
  }

  /** The process that takes jobs now. @throws MeshError BUSY, CANCELLED */
  #ready(signal: AbortSignal | undefined): EngineProcess {
    if (signal?.aborted) throw MeshError.CANCELLED('The request was cancelled')
    if (this.#state !== 'loaded' || this.#process === undefined) {
      throw MeshError.BUSY('The engine is not loaded now', { retryAfterMs: 500 })
    }
    if (this.#quiet) throw MeshError.BUSY('The engine does not answer now', { retryAfterMs: 1000 })
    return this.#process
  }

  #setState(state: EngineState, failure?: MeshError): void {
    this.#state = state
    this.#failure = failure
    this.emit('change')
  }
}
