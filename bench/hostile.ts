import { fork } from 'node:child_process'
import { Agent, request } from 'node:http'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { type BenchMesh, quantile, readStatus, residentMb, startMesh } from './harness.js'
import type { Target } from './hostile/attacks.js'
import { limitedKey } from './http.js'

/**
 * Attacks a mesh while eight honest streams read from it: `node dist/bench/hostile.js [--seconds 60] [--every 100] [--slower 3]`. The
 * full run takes ten minutes (`--seconds 600`). Exits with 1 where an honest request fails, where the honest wait more
 * than three times as long as when it is quiet, where a worker ends, or where memory grows.
 *
 * Two gateways and one processor with the embedded model. The attackers hold a user's key and password, and are a
 * process of the lowest priority, so that what they cost themselves is not taken for what they cost the mesh.
 */

const STREAMS = 8
const TOKENS = 200
const QUIET_SHARE = 0.2
const SAMPLE_MS = 2000
const MOST_GROWTH = 0.1
const GATEWAYS = ['gateway', 'g2']
const SETTLE_MS = 15_000
const STALL_MS = 30_000
/** Shorter runs say nothing of memory: a process grows in its first minutes. */
const MEMORY_S = 300
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    every: { type: 'string', default: '100' },
    /** How many times slower the honest may become. */
    slower: { type: 'string', default: '3' },
  },
})
const mostSlower = Number(values.slower)
const seconds = Number(values.seconds)

interface Honest {
  gaps: number[]
  answers: number
  failures: string[]
}

/** Reads one answer, noting the milliseconds between its events. @returns why it failed */
function readStream(url: string, key: string, agent: Agent, honest: Honest): Promise<string | undefined> {
  const body = JSON.stringify({
    model: 'infermesh-tiny',
    messages: [{ role: 'user', content: 'Tell me about the sea.' }],
    max_tokens: TOKENS,
    stream: true,
  })
  return new Promise((resolve) => {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const one = request(`${url}/v1/chat/completions`, { method: 'POST', agent, headers }, (response) => {
      let lastAt = 0
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        const now = performance.now()
        if (lastAt > 0) honest.gaps.push(now - lastAt)
        lastAt = now
        text = (text + part).slice(-2000)
      })
      response.once('close', () => resolve(text.includes('[DONE]') ? undefined : `${response.statusCode} ${text}`))
    })
    one.once('error', (err) => resolve(err.message))
    one.setTimeout(STALL_MS, () => one.destroy(new Error(`nothing came for ${STALL_MS / 1000} s`)))
    one.end(body)
  })
}

/** Eight streams at a time, each after the one before, for a while. */
async function readHonestly(urls: string[], key: string, forMs: number): Promise<Honest> {
  const honest: Honest = { gaps: [], answers: 0, failures: [] }
  const agent = new Agent({ keepAlive: true })
  const until = performance.now() + forMs
  const reader = async (url: string) => {
    while (performance.now() < until) {
      const failure = await readStream(url, key, agent, honest)
      if (failure === undefined) honest.answers++
      else honest.failures.push(failure)
    }
  }
  await Promise.all(Array.from({ length: STREAMS }, (_, i) => reader(urls[i % urls.length] ?? '')))
  agent.destroy()
  return honest
}

/** A user with limits as an admin gives them to somebody who is not trusted. */
async function makeAttacker(mesh: BenchMesh, urls: string[]): Promise<Target> {
  const { admin } = mesh.client()
  const user = 'mallory'
  const password = 'mallory was here'
  await admin.users.add({ name: user, password, limits: { concurrentRequests: 4, tokensPerMinute: 100_000 } })
  const { key } = await admin.keys.create({ user })
  for (const url of urls) {
    while (!(await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).ok) await sleep(20)
  }
  const gateways = GATEWAYS.map((name) => readStatus(mesh.home, 'gateway', name).publicKey)
  return { home: mesh.home, urls, gateways, key, user, password }
}

