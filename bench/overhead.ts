import { join } from 'node:path'
import { inferenceRequestSchema } from '../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { Engine } from '../workers/processor/index.js'
import { atMost, type Figure, quantile, startMesh } from './harness.js'

const ROUNDS = 30
const WARM_UP = 20
/** Requests of one kind in a row: in turn one by one, each would find the processor's caches full of the other's work. */
const ROW = 10
const TOKENS = 48

interface Sample {
  firstMs: number
  perTokenMs: number
}

/** Times one stream from the asking to its last token. */
async function time(run: (onTokens: (count: number) => void) => Promise<unknown>): Promise<Sample> {
  const startedAt = performance.now()
  let firstMs = 0
  let lastAt = 0
  let tokens = 0
  await run((count) => {
    lastAt = performance.now()
    if (tokens === 0) firstMs = lastAt - startedAt
    tokens += count
  })
  return { firstMs, perTokenMs: (lastAt - startedAt - firstMs) / (tokens - 1) }
}

/**
 * What client, gateway and RPC add to calling the engine process directly: the same prompt through both, a row of
 * requests each in turn, so that a change of the machine's speed meets both.
 */
export async function overhead(): Promise<Figure[]> {
  const request = inferenceRequestSchema.parse({
    kind: 'completion',
    model: 'infermesh-tiny',
    prompt: 'Once upon a time there was a small brave fox who',
    maxTokens: TOKENS,
    sampling: { temperature: 1, seed: 7 },
  })
  const mesh = await startMesh()
  const engine = new Engine({
    modelPath: join(PACKAGE_ROOT, 'models', 'infermesh-tiny.Q8_0.gguf'),
    gpu: 'off',
    slots: 4,
    contextLength: 2048,
    threads: 0,
    loadTimeoutMs: 20_000,
    restartMinMs: 100,
    restartMaxMs: 1000,
  })
  try {
    await engine.load()
    const client = mesh.client()
    await client.connect()
    const { kind: _, ...completion } = request as Extract<typeof request, { kind: 'completion' }>
    const direct: Sample[] = []
    const through: Sample[] = []
    for (let round = 0; round < ROUNDS + WARM_UP; round++) {
      const plain: Sample[] = []
      const relayed: Sample[] = []
      for (let i = 0; i < ROW; i++)
        plain.push(await time((onTokens) => engine.generate(request, ({ ids }) => onTokens(ids.length))))
      for (let i = 0; i < ROW; i++) {
        const sample = await time(async (onTokens) => {
          for await (const { ids } of client.complete(completion)) onTokens(ids.length)
        })
        relayed.push(sample)
      }
      if (round < WARM_UP) continue
      direct.push(...plain)
      through.push(...relayed)
    }
    const added = (of: (sample: Sample) => number) => through.map((sample, i) => of(sample) - of(direct[i] as Sample))
    const firstMs = added(({ firstMs }) => firstMs)
    const perTokenMs = added(({ perTokenMs }) => perTokenMs)
    const p50 = (samples: Sample[], of: (sample: Sample) => number) => quantile(samples.map(of), 0.5)
    return [
      { what: 'engine alone: first token, p50', value: `${p50(direct, ({ firstMs }) => firstMs).toFixed(2)} ms` },
      { what: 'engine alone: per token, p50', value: `${p50(direct, ({ perTokenMs }) => perTokenMs).toFixed(3)} ms` },
      atMost('added to the first token, p50', quantile(firstMs, 0.5), 1.5, 'ms', 2),
      { what: 'added to the first token, p95', value: `${quantile(firstMs, 0.95).toFixed(2)} ms` },
      atMost('added per token, p50', quantile(perTokenMs, 0.5), 0.2, 'ms', 3),
      { what: 'added per token, p95', value: `${quantile(perTokenMs, 0.95).toFixed(3)} ms` },
    ]
  } finally {
    await engine.stop()
    await mesh.stop()
  }
}
