import { type ChildProcess, fork } from 'node:child_process'
import { createInterface } from 'node:readline'
import { type InferenceRequest, MeshError, type TokenBatch } from '../../lib/protocol/index.js'
import {
  type EmbeddingInput,
  ENGINE_MODULE,
  type EngineInfo,
  type FromEngine,
  type LoadOptions,
  type ToEngine,
} from './engine/index.js'
import { EngineOutput } from './engine-output.js'

/** The engine's own objects are few and short-lived: a small young generation keeps its memory low at no loss of speed. */
const NODE_FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=512']
/** What an engine may need to end on its own before it is killed. */
const END_MS = 1000

export interface EngineProcessHooks {
  onLog: (level: 'info' | 'warn' | 'error', message: string) => void
  onStep: (sequences: number, tokens: number) => void
  /** Once, when the process is gone, for whatever reason; what ran has failed by then. @param why for people to read */
  onExit: (why: string) => void
}

/** A job without its number, which the process gives it. */
export type Work = { type: 'generate'; request: InferenceRequest } | { type: 'embed'; input: EmbeddingInput[] }
/** How a job ends that does not fail. */
export type Outcome = Extract<FromEngine, { type: 'finish' | 'embedded' }>

interface RunningJob {
  onTokens: (batch: TokenBatch) => void
  resolve: (outcome: Outcome) => void
  reject: (err: MeshError) => void
}

interface Exit {
  /** For people to read, behind "The engine process". */
  how: string
  signal: NodeJS.Signals | null
}

/** One engine process, from its start to its end: loads one model and runs jobs on it. */
export class EngineProcess {
  readonly #child: ChildProcess
  readonly #hooks: EngineProcessHooks
  readonly #output = new EngineOutput()
  readonly #jobs = new Map<number, RunningJob>()
  readonly #exit: Promise<Exit>
  #onLoad: (message: Extract<FromEngine, { type: 'ready' | 'loaded' | 'failed' }>) => void = () => {}
  #nextId = 1

  /** @param env variables on top of this process's own */
  constructor(hooks: EngineProcessHooks, modulePath = ENGINE_MODULE, env: Record<string, string> = {}) {
    this.#hooks = hooks
    this.#child = fork(modulePath, [], {
      execArgv: NODE_FLAGS,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    // Our own code wrote it, in a process that nobody else can reach.
    this.#child.on('message', (message) => this.#onMessage(message as FromEngine))
    if (this.#child.stderr) {
      createInterface({ input: this.#child.stderr }).on('line', (line) => this.#output.add(line))
    }
    this.#exit = exitOf(this.#child)
    void this.#exit.then(({ how }) => {
      this.#failAll(MeshError.ENGINE_FAILED(`The engine process ${how} while it generated; it is started again`))
      hooks.onExit(how + this.#output.lastWords())
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /**
   * To be called once, when it has just been made.
   * @throws MeshError TIMEOUT; MODEL_INVALID, ENGINE_FAILED or CONFIG_INVALID as the engine says
   */
  load(options: LoadOptions, timeoutMs: number): Promise<EngineInfo> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const late = MeshError.TIMEOUT(`The model was not loaded within ${timeoutMs} ms`)
        reject(late)
        void this.end(late)
      }, timeoutMs)
      this.#onLoad = (message) => {
        if (message.type === 'ready') return this.#send({ type: 'load', options })
        clearTimeout(timer)
        if (message.type === 'loaded') resolve(message.info)
        else reject(MeshError.fromJSON(message.error))
      }
      void this.#exit.then(({ how, signal }) => {
        clearTimeout(timer)
        reject(loadCrash(how, signal))
      })
    })
  }

  /**
   * Runs one job.
   * @throws MeshError ENGINE_FAILED when the process dies, CANCELLED at once when the signal aborts, the reason of `end`,
   * and what the engine answers
   */
  async run(work: Work, onTokens: (batch: TokenBatch) => void, signal?: AbortSignal): Promise<Outcome> {
    const id = this.#nextId++
    let onAbort: () => void = () => {}
    try {
      return await new Promise((resolve, reject) => {
        this.#jobs.set(id, { onTokens, resolve, reject })
        onAbort = () => {
          this.#send({ type: 'cancel', id })
          this.#take(id)?.reject(MeshError.CANCELLED('The request was cancelled'))
        }
        signal?.addEventListener('abort', onAbort, { once: true })
        this.#send({ ...work, id })
      })
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Ends the process and resolves once it is gone. @param reason what runs fails with it */
  async end(reason: MeshError): Promise<void> {
    this.#failAll(reason)
    // The polite way: an engine without channel exits.
    if (this.#child.connected) this.#child.disconnect()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_MS)
    await this.#exit
    clearTimeout(timer)
  }

  #send(message: ToEngine): void {
    // A channel that closed in between shows as an exit, which says more.
    if (this.#child.connected) this.#child.send(message, () => {})
  }

  #onMessage(message: FromEngine): void {
    switch (message.type) {
      case 'tokens': {
        const count = message.batches.reduce((sum, { batch }) => sum + batch.ids.length, 0)
        if (count > 0) this.#hooks.onStep(message.batches.length, count)
        for (const { id, batch } of message.batches) this.#jobs.get(id)?.onTokens(batch)
        return
      }
      case 'finish':
      case 'embedded':
        this.#take(message.id)?.resolve(message)
        return
      case 'error':
        this.#take(message.id)?.reject(MeshError.fromJSON(message.error))
        return
      case 'log':
        this.#output.add(message.message)
        this.#hooks.onLog(message.level, message.message)
        return
      case 'ready':
      case 'loaded':
      case 'failed':
        this.#onLoad(message)
    }
  }

  #take(id: number): RunningJob | undefined {
    const job = this.#jobs.get(id)
    this.#jobs.delete(id)
    return job
  }

  #failAll(err: MeshError): void {
    const jobs = [...this.#jobs.values()]
    this.#jobs.clear()
    for (const job of jobs) job.reject(err)
  }
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.on('exit', (code, signal) =>
      resolve({ how: signal ? `was ended by ${signal}` : `ended with code ${code}`, signal }),
    )
    child.on('error', (err) => {
      if (child.pid === undefined) resolve({ how: `could not be started: ${err.message}`, signal: null })
    })
  })
}

/** A process that dies of the file is the file's fault; one that is killed most likely ran out of memory. */
function loadCrash(how: string, signal: NodeJS.Signals | null): MeshError {
  if (signal === 'SIGABRT' || signal === 'SIGSEGV' || signal === 'SIGBUS' || signal === 'SIGFPE') {
    return MeshError.MODEL_INVALID(`llama.cpp crashes when it loads this file (the engine process ${how})`)
  }
  const hint = signal === 'SIGKILL' ? '; the machine may be out of memory' : ''
  return MeshError.ENGINE_FAILED(`The engine process ${how} while it loaded the model${hint}`)
}
