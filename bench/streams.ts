import type { MeshClient } from '../lib/client/index.js'
import { atMost, type BenchMesh, type Figure, quantile, residentMb, startMesh } from './harness.js'

const STREAMS = 200
const QUEUED = 1000
const TOKENS = 100
const TOKENS_PER_S = 20
const CLIENTS = 8

interface Outcome {
  tokens: number
  gaps: number[]
  error?: string
}

/** Reads one stream and checks each token's position. */
async function readStream(client: MeshClient, maxTokens: number): Promise<Outcome> {
  const gaps: number[] = []
  let tokens = 0
  let lastAt = 0
  try {
    for await (const { index, ids } of client.complete({ prompt: 'count', maxTokens })) {
      if (index !== tokens) return { tokens, gaps, error: `token ${index} came where ${tokens} was next` }
      tokens += ids.length
      const now = performance.now()
      if (lastAt > 0) gaps.push(now - lastAt)
      lastAt = now
    }
    return tokens === maxTokens ? { tokens, gaps } : { tokens, gaps, error: `${tokens} of ${maxTokens} tokens` }
  } catch (err) {
    return { tokens, gaps, error: (err as Error).message }
  }
}

/** Runs streams at the same time and watches the gateway's memory. */
async function load(mesh: BenchMesh, clients: MeshClient[], streams: number, maxTokens: number) {
  const gatewayPid = mesh.pids.get('gateway') as number
  let peakMb = 0
  const watch = setInterval(() => {
    peakMb = Math.max(peakMb, residentMb(gatewayPid))
  }, 250)
  const startedAt = performance.now()
  const outcomes = await Promise.all(
    Array.from({ length: streams }, (_, i) => readStream(clients[i % clients.length] as MeshClient, maxTokens)),
  )
  clearInterval(watch)
  const failed = outcomes.filter(({ error }) => error !== undefined)
  return {
    seconds: (performance.now() - startedAt) / 1000,
    peakMb,
    failed,
    tokens: outcomes.reduce((sum, outcome) => sum + outcome.tokens, 0),
    gaps: outcomes.flatMap((outcome) => outcome.gaps),
  }
}

/** Many streams through one gateway, with an engine that only keeps time. */
export async function streams(): Promise<Figure[]> {
  const mesh = await startMesh({
    standIn: { STAND_IN_TOKENS_PER_S: String(TOKENS_PER_S), STAND_IN_SLOTS: String(STREAMS) },
    // All are one user's, who has a quarter of the queue.
    set: { gateway: [`gateway.queueLimit=${4 * QUEUED}`] },
  })
  try {
    const clients = Array.from({ length: CLIENTS }, () => mesh.client())
    await Promise.all(clients.map((client) => client.connect()))
    const steady = await load(mesh, clients, STREAMS, TOKENS)
    const queued = await load(mesh, clients, QUEUED, TOKENS / 5)
    const faults = (what: string, { failed }: { failed: { error?: string }[] }): Figure => ({
      what,
      value: failed.length === 0 ? '0' : `${failed.length} (${failed[0]?.error})`,
      target: '0',
      met: failed.length === 0,
    })
    return [
      faults(
        `${STREAMS} streams of ${TOKENS} tokens at ${TOKENS_PER_S}/s: failed, lost, doubled or out of order`,
        steady,
      ),
      { what: 'tokens/s through the gateway', value: (steady.tokens / steady.seconds).toFixed(0) },
      {
        what: 'time between tokens, p50 / p99',
        value: `${quantile(steady.gaps, 0.5).toFixed(1)} / ${quantile(steady.gaps, 0.99).toFixed(1)} ms`,
      },
      atMost('gateway memory, peak', Math.max(steady.peakMb, queued.peakMb), 250, 'MB', 0),
      faults(`${QUEUED} requests at once, ${STREAMS} slots: failed`, queued),
    ]
  } finally {
    await mesh.stop()
  }
}
