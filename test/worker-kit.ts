import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Test } from 'brittle'
import DHT, { type KeyPair, type NoiseStream } from 'hyperdht'
import { homeFiles } from '../lib/home/index.js'
import type { Link } from '../lib/link/index.js'
import {
  decodeKey,
  encodeJson,
  encodeKey,
  type Load,
  type MeshProfile,
  type Role,
  type WorkerStatus,
} from '../lib/protocol/index.js'
import { directoryKeys } from '../lib/store/index.js'
import { BaseWorker, type Net, type WorkerOptions, writeProfile } from '../lib/worker-base/index.js'

/** Workers that are nothing but the base, and an authority that admits whom the test says. */

export class TestWorker extends BaseWorker {
  readonly #prepare: ((net: Net) => void) | undefined

  /** @param prepare registers what it serves */
  constructor(role: Role, options: WorkerOptions, prepare?: (net: Net) => void) {
    super(role, options)
    this.#prepare = prepare
  }

  /** Load that it reports besides its state. */
  extraLoad: Partial<Load> = {}

  protected override async _prepare(): Promise<void> {
    this.#prepare?.(this.net)
  }

  protected override _load(): Partial<Load> {
    return this.extraLoad
  }
}

export class TestAuthority extends BaseWorker {
  #address = ''

  constructor(options: WorkerOptions) {
    super('auth', options)
  }

  protected override async _profile(): Promise<MeshProfile> {
    const core = this.store.own('directory')
    await core.ready()
    this.#address = encodeKey(core.key)
    return { address: this.#address, authority: this.publicKey, network: { kind: 'local', bootstrap: [] } }
  }

  protected override _directoryCore() {
    return this.store.own('directory')
  }

  protected override async _start(): Promise<void> {
    await this.admit(this)
    writeProfile(this.home, this.profile)
  }

  async admit(member: { publicKey: string; role: Role; name: string; notAfter?: number }): Promise<void> {
    const { publicKey, role, name, notAfter } = member
    await this.directory.bee.put(
      directoryKeys.member(publicKey),
      encodeJson({ publicKey, role, name, notAfter, addedAt: Date.now() }),
    )
  }

  async remove(publicKey: string): Promise<void> {
    await this.directory.bee.del(directoryKeys.member(publicKey))
  }
}

/** Settings that keep a test quick and its log out of the way. */
export function testOptions(home: string, name: string, options: Partial<WorkerOptions> = {}): WorkerOptions {
  const { flags, ...rest } = options
  return {
    home,
    name,
    environment: {},
    flags: { log: { level: process.env.TEST_LOG ?? 'silent' }, ...flags },
    terminal: process.env.TEST_LOG !== undefined,
    ...rest,
  }
}

/** Starts a worker that stops with the test. */
export async function start<W extends BaseWorker>(t: Test, worker: W, order = 0): Promise<W> {
  t.teardown(() => worker.stop(), { order })
  await worker.start()
  return worker
}

/** A home with a started authority. */
export async function startAuthority(t: Test): Promise<TestAuthority> {
  return start(t, new TestAuthority(testOptions(await t.tmp(), 'auth')), 1)
}

/** A started member of the authority's mesh, on the same home. */
export async function startMember(
  t: Test,
  authority: TestAuthority,
  role: Role,
  name: string,
  options: Partial<WorkerOptions> = {},
  prepare?: (net: Net) => void,
): Promise<TestWorker> {
  const worker = new TestWorker(role, testOptions(authority.home, name, options), prepare)
  await authority.admit(worker)
  return start(t, worker)
}

/** Resolves with what `probe` gives once it is neither undefined nor false, looking every few milliseconds. */
export async function until<T>(probe: () => T | undefined | false, what: string, withinMs = 5000): Promise<T> {
  const end = performance.now() + withinMs
  while (true) {
    const found = probe()
    if (found !== undefined && found !== false) return found
    if (performance.now() > end) throw new Error(`${what}: not within ${withinMs} ms`)
    await sleep(3)
  }
}

/** The link from one worker to another, once it is there. */
export function linked(from: BaseWorker, to: { publicKey: string }, withinMs = 15_000): Promise<Link> {
  return until(() => from.net.members.get(to.publicKey), `${from.name} is linked`, withinMs)
}

/** A bare connection to a worker, as anyone who knows its public key can make it. */
export async function dial(
  t: Test,
  authority: BaseWorker,
  publicKey: string,
  keyPair: KeyPair = DHT.keyPair(),
): Promise<NoiseStream> {
  const { bootstrap } = authority.profile.network
  const dht = new DHT({ bootstrap, host: '127.0.0.1', keyPair })
  t.teardown(() => dht.destroy({ force: true }), { order: -1 })
  for (let attempt = 0; attempt < 50; attempt++) {
    const conn = dht.connect(decodeKey(publicKey), { keyPair })
    const opened = await new Promise<boolean>((resolve) => {
      conn.on('open', () => resolve(true))
      conn.on('error', () => resolve(false))
    })
    if (opened) return conn
    await sleep(50)
  }
  throw new Error(`${publicKey} does not answer`)
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  stderr: string
}

export interface Child {
  process: ChildProcess
  exited: Promise<Exit>
}

/** Starts a Node program of the compiled tree, which is ended with the test. */
export function spawnNode(
  t: Test,
  script: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
  nodeArgs: string[] = [],
): Child {
  const path = fileURLToPath(new URL(`../${script}`, import.meta.url))
  const child = spawn(process.execPath, ['--enable-source-maps', ...nodeArgs, path, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
  })
  let stderr = ''
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString()
    if (process.env.TEST_LOG !== undefined) process.stderr.write(bytes)
  })
  const exited = new Promise<Exit>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal, stderr }))
  })
  const end = (): void => {
    child.kill('SIGKILL')
    child.kill('SIGCONT')
  }
  t.teardown(async () => {
    end()
    await exited
  })
  // Where this process crashes, its workers must not go on.
  process.once('exit', end)
  void exited.then(() => process.off('exit', end))
  return { process: child, exited }
}

/** A member in a process of its own, once its status file says that it is ready. */
export async function spawnMember(
  t: Test,
  authority: TestAuthority,
  role: Role,
  name: string,
  behaviour?: string,
): Promise<Child & WorkerStatus> {
  // Made here only for its identity: the child finds the same one in the home.
  await authority.admit(new TestWorker(role, testOptions(authority.home, name)))
  const child = spawnNode(t, 'test/worker-child.js', [
    role,
    authority.home,
    name,
    ...(behaviour === undefined ? [] : [behaviour]),
  ])
  return { ...child, ...(await ready(authority.home, role, name, child.process.pid)) }
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
