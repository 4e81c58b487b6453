import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { MeshError, type TokenBatch } from '../../lib/protocol/index.js'
import type { EngineInfo, EngineMemory, FromEngine, LoadOptions, ToEngine } from './engine/index.js'
import { type EngineEnd, EngineJobs, type OnTokens, type Outcome, type Work } from './engine-jobs.js'
import { EngineOutput } from './engine-output.js'
import { EngineWatch, WATCH_BOUNDS, type WatchBounds } from './engine-watch.js'
import { forkEngine } from './first-engine/index.js'
import { availableMemory, memoryReserve } from './memory.js'

/** What an engine may need to end on its own before it is killed. */
const END_MS = 1000
/** How often the machine's memory is looked at while a model is loaded. */
const MEMORY_MS = 100
const MIB = 1024 * 1024
/** How long the engine may take to say what a cancelled job has used. */
const LAST_WORD_MS = 500

export interface EngineProcessHooks {
  onLog: (level: 'info' | 'warn' | 'error', message: string) => void
  onStep: (sequences: number, tokens: number) => void
  /** It has become silent, or is heard again. */
  onQuiet: (quiet: boolean) => void
  /**
   * Once, when the process is gone, for whatever reason; what ran has failed by then.
   * @param why for people to read
   * @param byRequest a request is to blame, and neither the model nor the machine
   */
  onExit: (why: string, byRequest: boolean) => void
}

/** What benches and fault tests choose. */
export interface EngineProcessOptions {
  /** Absent: the engine. */
  modulePath?: string
  /** Variables on top of this process's own. */
  env?: Record<string, string>
  watch?: Partial<WatchBounds>
  /** Bytes that may still be used. Absent: the machine's. */
  memory?: () => number
}

interface Exit {
  /** For people to read, behind "The engine process". */
  how: string
  code: number | null
  signal: NodeJS.Signals | null
}

/** One engine process, from its start to its end: loads one model and runs jobs on it. */
export class EngineProcess {
  readonly #child: ChildProcess
  readonly #hooks: EngineProcessHooks
  readonly #output = new EngineOutput()
  readonly #jobs = new EngineJobs()
  readonly #bounds: WatchBounds
  readonly #watch: EngineWatch
  readonly #memory: () => number
  readonly #exit: Promise<Exit>
  #onLoad: (message: Extract<FromEngine, { type: 'ready' | 'loaded' | 'failed' }>) => void = () => {}
  readonly #onMemory = new Set<(memory: EngineMemory) => void>()
  #loading = true
  #quiet = false
  /** Why this side has ended it. */
  #ended: string | undefined
  #byRequest = false

