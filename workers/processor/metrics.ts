import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { EngineFinish } from './engine/index.js'
import type { LocalModel } from './local-model.js'
import type { LocalModels } from './local-models.js'

const PREFILL_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const DECODE_BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
const LOAD_BUCKETS = [0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
const SEQUENCE_BUCKETS = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64]

/** What a processor counts. */
export class ProcessorMetrics {
  readonly #tokens: Counter<'model' | 'type'>
  readonly #prefill: Histogram<'model'>
  readonly #decode: Histogram<'model'>
  readonly #load: Histogram<'model'>
  readonly #sequences: Histogram<'model'>

  constructor(registry: Registry, models: LocalModels) {
    const registers = [registry]
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
      help: 'GPU memory by what it holds; total is what the devices have. 0 where models run on the CPU.',
      labelNames: ['kind'],
      registers,
      collect() {
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
      },
    })
    const labelNames = ['model'] as const
    this.#tokens = new Counter({
      name: 'infermesh_engine_tokens_total',
      help: 'Tokens that went through the engines: prompt (evaluated or cached), cached (found in the KV cache), completion.',
      labelNames: ['model', 'type'],
      registers,
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

  /** Counts one generation that came to its end. */
  finished(model: string, { usage, prefillMs, decodeMs }: EngineFinish): void {
    this.#tokens.inc({ model, type: 'prompt' }, usage.promptTokens)
    this.#tokens.inc({ model, type: 'cached' }, usage.cachedTokens)
    this.#prefill.observe({ model }, prefillMs / 1000)
    this.#decode.observe({ model }, decodeMs / 1000)
  }

  #watch({ name, engine }: LocalModel): void {
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
