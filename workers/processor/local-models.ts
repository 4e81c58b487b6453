import { EventEmitter } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { writeFileAtomic } from '../../lib/home/index.js'
import { MeshError, type Model, parseJson, validate } from '../../lib/protocol/index.js'
import { LocalModel } from './local-model.js'
import { factsOf, identify, type KnownFile, modelListSchema, modelNameFor, modelRecord } from './model-file.js'
import { Engine, type EngineOptions } from './supervised-engine.js'
import { Turns } from './turns.js'

/** Models that may be added at a time: they wait for each other. */
const MOST_ADDED = 4

export interface LocalModelsOptions {
  /** Where the list of models is kept. */
  file: string
  /** The model that comes with the package; absent: none. It is loaded when the list is opened. */
  embedded?: { name: string; path: string }
  engine: Omit<EngineOptions, 'modelPath' | 'onLog' | 'turn'>
  onLog: (level: 'info' | 'warn' | 'error', message: string, model: string) => void
}

/**
 * The models this processor has: the embedded one and the files that were added by path. Knows what each file is, keeps
 * the list on disk and has an engine for each. Emits `change` when anything that the processor reports has changed,
 * `engine` for each new engine.
 */
export class LocalModels extends EventEmitter<{ change: []; engine: [LocalModel] }> {
  readonly #options: LocalModelsOptions
  readonly #models = new Map<string, LocalModel>()
  #files = new Map<string, KnownFile>()
  /** Only loads of models that were not loaded before: one at a time, since each may want all the memory there is. */
  readonly #turns = new Turns()
  #adding = 0
  #closed = false

  constructor(options: LocalModelsOptions) {
    super()
    this.#options = options
  }