  constructor(hooks: EngineProcessHooks, options: EngineProcessOptions = {}) {
    const { watch, memory = availableMemory } = options
    this.#hooks = hooks
    this.#bounds = { ...WATCH_BOUNDS, ...watch }
    this.#watch = new EngineWatch(this.#bounds)
    this.#memory = memory
    this.#child = forkEngine(options)
    // Our own code wrote it, in a process that nobody else can reach.
    this.#child.on('message', (message) => this.#onMessage(message as FromEngine))
    if (this.#child.stderr) {
      createInterface({ input: this.#child.stderr }).on('line', (line) => this.#output.add(line))
    }
    const beats = setInterval(() => this.#beat(), this.#bounds.beatMs)
    this.#exit = exitOf(this.#child)
    void this.#exit.then((exit) => {
      clearInterval(beats)
      const how = this.#ended ?? exit.how
      const byRequest = this.#jobs.end(endOf(exit), how, this.#bounds.stuckBeats)
      hooks.onExit(how + this.#output.lastWords(), byRequest || this.#byRequest)
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /**
   * To be called once, when it has just been made. Where it fails the process is gone.
   * @throws MeshError TIMEOUT; MODEL_INVALID, ENGINE_FAILED or CONFIG_INVALID as the engine says
   */
  async load(options: LoadOptions, timeoutMs: number): Promise<EngineInfo> {
    const reserve = memoryReserve(this.#memory())
    const timers: NodeJS.Timeout[] = []
    try {
      return await new Promise<EngineInfo>((resolve, reject) => {
        timers.push(
          setTimeout(() => reject(MeshError.TIMEOUT(`The model was not loaded within ${timeoutMs} ms`)), timeoutMs),
          setInterval(() => {
            const left = this.#memory()
            if (left < reserve) reject(memoryShort(left, reserve))
          }, MEMORY_MS),
        )
        this.#onLoad = (message) => {
          if (message.type === 'ready') return this.#send({ type: 'load', options })
          this.#loading = false
          if (message.type === 'loaded') resolve(message.info)
          else reject(MeshError.fromJSON(message.error))
        }
        void this.#exit.then((exit) => reject(this.#ended ? endedInLoad(this.#ended) : loadCrash(exit)))
      })
    } catch (err) {
      // Whoever loads next finds the memory free.
      await this.end(MeshError.from(err))
      throw err
    } finally {
      for (const timer of timers) clearTimeout(timer)
    }
  }

  /**
   * Runs one job.
   * @throws MeshError ENGINE_FAILED when the process dies, ENGINE_ENDED where this job is why, CANCELLED when the signal
   * aborts, once the engine has told what was used until then, the reason of `end`, and what the engine answers
   */
  async run(work: Work, onTokens: OnTokens, signal?: AbortSignal): Promise<Outcome> {
    let onAbort: () => void = () => {}
    let lastWord: NodeJS.Timeout | undefined
    try {
      return await new Promise((resolve, reject) => {
        const id = this.#jobs.add(work, onTokens, resolve, reject)
        onAbort = () => {
          this.#send({ type: 'cancel', id })
          lastWord = setTimeout(() => this.#jobs.cancel(id), LAST_WORD_MS)
        }
        signal?.addEventListener('abort', onAbort, { once: true })
        this.#send({ ...work, id })
      })
    } finally {
      clearTimeout(lastWord)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** What memory it takes now; undefined where it does not say so in time. */
  memory(withinMs: number): Promise<EngineMemory | undefined> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => tell(undefined), withinMs)
      const tell = (memory: EngineMemory | undefined): void => {
        clearTimeout(timer)
        this.#onMemory.delete(tell)
        resolve(memory)
      }
      this.#onMemory.add(tell)
      this.#send({ type: 'memory' })
    })
  }

  /** Ends the process and resolves once it is gone. @param reason what runs fails with it */
  async end(reason: MeshError): Promise<void> {
    this.#jobs.fail(reason)
    // The polite way: an engine without channel exits.
    if (this.#child.connected) this.#child.disconnect()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_MS)
    await this.#exit
    clearTimeout(timer)
  }

  /** Ends a process that would not end by itself. */
  #kill(end: EngineEnd, how: string): void {
    this.#ended = how
    this.#byRequest = this.#jobs.end(end, how, this.#bounds.stuckBeats)
    this.#child.kill('SIGKILL')
  }

  /** Once a beat: a process that has nothing to do may sleep. */
  #beat(): void {
    if (this.#ended !== undefined || !(this.#loading || this.#jobs.size > 0)) return this.#watch.heard()
    const { beatMs, silentBeats, loadingBeats, stuckBeats } = this.#bounds
    const seconds = (beats: number) => `${(beats * beatMs) / 1000} s`
    if (!this.#watch.beat(this.#loading)) {
      return this.#kill(
        'silent',
        `said nothing for ${seconds(this.#loading ? loadingBeats : silentBeats)} and was ended`,
      )
    }
    if (this.#jobs.beat(stuckBeats)) {
      return this.#kill('stuck', `made no progress for ${seconds(stuckBeats)} and was ended`)
    }
    this.#send({ type: 'ping' })
    this.#setQuiet(this.#watch.quiet)
  }

  #setQuiet(quiet: boolean): void {
    if (this.#quiet === quiet) return
    this.#quiet = quiet
    this.#hooks.onQuiet(quiet)
  }

  #send(message: ToEngine): void {
    // A channel that closed in between shows as an exit, which says more.
    if (this.#child.connected) this.#child.send(message, () => {})
  }

  #tell(id: number, batch: TokenBatch): void {
    const passed = this.#jobs.tokens(id, batch)
    if (batch.echo === undefined) return
    void Promise.resolve(passed).then(() => this.#send({ type: 'taken', id }))
  }

  #onMessage(message: FromEngine): void {
    this.#watch.heard()
    this.#setQuiet(false)
    this.#jobs.heard(message)
    switch (message.type) {
      case 'tokens': {
        const count = message.batches.reduce((sum, { batch }) => sum + batch.ids.length, 0)
        if (count > 0) this.#hooks.onStep(message.batches.filter(({ batch }) => batch.ids.length > 0).length, count)
        for (const { id, batch } of message.batches) this.#tell(id, batch)
        return
      }
      case 'finish':
      case 'embedded':
      case 'tokenized':
        this.#jobs.take(message.id)?.resolve(message)
        return
      case 'error':
        this.#jobs.take(message.id)?.reject(MeshError.fromJSON(message.error))
        return
      case 'log':
        this.#output.add(message.message)
        this.#hooks.onLog(message.level, message.message)
        return
      case 'memory':
        for (const tell of this.#onMemory) tell(message.memory)
        return
      case 'alive':
      case 'at':
        return
      default:
        this.#onLoad(message)
    }
  }
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.on('exit', (code, signal) =>
      resolve({ how: signal ? `was ended by ${signal}` : `ended with code ${code}`, code, signal }),
    )
    child.on('error', (err) => {
      if (child.pid === undefined) {
        resolve({ how: `could not be started: ${err.message}`, code: null, signal: null })
      }
    })
  })
}

/** Signals that a process brings upon itself. */
const CRASHES: ReadonlySet<NodeJS.Signals | null> = new Set(['SIGABRT', 'SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL'])

function endOf({ code, signal }: Exit): EngineEnd {
  return CRASHES.has(signal) || (code !== null && code !== 0) ? 'crash' : 'killed'
}

/** A process that dies of the file is the file's fault; one that is killed most likely ran out of memory. */
function loadCrash({ how, signal }: Exit): MeshError {
  if (CRASHES.has(signal)) {
    return MeshError.MODEL_INVALID(`llama.cpp crashes when it loads this file (the engine process ${how})`)
  }
  return endedInLoad(how, signal === 'SIGKILL' ? '; the machine may be out of memory' : '')
}

function endedInLoad(how: string, hint = ''): MeshError {
  return MeshError.ENGINE_FAILED(`The engine process ${how} while it loaded the model${hint}`)
}

function memoryShort(left: number, reserve: number): MeshError {
  const mib = (bytes: number) => `${Math.round(bytes / MIB)} MiB`
  return MeshError.ENGINE_FAILED(
    `There is not enough memory for this model: ${mib(left)} were left while it was loaded, and ${mib(reserve)} have to stay free`,
  )
}
