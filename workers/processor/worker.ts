import { join } from 'node:path'
import { endEngines } from '../../lib/home/index.js'
import type { GenerationSink } from '../../lib/link/index.js'
import {
  EMBEDDED_MODEL,
  engineCommand,
  type GenerateAsk,
  type GenerateEvent,
  type Load,
  MeshError,
  type RequestOf,
  type ResponseOf,
  readGeneration,
  type TokenBatch,
} from '../../lib/protocol/index.js'
import { BaseWorker, PACKAGE_ROOT, type WorkerOptions } from '../../lib/worker-base/index.js'
import { Announcer } from './announcer.js'
import { hasEngine } from './engine/index.js'
import type { EngineProcessOptions } from './engine-process.js'
import { EngineProcesses } from './engine-processes.js'
import { endFirstEngine } from './first-engine/index.js'
import { LocalModels } from './local-models.js'
import { ProcessorMetrics } from './metrics.js'
import { engineConfigSchema } from './settings.js'

const EMBEDDED = { name: EMBEDDED_MODEL, path: join(PACKAGE_ROOT, 'models', 'infermesh-tiny.Q8_0.gguf') }

/** A long prompt on a slow machine takes longer than gateways wait for a processor that says nothing (`stallMs`). */
const SIGN_MS = 30_000

/** Texts that are being tokenized at a time, for all gateways together. */
const MOST_TOKENIZING = 32

/** What only a program that starts a processor itself can choose: benches and fault tests. */
export interface ProcessorOptions extends WorkerOptions {
  /** Among them a stand-in for the engine process, and variables for it. */
  engine?: EngineProcessOptions
  /** How often a gateway is told that a prompt is being worked on. Absent: SIGN_MS. */
  signMs?: number
}

/** Runs models: takes generations from gateways and hands them to the engine of the model they ask for. */
export class ProcessorWorker extends BaseWorker {
  readonly models: LocalModels
  readonly #announcer: Announcer
  readonly #metrics: ProcessorMetrics
  readonly #signMs: number
  #running = 0
  #tokenizing = 0
  /** Models that are approved for this processor, where it is a guest. */
  #approved = 0
  #idle: (() => void) | undefined

