import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshClient } from '../lib/client/index.js'
import { homeFiles } from '../lib/home/index.js'
import type { Role, WorkerStatus } from '../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'

/** What benches share: a mesh of real processes on loopback in a home of its own, and figures. */

export const CLI = join(PACKAGE_ROOT, 'dist', 'cli', 'main.js')
const WORKER = join(PACKAGE_ROOT, 'dist', 'worker.js')
const STAND_IN = join(PACKAGE_ROOT, 'dist', 'bench', 'stand-in-processor.js')
const START_MS = 20_000

export interface BenchMesh {
  home: string
  /** Process ids by the workers' names: the role, where it has no other. */
  pids: Map<string, number>
  /** Names of workers whose process is gone. */
  ended(): string[]
  client(): MeshClient
  /** How often a worker has warned that listeners leak. */
  warnings(): number
  stop(): Promise<void>
}

/** A home that is removed when the process ends. */
export function benchHome(): string {
  const home = mkdtempSync(join(tmpdir(), 'infermesh-bench-'))
  process.on('exit', () => rmSync(home, { recursive: true, force: true }))
  return home
}

/**
 * Starts one worker of each role as a process of its own.
 * @param standIn variables of the stand-in engine; absent: the embedded model
 * @param gateways names of the gateways, in their order
 */
export async function startMesh(
  options: {
    standIn?: Record<string, string>
    roles?: Role[]
    gateways?: string[]
    set?: Partial<Record<Role, string[]>>
  } = {},
): Promise<BenchMesh> {
  const { standIn, roles = ['auth', 'gateway', 'processor'], gateways = ['gateway'], set = {} } = options
  const home = benchHome()
  const children = new Map<string, ChildProcess>()
  const pids = new Map<string, number>()
  let warnings = 0
  const workers = roles.flatMap((role) =>
    (role === 'gateway' ? gateways : [role]).map((name): [Role, string] => [role, name]),
  )
  for (const [role, name] of workers) {
    const isStandIn = role === 'processor' && standIn !== undefined
    const settings = ['log.level=warn', 'http.port=0', 'metrics.port=0', ...(set[role] ?? [])].flatMap((one) => [
      '--set',
      one,
    ])
    const args = isStandIn
      ? [STAND_IN, home]
      : [WORKER, '--wtype', role, '--rack', name, '--data-dir', home, ...settings]
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...standIn },
    })
    child.stderr?.on('data', (bytes: Buffer) => {
      if (bytes.includes('MaxListenersExceededWarning')) warnings++
      process.stderr.write(bytes)
    })
    children.set(name, child)
    await untilReady(home, role, name, child)
    pids.set(name, child.pid as number)
  }
  const clients: MeshClient[] = []
  const mesh: BenchMesh = {
    home,
    pids,
    warnings: () => warnings,
    ended: () => [...children].filter(([, child]) => hasEnded(child)).map(([name]) => name),
    client() {
      const client = new MeshClient({ home })
      clients.push(client)
      return client
    },
    async stop() {
      await Promise.all(clients.map((client) => client.close()))
      await Promise.all([...children.values()].reverse().map((child) => end(child)))
    },
  }
  try {
    await untilServing(mesh)
  } catch (err) {
    await mesh.stop()
    throw err
  }
  return mesh
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

async function end(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await ended
}

async function untilReady(home: string, role: Role, name: string, child: ChildProcess): Promise<void> {
  const file = homeFiles(home).status(role, name)
  const deadline = Date.now() + START_MS
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`${name} exited with ${child.exitCode}`)
    if (existsSync(file) && readStatus(home, role, name).load.state === 'ready') return
    await sleep(10)
  }
  throw new Error(`${name} was not ready within ${START_MS} ms`)
}

async function untilServing(mesh: BenchMesh): Promise<void> {
  const { http } = readStatus(mesh.home, 'gateway').addresses
  const deadline = Date.now() + START_MS
  while (Date.now() < deadline) {
    if ((await fetch(`${http}/readyz`)).ok) return
    await sleep(20)
  }
  throw new Error(`the gateway was not ready to serve within ${START_MS} ms`)
}

export function readStatus(home: string, role: Role, name: string = role): WorkerStatus {
  return JSON.parse(readFileSync(homeFiles(home).status(role, name), 'utf8')) as WorkerStatus
}

/** Resident memory of a process and of its children, in MB (10^6 bytes). */
export function residentMb(pid: number): number {
  const rows = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,rss='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number) as [number, number, number])
  const kb = rows.filter(([own, parent]) => own === pid || parent === pid).reduce((sum, [, , rss]) => sum + rss, 0)
  return (kb * 1024) / 1e6
}

/** The p-th quantile (0 to 1) of some figures, by nearest rank. */
export function quantile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN
}

export interface Figure {
  what: string
  value: string
  /** What it should reach; absent where the figure is for information. */
  target?: string
  met?: boolean
}

/** A figure with an upper bound. */
export function atMost(what: string, value: number, bound: number, unit: string, digits = 1): Figure {
  return { what, value: `${value.toFixed(digits)} ${unit}`, target: `< ${bound} ${unit}`, met: value < bound }
}
