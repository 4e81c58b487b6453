import { existsSync, readFileSync } from 'node:fs'
import type { Test } from 'brittle'
import { homeFiles } from '../../lib/home/index.js'
import type { Link } from '../../lib/link/index.js'
import type { Load, Role, WorkerStatus } from '../../lib/protocol/index.js'
import { BaseWorker, type Net, type WorkerOptions } from '../../lib/worker-base/index.js'
import { AuthWorker } from '../../workers/auth/index.js'
import { type Child, spawnNode } from './process.js'
import { onTeardown } from './teardown.js'
import { until } from './wait.js'

/** Workers in the test's own process, on loopback, on a private network of their home. They stop with the test. */

/** A home that is removed after the test. */
export function testHome(t: Test): Promise<string> {
  return t.tmp()
}

/** Options for any worker in a test: nothing is logged but with TEST_LOG, and nothing of the real environment is read. */
export function testOptions(home: string, name: string, flags: WorkerOptions['flags'] = {}): WorkerOptions {
  return {
    home,
    name,
    environment: {},
    flags: { log: { level: process.env.TEST_LOG ?? 'silent' }, http: { port: 0 }, ...flags },
    terminal: process.env.TEST_LOG !== undefined,
  }
}

/** A worker of any role that does no more than what every worker does, and what the test adds. */
export class TestWorker extends BaseWorker {
  readonly #prepare: ((net: Net) => void) | undefined
  /** Why it could not go on, where that happened. */
  failure: Error | undefined
  /** Load that it reports besides its state. */
  extraLoad: Partial<Load> = {}

  /** @param prepare registers what it serves */
  constructor(role: Role, options: WorkerOptions, prepare?: (net: Net) => void) {
    super(role, {
      ...options,
      onFatal: (err) => {
        this.failure = err
        options.onFatal?.(err)
      },
    })
    this.#prepare = prepare
  }

  protected override async _prepare(): Promise<void> {
    this.#prepare?.(this.net)
  }

  protected override _load(): Partial<Load> {
    return this.extraLoad
  }
}

/** Starts a worker, and stops it after the test. */
export async function start<W extends BaseWorker>(t: Test, worker: W): Promise<W> {
  onTeardown(t, () => worker.stop())
  await worker.start()
  return worker
}

/** The authority of a home; makes the mesh at its first start. */
export function startAuth(t: Test, home: string, flags: WorkerOptions['flags'] = {}): Promise<AuthWorker> {
  return start(t, new AuthWorker(testOptions(home, 'auth', flags)))
}

/** Waits until a worker is linked to the authority and listed in the directory. */
export async function untilJoined(worker: BaseWorker): Promise<void> {
  await until(
    () => worker.directory.member(worker.publicKey) !== undefined && worker.net.members.has(worker.profile.authority),
    `${worker.role} ${worker.name} has joined`,
  )
}

/** The link from one worker to another, once it is there. */
export function linked(from: BaseWorker, to: { publicKey: string }, withinMs = 15_000): Promise<Link> {
  return until(() => from.net.members.get(to.publicKey), `${from.name} is linked`, withinMs)
}

/** The API key that the home's first start made for its admin. */
export function adminKey(home: string): string {
  return readFileSync(homeFiles(home).adminKey, 'utf8').trim()
}

/** What a worker's status file says once the worker is ready. */
export function ready(home: string, role: Role, name: string, pid?: number, withinMs = 10_000): Promise<WorkerStatus> {
  return until(
    () => {
      const status = readStatus(home, role, name)
      return status?.load.state === 'ready' && (pid === undefined || status.pid === pid) ? status : undefined
    },
    `${role} ${name} is ready`,
    withinMs,
  )
}

export function readStatus(home: string, role: Role, name: string): WorkerStatus | undefined {
  try {
    return JSON.parse(readFileSync(homeFiles(home).status(role, name), 'utf8')) as WorkerStatus
  } catch {
    return undefined
  }
}

/** A gateway in a process of its own, once it serves. @returns its HTTP address as well */
export async function spawnGateway(t: Test, home: string, name: string): Promise<{ child: Child; url: string }> {
  const settings = ['log.level=silent', 'http.port=0'].flatMap((one) => ['--set', one])
  const child = spawnNode(t, 'worker.js', ['--wtype', 'gateway', '--rack', name, '--data-dir', home, ...settings])
  const file = homeFiles(home).status('gateway', name)
  let url = ''
  const serves = async (): Promise<boolean> => {
    const status = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as WorkerStatus) : undefined
    if (status?.pid !== child.process.pid || status?.addresses.http === undefined) return false
    url = status.addresses.http
    return (await fetch(`${url}/readyz`)).ok
  }
  await until(() => serves().catch(() => false), 'the gateway serves', 20_000)
  return { child, url }
}
