import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type BenchMesh, startMesh } from './harness.js'
import { addressOf, limitedKey } from './http.js'
import { steadyLoad } from './http-load.js'

/**
 * Loads one gateway for a while and watches what it holds: `node dist/bench/soak.js [--seconds 60] [--rate 500]`. The
 * full run takes 20 minutes (`--seconds 1200`). Exits with 1 where memory grows by 5 % or more after the first quarter,
 * where descriptors or listeners are left over, or where a request fails.
 *
 * Most requests are short completions; beside them streams are read to their end, and others are left half way.
 */

const SAMPLE_MS = 2000
const CONNECTIONS = 100
const MOST_GROWTH = 0.05
const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, rate: { type: 'string', default: '500' } },
})
const seconds = Number(values.seconds)
const perSecond = Number(values.rate)

interface Sample {
  atS: number
  rssMb: number
  sockets: number
}

/** Not files: the store opens more of them as it grows, up to a bound of its own. */
function socketsOf(pid: number): number {
  if (!existsSync(`/proc/${pid}/fd`)) return Number.NaN
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('socket:')
    } catch {
      // Closed in between.
      return false
    }
  }).length
}

function sample(pid: number, startedAt: number): Sample {
  const status = existsSync(`/proc/${pid}/status`) ? readFileSync(`/proc/${pid}/status`, 'utf8') : ''
  const kb = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN)
  return { atS: (performance.now() - startedAt) / 1000, rssMb: (kb * 1024) / 1e6, sockets: socketsOf(pid) }
}

/** Reads one stream after another: every second one is left after its first event. */
async function streams(url: string, key: string, until: number): Promise<{ read: number; left: number }> {
  const agent = new Agent({ keepAlive: true })
  const body = JSON.stringify({ messages: [{ role: 'user', content: 'count' }], max_tokens: 40, stream: true })
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const counts = { read: 0, left: 0 }
  while (performance.now() < until) {
    const leaves = (counts.read + counts.left) % 2 === 1
    await new Promise<void>((resolve) => {
      const one = request(`${url}/v1/chat/completions`, { method: 'POST', agent, headers }, (response) => {
        if (leaves) response.once('data', () => response.destroy())
        response.resume().once('close', () => resolve())
      })
      one.once('error', () => resolve())
      one.end(body)
    })
    if (leaves) counts.left++
    else counts.read++
  }
  agent.destroy()
  return counts
}

const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN

async function soak(mesh: BenchMesh): Promise<boolean> {
  const pid = mesh.pids.get('gateway') as number
  const { url } = addressOf(mesh)
  const key = await limitedKey(mesh, url)
  const startedAt = performance.now()
  const idle = sample(pid, startedAt)
  const warnings = mesh.warnings()
  const samples: Sample[] = []
  const watch = setInterval(() => samples.push(sample(pid, startedAt)), SAMPLE_MS)
  const [load, counts] = await Promise.all([
    steadyLoad({
      url: `${url}/v1/completions`,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'count', max_tokens: 1 }),
      connections: CONNECTIONS,
      perSecond,
      seconds,
    }),
    streams(url, key, startedAt + seconds * 1000),
  ])
  clearInterval(watch)
  // The load's connections are closed now: what is still open a moment later is lost.
  await sleep(2000)
  const after = sample(pid, startedAt)

  const settled = samples.filter(({ atS }) => atS > seconds / 4)
  const half = Math.floor(settled.length / 2)
  const early = median(settled.slice(0, half).map(({ rssMb }) => rssMb))
  const late = median(settled.slice(half).map(({ rssMb }) => rssMb))
  const growth = late / early - 1
  const leaked = after.sockets - idle.sockets
  const listeners = mesh.warnings() - warnings
  const failed = [...load.statuses].filter(([status]) => status !== 200)
  const met = growth < MOST_GROWTH && leaked <= 2 && listeners === 0 && failed.length === 0
  process.stdout.write(
    [
      `| soak, ${seconds} s at ${perSecond}/s | measured | target |`,
      '|---|---|---|',
      `| completions answered | ${load.latencies.length} (${(load.latencies.length / load.seconds).toFixed(0)}/s) | |`,
      `| failed | ${failed.map(([status, count]) => `${count} x ${status}`).join(', ') || 0} | 0 |`,
      `| streams read, and left half way | ${counts.read}, ${counts.left} | |`,
      `| gateway memory idle / early / late | ${idle.rssMb.toFixed(0)} / ${early.toFixed(0)} / ${late.toFixed(0)} MB | |`,
      `| growth after the first quarter | ${(growth * 100).toFixed(1)} % | < 5 % |`,
      `| sockets before, most, after | ${idle.sockets}, ${Math.max(...samples.map((one) => one.sockets))}, ${after.sockets} | as before |`,
      `| warnings of leaking listeners | ${listeners} | 0 |`,
      '',
    ].join('\n'),
  )
  return met
}

const mesh = await startMesh({ standIn: { STAND_IN_TOKENS_PER_S: '1000', STAND_IN_TICK_MS: '1' } })
try {
  process.exitCode = (await soak(mesh)) ? 0 : 1
} finally {
  await mesh.stop()
}
process.exit()
