import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import autocannon from 'autocannon'
import { homeFiles } from '../lib/home/index.js'
import { atMost, type BenchMesh, type Figure, quantile, readStatus, startMesh } from './harness.js'
import { steadyLoad } from './http-load.js'

const ROUNDS = 300
const WARM_UP = 100
const LOAD_SECONDS = 10
const WARM_UP_SECONDS = 4
const CONNECTIONS = 100
const PER_SECOND = 1000
/** Generous, so that they are checked and never refuse. */
const LIMITS = { requestsPerMinute: 10_000_000, tokensPerMinute: 1_000_000_000, concurrentRequests: 10_000 }

export function addressOf(mesh: BenchMesh): { url: string; key: string } {
  const key = readFileSync(homeFiles(mesh.home).adminKey, 'utf8').trim()
  return { url: readStatus(mesh.home, 'gateway').addresses.http ?? '', key }
}

/** Milliseconds to the first event with a token of one stream over HTTP. */
function firstOverHttp(url: string, key: string, agent: Agent, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now()
    let firstMs = 0
    const one = request(
      `${url}/v1/completions`,
      {
        method: 'POST',
        agent,
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      },
      (response) => {
        response.once('data', () => {
          firstMs = performance.now() - startedAt
        })
        response.once('end', () => resolve(firstMs)).resume()
      },
    )
    one.once('error', reject)
    one.end(body)
  })
}

/** The HTTP door against the RPC door in turn, with the embedded model, so that a change of the machine's speed meets both. */
async function firstTokens(): Promise<Figure[]> {
  const mesh = await startMesh()
  const agent = new Agent({ keepAlive: true })
  try {
    const { url, key } = addressOf(mesh)
    const client = mesh.client()
    await client.connect()
    const asked = { prompt: 'Once upon a time there was a small brave fox who' }
    const overRpc = async (): Promise<number> => {
      const startedAt = performance.now()
      let firstMs = 0
      for await (const _ of client.complete({ ...asked, maxTokens: 4, sampling: { temperature: 1, seed: 7 } })) {
        if (firstMs === 0) firstMs = performance.now() - startedAt
      }
      return firstMs
    }
    const body = JSON.stringify({ ...asked, max_tokens: 4, temperature: 1, seed: 7, stream: true })
    const rpc: number[] = []
    const http: number[] = []
    for (let round = 0; round < ROUNDS + WARM_UP; round++) {
      // Each goes first half of the time: the second finds the prompt's state warm in the processor's caches.
      const inTurn = round % 2 === 0
      const early = inTurn ? await overRpc() : await firstOverHttp(url, key, agent, body)
      const late = inTurn ? await firstOverHttp(url, key, agent, body) : await overRpc()
      if (round < WARM_UP) continue
      rpc.push(inTurn ? early : late)
      http.push(inTurn ? late : early)
    }
    const added = http.map((ms, i) => ms - (rpc[i] as number))
    const headers = { authorization: `Bearer ${key}` }
    const takes = async (get: () => Promise<Response>): Promise<number> => {
      const startedAt = performance.now()
      await (await get()).text()
      return performance.now() - startedAt
    }
    const carried: number[] = []
    for (let round = 0; round < ROUNDS + WARM_UP; round++) {
      const direct = await takes(() => fetch(`${url}/v1/models`, { headers }))
      const overMesh = await takes(() => client.fetch('http://mesh/v1/models', { headers }))
      if (round >= WARM_UP) carried.push(overMesh - direct)
    }
    return [
      { what: 'RPC door: first token, p50', value: `${quantile(rpc, 0.5).toFixed(2)} ms` },
      { what: 'HTTP door: first token, p50', value: `${quantile(http, 0.5).toFixed(2)} ms` },
      atMost('HTTP adds to the first token, p50', quantile(added, 0.5), 1, 'ms', 2),
      atMost('mesh.fetch adds to GET /v1/models over HTTP, p50', quantile(carried, 0.5), 5, 'ms', 2),
    ]
  } finally {
    agent.destroy()
    await mesh.stop()
  }
}

/** A key with limits, once the gateway knows it. */
export async function limitedKey(mesh: BenchMesh, url: string): Promise<string> {
  const { key } = await mesh.client().admin.keys.create({ limits: LIMITS })
  const headers = { authorization: `Bearer ${key}` }
  while (!(await fetch(`${url}/v1/models`, { headers })).ok) await sleep(10)
  return key
}

/** Short answers that are not streamed, from an engine that only keeps time, with a key, its limits and the journal. */
async function rate(): Promise<Figure[]> {
  const mesh = await startMesh({ standIn: { STAND_IN_TOKENS_PER_S: '1000', STAND_IN_TICK_MS: '0' } })
  try {
    const { url } = addressOf(mesh)
    const key = await limitedKey(mesh, url)
    const asked = {
      url: `${url}/v1/completions`,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'count', max_tokens: 1 }),
      connections: CONNECTIONS,
    }
    const load = (seconds: number) => steadyLoad({ ...asked, perSecond: PER_SECOND, seconds })
    await load(WARM_UP_SECONDS)
    const { latencies, statuses, seconds } = await load(LOAD_SECONDS)
    // Each connection asks again as soon as it was answered: how much the gateway can take, not how long one waits.
    const flatOut = await autocannon({ ...asked, method: 'POST', duration: LOAD_SECONDS })
    const failed = [...statuses].filter(([status]) => status !== 200)
    const total = Math.round(PER_SECOND * LOAD_SECONDS)
    return [
      {
        what: `completions over ${CONNECTIONS} connections, ${PER_SECOND}/s asked`,
        value: `${(latencies.length / seconds).toFixed(0)}/s`,
        target: `> ${PER_SECOND * 0.98}/s`,
        met: latencies.length / seconds > PER_SECOND * 0.98,
      },
      atMost('whole answer, p50', quantile(latencies, 0.5), 5, 'ms', 2),
      {
        what: 'whole answer, p95 / p99',
        value: `${quantile(latencies, 0.95).toFixed(1)} / ${quantile(latencies, 0.99).toFixed(1)} ms`,
      },
      {
        what: `failed, of ${total}`,
        value: failed.length === 0 ? '0' : failed.map(([status, count]) => `${count} x ${status}`).join(', '),
        target: '0',
        met: failed.length === 0,
      },
      {
        what: `as fast as ${CONNECTIONS} connections can ask (autocannon)`,
        value: `${flatOut.requests.average.toFixed(0)}/s, p50 ${flatOut.latency.p50} ms, ${flatOut.non2xx + flatOut.errors} failed`,
      },
    ]
  } finally {
    await mesh.stop()
  }
}

/** What the HTTP door costs: to the first token beside the RPC door, and at a thousand short requests a second. */
export async function http(): Promise<Figure[]> {
  return [...(await firstTokens()), ...(await rate())]
}
