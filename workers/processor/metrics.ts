import { totalmem } from 'node:os'
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { EngineFinish, EngineMemory } from './engine/index.js'
import type { LocalModel } from './local-model.js'
import type { LocalModels } from './local-models.js'
import { availableMemory } from './memory.js'

const PREFILL_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
const DECODE_BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
const LOAD_BUCKETS = [0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
const SEQUENCE_BUCKETS = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64]

/** What a processor counts. */
export class ProcessorMetrics {
  readonly #tokens: Counter<'model' | 'type'>
  readonly #prefill: Histogram<'model'>
  readonly #decode: Histogram<'model'>
  readonly #load: Histogram<'model'>
  readonly #sequences: Histogram<'model'>
  readonly #prepared = new Set<string>()

  constructor(registry: Registry, models: LocalModels) {
    const registers = [registry]
    const memories = memoryReader(models)
    new Gauge({
      name: 'infermesh_slots',
      help: 'Slots of loaded models, by whether a generation runs in them.',
      labelNames: ['state'],
      registers,
      collect() {
        const loads = models.all.map((model) => model.load)
        const busy = loads.reduce((sum, { busySlots }) => sum + busySlots, 0)
        this.set({ state: 'busy' }, busy)
        this.set({ state: 'free' }, loads.reduce((sum, { slots }) => sum + slots, 0) - busy)
      },
    })
    new Gauge({
      name: 'infermesh_gpu_memory_bytes',
      help: 'GPU memory: what models (model) and their contexts (context) take, what the devices have (total), and of that what anybody uses (used) and what is free. 0 where models run on the CPU.',
      labelNames: ['kind'],
      registers,
      async collect() {
        const used = models.all.flatMap(({ engine }) =>
          engine.state === 'loaded' && engine.info ? [engine.info.gpuMemory] : [],
        )
        this.set(
          { kind: 'model' },
          used.reduce((sum, { model }) => sum + model, 0),
        )
        this.set(
          { kind: 'context' },
          used.reduce((sum, { context }) => sum + context, 0),
        )
        this.set({ kind: 'total' }, Math.max(0, ...used.map(({ total }) => total)))
        // Of the devices: each engine that uses them says the same.
        const devices = (await memories()).map(({ memory }) => memory.gpu)
        this.set({ kind: 'used' }, Math.max(0, ...devices.map((gpu) => gpu.used)))
        this.set({ kind: 'free' }, Math.max(0, ...devices.map((gpu) => gpu.free)))
      },
    })
    new Gauge({
      name: 'infermesh_engine_memory_bytes',
      help: 'Memory of each engine process: in the machine’s (resident), and in the GPU’s for its model and context (gpu).',
      labelNames: ['model', 'kind'],
      registers,
      async collect() {
        const told = await memories()
        this.reset()
        for (const { name, engine } of models.all) {
          const { memory } = told.find((one) => one.name === name) ?? {}
          const isLoaded = engine.state === 'loaded'
          // An engine that does not answer takes memory all the same: nothing is told, which is not 0.
          if (memory !== undefined) this.set({ model: name, kind: 'resident' }, memory.residentBytes)
          else if (!isLoaded) this.set({ model: name, kind: 'resident' }, 0)
          const { model = 0, context = 0 } = (isLoaded && engine.info?.gpuMemory) || {}
          this.set({ model: name, kind: 'gpu' }, model + context)
        }
      },
    })
    new Gauge({
      name: 'infermesh_machine_memory_bytes',
      help: 'Memory of the processor’s machine: used, and free for more (file caches among it). Not told on macOS.',
      labelNames: ['kind'],
      registers,
      collect() {
        const free = availableMemory()
        if (!Number.isFinite(free)) return
        this.set({ kind: 'free' }, free)
        this.set({ kind: 'used' }, totalmem() - free)
      },
    })
    const labelNames = ['model'] as const
    this.#tokens = new Counter({
      name: 'infermesh_engine_tokens_total',
      help: 'Tokens that went through the engines: prompt (evaluated or cached), cached (found in the KV cache), completion.',
      labelNames: ['model', 'type'],
      registers,
      // Before any of the others by model is read.
      collect: () => {
        for (const { name } of models.all) this.#prepare(name)
      },
    })
    this.#prefill = new Histogram({
      name: 'infermesh_prefill_seconds',
      help: 'From a request’s arrival at the engine to its first token.',
      labelNames,
      buckets: PREFILL_BUCKETS,
      registers,
    })
    this.#decode = new Histogram({
      name: 'infermesh_decode_seconds',
      help: 'From a generation’s first token to its last.',
      labelNames,
      buckets: DECODE_BUCKETS,
      registers,
    })
    this.#load = new Histogram({
      name: 'infermesh_model_load_seconds',
      help: 'Time to start an engine and load its model.',
      labelNames,
      buckets: LOAD_BUCKETS,
      registers,
    })
    this.#sequences = new Histogram({
      name: 'infermesh_batch_sequences',
      help: 'Sequences that got a token in one decode step.',
      labelNames,
      buckets: SEQUENCE_BUCKETS,
      registers,
    })
    models.on('engine', (model) => this.#watch(model))
  }

  /** Has a model's series there before anything of it is counted: to begin a histogram is to empty it. */
  #prepare(model: string): void {
    if (this.#prepared.has(model)) return
    this.#prepared.add(model)
    for (const type of ['prompt', 'cached', 'completion']) this.#tokens.inc({ model, type }, 0)
    for (const histogram of [this.#prefill, this.#decode, this.#load, this.#sequences]) histogram.zero({ model })
  }

  /** Counts one generation that came to its end. */
  finished(model: string, { usage, prefillMs, decodeMs }: EngineFinish): void {
    this.#prepare(model)
    this.#tokens.inc({ model, type: 'prompt' }, usage.promptTokens)
    this.#tokens.inc({ model, type: 'cached' }, usage.cachedTokens)
    this.#prefill.observe({ model }, prefillMs / 1000)
    this.#decode.observe({ model }, decodeMs / 1000)
  }

  #watch({ name, engine }: LocalModel): void {
    this.#prepare(name)
    engine.on('step', (sequences, tokens) => {
      this.#sequences.observe({ model: name }, sequences)
      this.#tokens.inc({ model: name, type: 'completion' }, tokens)
    })
    let before = engine.state
    engine.on('change', () => {
      if (engine.state === 'loaded' && before !== 'loaded') this.#load.observe({ model: name }, engine.loadMs / 1000)
      before = engine.state
    })
  }
}

/** How long an engine has to say what it takes: a scrape waits for it. */
const MEMORY_MS = 300

/** Asks all engines what memory they take; who asks while that is under way gets the same. */
function memoryReader(models: LocalModels): () => Promise<{ name: string; memory: EngineMemory }[]> {
  let reading: Promise<{ name: string; memory: EngineMemory }[]> | undefined
  const read = async () => {
    const told = await Promise.all(
      models.all.map(async ({ name, engine }) => ({ name, memory: await engine.memory(MEMORY_MS) })),
    )
    return told.flatMap(({ name, memory }) => (memory === undefined ? [] : [{ name, memory }]))
  }
  return () => {
    reading ??= read().finally(() => (reading = undefined))
    return reading
  }
}