/** Attacks until it is told to stop. @returns how often each attack was made */
function startAttacks(target: Target): () => Promise<Record<string, number>> {
  const script = join(PACKAGE_ROOT, 'dist', 'bench', 'hostile', 'attacker.js')
  const child = fork(script, [JSON.stringify(target), String(values.every)])
  if (child.pid !== undefined) setPriority(child.pid, 19)
  const told = new Promise<Record<string, number>>((resolve, reject) => {
    child.once('message', (done: Record<string, number>) => resolve(done))
    child.once('exit', (code) => reject(new Error(`the attackers ended with ${code}`)))
  })
  told.catch(() => {})
  return () => {
    child.kill('SIGTERM')
    return told
  }
}

const memoryOf = (mesh: BenchMesh): Map<string, number> =>
  new Map([...mesh.pids].map(([name, pid]) => [name, residentMb(pid)]))

const median = (numbers: number[]): number => quantile(numbers, 0.5)

async function hostile(mesh: BenchMesh): Promise<boolean> {
  const urls = GATEWAYS.map((name) => readStatus(mesh.home, 'gateway', name).addresses.http ?? '')
  const key = await limitedKey(mesh, urls[0] ?? '')
  while (!(await fetch(`${urls[1]}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).ok) await sleep(20)
  const target = await makeAttacker(mesh, urls)
  // The first seconds of a process are its slowest.
  await readHonestly(urls, key, 3000)
  const quiet = await readHonestly(urls, key, seconds * QUIET_SHARE * 1000)

  const samples: Map<string, number>[] = []
  const watch = setInterval(() => samples.push(memoryOf(mesh)), SAMPLE_MS)
  const stop = startAttacks(target)
  const beside = await readHonestly(urls, key, seconds * 1000)
  const attacks = await stop()
  clearInterval(watch)
  await sleep(Math.min(SETTLE_MS, seconds * 100))
  const after = await readHonestly(urls, key, 3000)

  const ended = mesh.ended()
  const settled = samples.slice(Math.floor(samples.length / 4))
  const half = Math.floor(settled.length / 2)
  const growth = [...mesh.pids.keys()].map((name) => {
    const of = (part: Map<string, number>[]) => median(part.map((sample) => sample.get(name) ?? Number.NaN))
    const [early, late] = [of(settled.slice(0, half)), of(settled.slice(half))]
    return { name, early, late, grown: late / early - 1 }
  })
  const slower = quantile(beside.gaps, 0.99) / quantile(quiet.gaps, 0.99)
  const failures = [...quiet.failures, ...beside.failures, ...after.failures]
  const gaps = ({ gaps }: Honest) => [0.5, 0.99, 1].map((p) => quantile(gaps, p).toFixed(1)).join(' / ')
  process.stdout.write(
    [
      `| ${seconds} s of attacks, one each ${values.every} ms | measured | target |`,
      '|---|---|---|',
      `| attacks | ${Object.values(attacks).reduce((sum, count) => sum + count, 0)} of ${Object.keys(attacks).length} kinds | |`,
      `| honest answers, quiet / beside attacks | ${quiet.answers} / ${beside.answers} | |`,
      `| honest failures | ${failures.length}${failures[0] === undefined ? '' : ` (${failures[0].slice(0, 300)})`} | 0 |`,
      `| between tokens p50 / p99 / most, quiet | ${gaps(quiet)} ms | |`,
      `| beside attacks | ${gaps(beside)} ms | |`,
      `| afterwards | ${gaps(after)} ms | |`,
      `| p99 against the quiet | ${slower.toFixed(2)} | < ${mostSlower} |`,
      `| workers that ended | ${ended.join(', ') || 'none'} | none |`,
      ...growth.map(
        ({ name, early, late, grown }) =>
          `| memory of ${name}, early / late | ${early.toFixed(0)} / ${late.toFixed(0)} MB (${(grown * 100).toFixed(1)} %) | ${seconds < MEMORY_S ? '' : `< ${MOST_GROWTH * 100} %`} |`,
      ),
      '',
    ].join('\n'),
  )
  return (
    failures.length === 0 &&
    slower < mostSlower &&
    ended.length === 0 &&
    (seconds < MEMORY_S || growth.every(({ grown }) => grown < MOST_GROWTH))
  )
}

const mesh = await startMesh({ gateways: GATEWAYS, set: { processor: ['engine.slots=16'] } })
try {
  process.exitCode = (await hostile(mesh)) ? 0 : 1
} finally {
  await mesh.stop()
}
process.exit()