  /** @throws MeshError CONFIG_INVALID, STORE_INVALID */
  constructor(options: ProcessorOptions) {
    super('processor', options)
    if (options.engine?.modulePath === undefined && !hasEngine()) {
      throw MeshError.CONFIG_INVALID(
        `This machine has no engine to run models with: \`${engineCommand('cpu')}\` brings it (about 80 MB)`,
      )
    }
    this.#signMs = options.signMs ?? SIGN_MS
    const { embedded, ...engine } = this.config('engine', engineConfigSchema)
    if (!embedded) endFirstEngine()
    this.models = new LocalModels({
      file: join(this.workerDir, 'models.json'),
      ...(embedded && { embedded: EMBEDDED }),
      engine: { ...engine, ...options.engine },
      onLog: (level, message, model) => this.log[level]({ model }, message),
    })
    const processes = new EngineProcesses(this.workerDir)
    this.models.on('engine', ({ engine }) => engine.on('process', (pid, running) => processes.note(pid, running)))
    this.#metrics = new ProcessorMetrics(this.registry, this.models)
    this.#announcer = new Announcer(
      {
        announce: (model) => this.net.authority().call('models.announce', model),
        withdraw: (name) => this.net.authority().call('models.withdraw', { name }),
      },
      (model, reason) => this.#onAnswer(model.name, reason),
    )
  }

  /** The store is this process's by now: whoever had it before is gone, and its engines are nobody's. */
  protected override async _opened(): Promise<void> {
    endEngines(this.workerDir)
    this.models.open()
  }

  protected override async _prepare(): Promise<void> {
    const { net } = this
    net.onGenerate(['gateway'], (ask, sink) => this.#work(() => this.#generate(ask, sink)))
    net.dispatcher.respond('processor.embed', (request, { signal }) => this.#work(() => this.#embed(request, signal)))
    net.dispatcher.respond('processor.tokens', (request, { signal }) =>
      this.#work(() => this.#tokenize(request, signal)),
    )
    net.dispatcher.respond('processor.models.add', ({ path, name }, { signal }) => this.models.add(path, name, signal))
    net.dispatcher.respond('processor.models.remove', async ({ name }) => {
      await this.models.remove(name)
      return {}
    })
    net.on('link', (link) => {
      if (link.role === 'auth') this.#announcer.repeat()
    })
    net.directory.on('change', () => this.#onDirectory())
    this.models.on('change', () => this.#onChange())
    this.#onChange()
  }

  protected override async _drain(): Promise<void> {
    if (this.#running === 0) return
    await new Promise<void>((resolve) => {
      this.#idle = resolve
    })
  }

  protected override async _stop(): Promise<void> {
    this.#announcer.stop()
    await this.models.close()
  }

  protected override _load(): Partial<Load> {
    const gpu = this.models.all.map(({ engine }) => engine.info?.gpu).find((one) => one !== undefined)
    return { running: this.#running, models: this.models.all.map((model) => model.load), ...(gpu && { gpu }) }
  }

  async #generate(ask: GenerateAsk, sink: GenerationSink): Promise<void> {
    const { requestId } = ask
    const request = readGeneration(ask)
    const model = this.models.get(request.model)
    const engine = await this.models.loaded(model)
    const tell = (event: GenerateEvent): void => {
      try {
        sink.push(event)
      } catch (err) {
        // The reader is gone or too slow: its signal ends the engine's work, and the slot is for others.
        sink.fail(MeshError.from(err))
      }
    }
    const signs = setInterval(() => tell({ type: 'started', processor: this.name }), this.#signMs)
    const onTokens = (batch: TokenBatch): Promise<void> | undefined => {
      clearInterval(signs)
      tell({ type: 'tokens', ...batch })
      return batch.echo === undefined ? undefined : sink.sent()
    }
    const finish = await engine.generate(request, onTokens, sink.signal).finally(() => clearInterval(signs))
    this.#metrics.finished(model.name, finish)
    const { reason, usage } = finish
    sink.finish({ reason, usage })
    this.log.debug({ requestId, model: model.name, reason, ...usage }, 'generated')
  }

  async #embed(
    { model: name, input }: RequestOf<'processor.embed'>,
    signal: AbortSignal,
  ): Promise<ResponseOf<'processor.embed'>> {
    const model = this.models.get(name)
    const engine = await this.models.loaded(model)
    const { embeddings, promptTokens } = await engine.embed(input, signal)
    return { model: model.name, embeddings, usage: { promptTokens, cachedTokens: 0, completionTokens: 0 } }
  }

  /** @throws MeshError BUSY while there are many: nothing of it may keep those waiting for long that generate */
  async #tokenize(asked: RequestOf<'processor.tokens'>, signal: AbortSignal): Promise<ResponseOf<'processor.tokens'>> {
    if (this.#tokenizing >= MOST_TOKENIZING) {
      throw MeshError.BUSY(`${this.#tokenizing} texts are being tokenized on this processor`, { retryAfterMs: 500 })
    }
    this.#tokenizing++
    try {
      return await (await this.models.loaded(this.models.get(asked.model))).tokens(asked, signal)
    } finally {
      this.#tokenizing--
    }
  }

  /** Counts a piece of work, and refuses it once the worker drains. */
  async #work<T>(work: () => Promise<T>): Promise<T> {
    if (this.state !== 'ready')
      throw MeshError.SHUTTING_DOWN(`This processor is ${this.state} and takes no work now`, { retryAfterMs: 500 })
    this.#running++
    this.net.loadChanged()
    try {
      return await work()
    } finally {
      this.#running--
      this.net.loadChanged()
      if (this.#running === 0) this.#idle?.()
    }
  }

  #onChange(): void {
    this.net.loadChanged()
    this.#announcer.set(this.models.all.flatMap(({ record }) => record ?? []))
  }

  /** What was not approved for this guest may be now. */
  #onDirectory(): void {
    const approved = this.net.directory.members.get(this.publicKey)?.models?.length ?? 0
    if (approved !== this.#approved) this.#announcer.repeat()
    this.#approved = approved
  }

  #onAnswer(name: string, reason: MeshError | undefined): void {
    const model = this.models.all.find((one) => one.name === name)
    if (!model) return
    if (reason) this.log.error({ model: name }, reason.message)
    else this.log.info({ model: name }, 'the mesh knows this model again')
    this.models.refuse(model, reason)
  }
}
