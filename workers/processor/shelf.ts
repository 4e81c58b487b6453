import { EventEmitter } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { writeFileAtomic } from '../../lib/home/index.js'
import { MeshError, type Model, type ModelLoad, parseJson, validate } from '../../lib/protocol/index.js'
import { Engine, type EngineOptions } from './engine-process.js'
import { factsOf, identify, type KnownFile, modelNameFor, recordOf, shelfFileSchema } from './model-file.js'

export interface ShelfOptions {
  /** Where the list of models is kept. */
  file: string
  /** The model that comes with the package; absent: none. It is loaded when the shelf opens. */
  embedded?: { name: string; path: string }
  engine: Omit<EngineOptions, 'modelPath' | 'onLog'>
  onLog: (level: 'info' | 'warn' | 'error', message: string, model: string) => void
}

/** One model on this machine. */
export class ShelfModel {
  readonly name: string
  readonly path: string
  readonly embedded: boolean
  readonly engine: Engine
  file: KnownFile | undefined
  /** Why it must not be used although its engine may be sound: its file is bad, or its name stands for another file. */
  refused: MeshError | undefined

  constructor(name: string, path: string, embedded: boolean, engine: Engine) {
    this.name = name
    this.path = path
    this.embedded = embedded
    this.engine = engine
  }

  /** As the directory lists it; undefined until its file was loaded once. */
  get record(): Model | undefined {
    return recordOf(this.name, this.file)
  }

  /** As this processor reports it. */
  get load(): ModelLoad {
    const { info, state, generating, failure } = this.engine
    const loaded = state === 'loaded' && info !== undefined
    const slots = loaded ? info.slots : 0
    const failed = this.refused ?? failure
    return {
      name: this.name,
      hash: this.file?.hash ?? '',
      state: failed ? 'failed' : loaded ? 'loaded' : state === 'loading' || !this.file ? 'loading' : 'available',
      slots,
      busySlots: Math.min(slots, generating),
      contextLength: loaded ? info.contextLength : 0,
      ...(failed && { reason: failed.message }),
    }
  }
}

/**
 * The models this processor has: the embedded one and the files that were added by path. Knows what each file is, keeps
 * the list on disk and has an engine for each. Emits `change` when anything that the processor reports has changed,
 * `engine` for each new engine.
 */
export class ModelShelf extends EventEmitter<{ change: []; engine: [ShelfModel] }> {
  readonly #options: ShelfOptions
  readonly #models = new Map<string, ShelfModel>()
  #files = new Map<string, KnownFile>()
  #closed = false

  constructor(options: ShelfOptions) {
    super()
    this.#options = options
  }

  get models(): readonly ShelfModel[] {
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
    await Promise.all(this.models.map(({ engine }) => engine.stop()))
  }

  /**
   * The model with this name; without a name the embedded one, else the first.
   * @throws MeshError MODEL_NOT_FOUND, or why the model is refused
   */
  get(name: string | undefined): ShelfModel {
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
   * @throws MeshError as `Engine.load`; BUSY while a crashed engine waits to be started again, so that the request can
   * go to another processor
   */
  async loaded(model: ShelfModel): Promise<Engine> {
    if (model.engine.state === 'loaded') return model.engine
    if (model.engine.restarting) {
      throw MeshError.BUSY(`The engine of ${model.name} crashed and is being started again`, { retryAfterMs: 500 })
    }
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
   * Adds a file, loads it and remembers it. Adding the same file under the same name again does nothing.
   * @throws MeshError MODEL_INVALID, MODEL_CONFLICT, BAD_REQUEST, ENGINE_FAILED
   */
  async add(path: string, given?: string): Promise<Model> {
    const name = modelNameFor(path, given)
    const file = await identify(path, this.#files.get(path))
    const known = this.#models.get(name)
    if (known && known.path !== path && known.file?.hash !== file.hash) {
      throw MeshError.MODEL_CONFLICT(`${name} already stands for ${known.path} here; give another name`, {
        param: 'name',
      })
    }
    const model = known ?? this.#put(name, path, false)
    model.file = file
    model.refused = undefined
    this.#files.set(path, file)
    try {
      await this.loaded(model)
    } catch (err) {
      // A file that cannot be loaded is not kept. One that was here before stays, with its reason.
      if (!known) await this.#drop(model)
      throw err
    }
    this.#save()
    this.emit('change')
    return model.record as Model
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
  refuse(model: ShelfModel, reason: MeshError | undefined): void {
    model.refused = reason
    this.emit('change')
  }

  #put(name: string, path: string, embedded: boolean): ShelfModel {
    const { engine: options, onLog } = this.#options
    const engine = new Engine({ ...options, modelPath: path, onLog: (level, message) => onLog(level, message, name) })
    const model = new ShelfModel(name, path, embedded, engine)
    this.#models.set(name, model)
    engine.on('change', () => this.emit('change'))
    this.emit('engine', model)
    return model
  }

  /** Learns what is to be known of a model's file. Only what has never been loaded, and the embedded model, is loaded. */
  #prepare(model: ShelfModel): void {
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

  async #drop(model: ShelfModel): Promise<void> {
    this.#models.delete(model.name)
    await model.engine.stop()
    model.engine.removeAllListeners()
    this.emit('change')
  }

  #save(): void {
    const models = this.models.filter(({ embedded }) => !embedded).map(({ name, path }) => ({ name, path }))
    const used = new Set(this.models.map(({ path }) => path))
    const files = [...this.#files.values()].filter(({ path }) => used.has(path))
    writeFileAtomic(this.#options.file, `${JSON.stringify({ models, files }, null, 2)}\n`)
  }
}

function readList(file: string) {
  try {
    return validate(shelfFileSchema, parseJson(readFileSync(file), file), file, 'STORE_INVALID')
  } catch (err) {
    throw MeshError.STORE_INVALID(
      `${file} cannot be read as the list of models: ${MeshError.from(err).message}`,
      {},
      { cause: err },
    )
  }
}