  get all(): readonly LocalModel[] {
    return [...this.#models.values()]
  }

  /**
   * Reads the list and begins to look at the files and to load the embedded model, without waiting for either.
   * @throws MeshError STORE_INVALID when the list cannot be read
   */
  open(): void {
    const { file, embedded } = this.#options
    const stored = existsSync(file) ? readList(file) : { models: [], files: [] }
    this.#files = new Map(stored.files.map((one) => [one.path, one]))
    if (embedded) this.#prepare(this.#put(embedded.name, embedded.path, true))
    for (const { name, path } of stored.models) {
      if (!this.#models.has(name)) this.#prepare(this.#put(name, path, false))
    }
  }

  /** Ends all engines. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.all.map(({ engine }) => engine.stop()))
  }

  /**
   * The model with this name; without a name the embedded one, else the first.
   * @throws MeshError MODEL_NOT_FOUND, or why the model is refused
   */
  get(name: string | undefined): LocalModel {
    const model = name === undefined ? this.#models.values().next().value : this.#models.get(name)
    if (!model) {
      const message = name === undefined ? 'This processor has no model' : `This processor has no model ${name}`
      throw MeshError.MODEL_NOT_FOUND(message, { param: 'model' })
    }
    if (model.refused) throw model.refused
    return model
  }

  /**
   * Loads the model where it is not loaded yet.
   * @throws MeshError as `Engine.load`; why the last load failed, where it is not tried again; BUSY while a crashed
   * engine waits to be started again, so that the request can go to another processor
   */
  async loaded(model: LocalModel): Promise<Engine> {
    if (model.engine.state === 'loaded') return model.engine
    if (model.engine.restarting) {
      throw MeshError.BUSY(`The engine of ${model.name} crashed and is being started again`, { retryAfterMs: 500 })
    }
    if (model.engine.failure) throw model.engine.failure
    return this.#load(model)
  }

  async #load(model: LocalModel): Promise<Engine> {
    const info = await model.engine.load()
    if (model.file && !model.file.facts) {
      model.file = { ...model.file, facts: factsOf(info) }
      this.#files.set(model.path, model.file)
      this.#save()
      this.emit('change')
    }
    return model.engine
  }

  /**
   * Adds a file, loads it and remembers it. Adding the same file under the same name again does nothing, unless the model
   * failed: then it is loaded anew.
   * @param signal ends it: a model that was not here before is gone then, and its engine with it
   * @throws MeshError MODEL_INVALID, MODEL_CONFLICT, BAD_REQUEST, ENGINE_FAILED, CANCELLED, BUSY when too many are being
   * added
   */
  async add(path: string, given?: string, signal?: AbortSignal): Promise<Model> {
    const name = modelNameFor(path, given)
    if (this.#adding >= MOST_ADDED) {
      throw MeshError.BUSY(`${this.#adding} models are being added to this processor; they are loaded one by one`, {
        retryAfterMs: 10_000,
      })
    }
    this.#adding++
    try {
      return await this.#add(path, name, signal)
    } finally {
      this.#adding--
    }
  }

  async #add(path: string, name: string, signal: AbortSignal | undefined): Promise<Model> {
    const file = await identify(path, this.#files.get(path), signal)
    const known = this.#models.get(name)
    if (known && known.path !== path && known.file?.hash !== file.hash) {
      throw MeshError.MODEL_CONFLICT(`${name} already stands for ${known.path} here; give another name`, {
        param: 'name',
      })
    }
    const model = known ?? this.#put(name, path, false)
    // What the mesh refused stays so for the same file: it is not asked again for that.
    if (model.file?.hash !== file.hash) model.refused = undefined
    model.file = file
    this.#files.set(path, file)
    let engine: Engine
    try {
      engine = await unlessAborted(model.engine.restarting ? this.loaded(model) : this.#load(model), signal)
    } catch (err) {
      // A file that cannot be loaded is not kept. One that was here before stays, with its reason.
      if (!known) await this.#drop(model)
      throw err
    }
    this.#save()
    this.emit('change')
    // It may have crashed since: what it said of its model stands.
    if (engine.info === undefined) throw MeshError.ENGINE_FAILED(`The engine of ${name} said nothing of its model`)
    return modelRecord(name, file, factsOf(engine.info))
  }

  /**
   * Forgets a model and ends its engine. The file stays where it is.
   * @throws MeshError MODEL_NOT_FOUND, BAD_REQUEST for the embedded model
   */
  async remove(name: string): Promise<void> {
    const model = this.#models.get(name)
    if (!model) throw MeshError.MODEL_NOT_FOUND(`This processor has no model ${name}`, { param: 'name' })
    if (model.embedded) {
      throw MeshError.BAD_REQUEST(`${name} comes with the package; set engine.embedded to false instead`, {
        param: 'name',
      })
    }
    await this.#drop(model)
    this.#save()
  }

  /** Takes a model out of use and says why; undefined puts it back. */
  refuse(model: LocalModel, reason: MeshError | undefined): void {
    model.refused = reason
    this.emit('change')
  }

  #put(name: string, path: string, embedded: boolean): LocalModel {
    const { engine: options, onLog } = this.#options
    const engine: Engine = new Engine({
      ...options,
      modelPath: path,
      known: () => this.#models.get(name)?.file,
      onLog: (level, message) => onLog(level, message, name),
      turn: (load) => this.#turns.take(load),
    })
    const model = new LocalModel(name, path, embedded, engine)
    this.#models.set(name, model)
    engine.on('change', () => this.emit('change'))
    this.emit('engine', model)
    return model
  }

  /** Learns what is to be known of a model's file. Only what has never been loaded, and the embedded model, is loaded. */
  #prepare(model: LocalModel): void {
    const work = async () => {
      model.file = await identify(model.path, this.#files.get(model.path))
      if (this.#closed) return
      this.#files.set(model.path, model.file)
      this.emit('change')
      if (model.embedded || !model.file.facts) await this.loaded(model)
    }
    work().catch((err: unknown) => {
      if (this.#closed) return
      const failure = MeshError.from(err, 'MODEL_INVALID', `${model.path} cannot be used: ${String(err)}`)
      this.#options.onLog('error', failure.message, model.name)
      this.refuse(model, model.engine.failure ? undefined : failure)
    })
  }

  async #drop(model: LocalModel): Promise<void> {
    this.#models.delete(model.name)
    await model.engine.stop()
    model.engine.removeAllListeners()
    this.emit('change')
  }

  #save(): void {
    const models = this.all.filter(({ embedded }) => !embedded).map(({ name, path }) => ({ name, path }))
    const used = new Set(this.all.map(({ path }) => path))
    const files = [...this.#files.values()].filter(({ path }) => used.has(path))
    writeFileAtomic(this.#options.file, `${JSON.stringify({ models, files }, null, 2)}\n`)
  }
}

/** The same as `work`, until the signal aborts: then it is given up, and goes on by itself. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  let onAbort = (): void => {}
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(MeshError.CANCELLED('The caller went away'))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

function readList(file: string) {
  try {
    return validate(modelListSchema, parseJson(readFileSync(file), file), file, 'STORE_INVALID')
  } catch (err) {
    throw MeshError.STORE_INVALID(
      `${file} cannot be read as the list of models: ${MeshError.from(err).message}`,
      {},
      { cause: err },
    )
  }
}
