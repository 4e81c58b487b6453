import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { findStatus, type WorkerName } from '../../lib/home/index.js'
import { MeshError, type Role, type WorkerStatus } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'

const WORKER = fileURLToPath(new URL('../../worker.js', import.meta.url))

/** Exit codes of what a restart does not mend: wrong usage, not allowed, wrong configuration. */
const FINAL_CODES: ReadonlySet<number> = new Set([64, 77, 78])
const UNAVAILABLE_CODE = 69
const STORE_LOCKED_CODE = 75
const BACKOFF_MS = { first: 250, last: 30_000 } as const
/** A worker that ran this long has proved itself: its next crash is its first. */
const PROVED_MS = 30_000
/** A worker that has never been ready is given up after so many crashes. */
const MAX_CRASHES_BEFORE_READY = 3
const KEPT_LINES = 20
/** What a held worker waits for. */
const GO = 'go'
/** How `infermesh up` is told of another port. */
const PORT_FLAGS: Partial<Record<Role, string>> = { gateway: '--http-port', metrics: '--metrics-port' }

export interface WorkerSpec extends WorkerName {
  /** `facility.key=value`, for --set. */
  settings: string[]
}

export type ChildState = 'waiting' | 'starting' | 'ready' | 'restarting' | 'failed' | 'stopped'

/** One worker as a child process, started again when it crashes. */
export class Child {
  readonly role: Role
  readonly name: string
  state: ChildState = 'waiting'
  restarts = 0
  /** Why it failed or is being restarted. */
  reason: MeshError | undefined
  readonly #spec: WorkerSpec
  readonly #home: string
  readonly #changed: (child: Child) => void
  #process: ChildProcess | undefined
  /** It is to wait for the word before it goes to the network. */
  #held = false
  #startedAt = 0
  #crashes = 0
  #wasReady = false
  #timer: NodeJS.Timeout | undefined
  #stopping = false
  #ended: Promise<void> = Promise.resolve()

  /** @param changed called whenever the state changes */
  constructor(home: string, spec: WorkerSpec, changed: (child: Child) => void) {
    this.role = spec.role
    this.name = spec.name
    this.#home = home
    this.#spec = spec
    this.#changed = changed
  }

  /** Whether it waits for `release`. */
  get isHeld(): boolean {
    return this.#held
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** What its status file says, where it was written by this very process. */
  get status(): WorkerStatus | undefined {
    const status = findStatus(this.#home, this)
    return status !== undefined && status.pid === this.pid ? status : undefined
  }

  /** Starts it, but not into the network: until `release` it opens its own stores and loads its models. */
  startHeld(): void {
    this.#held = true
    this.start()
  }

  /** Lets one that was started held go on. */
  release(): void {
    this.#held = false
    // One that has just ended is started again, and not held.
    if (this.#process?.connected) this.#process.send(GO, () => {})
  }

  /** Starts it for the first time, after a crash, or after a stop. */
  start(): void {
    const { role, name, settings } = this.#spec
    if (this.#stopping) {
      this.#stopping = false
      this.#crashes = 0
      this.#wasReady = false
      this.reason = undefined
    }
    const child = spawn(
      process.execPath,
      [
        WORKER,
        ...['--wtype', role, '--rack', name, '--data-dir', this.#home],
        ...settings.flatMap((setting) => ['--set', setting]),
        ...(this.#held ? ['--held'] : []),
      ],
      // A group of its own: a terminal's Ctrl-C reaches the supervisor only, which then stops its workers in order.
      { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], detached: process.platform !== 'win32', windowsHide: true },
    )
    this.#process = child
    this.#startedAt = performance.now()
    const lines: string[] = []
    if (child.stderr) {
      createInterface({ input: child.stderr }).on('line', (line) => {
        lines.push(line)
        if (lines.length > KEPT_LINES) lines.shift()
      })
    }
    this.#ended = new Promise((resolve) => {
      child.once('error', (err) => {
        lines.push(err.message)
        this.#onExit(null, null, lines)
        resolve()
      })
      // 'close' comes after 'exit', when the last line has been read too.
      child.once('close', (code, signal) => {
        this.#onExit(code, signal, lines)
        resolve()
      })
    })
    this.#set('starting')
  }

  /** Looks whether the worker says that it is ready. */
  check(): void {
    if (this.state === 'starting' && this.status?.load.state === 'ready') {
      this.#wasReady = true
      this.#set('ready')
    }
  }

  /** Asks the worker to drain and stop, and waits until it has. */
  async stop(): Promise<void> {
    this.#stopping = true
    clearTimeout(this.#timer)
    this.kill('SIGTERM')
    await this.#ended
    if (this.state !== 'failed') this.#set('stopped')
  }

  kill(signal: NodeJS.Signals): void {
    if (this.#process?.exitCode === null && this.#process.signalCode === null) this.#process.kill(signal)
  }

  #onExit(code: number | null, signal: NodeJS.Signals | null, lines: string[]): void {
    this.#process = undefined
    if (this.#stopping) return
    const now = performance.now()
    if (now - this.#startedAt > PROVED_MS) this.#crashes = 0
    this.#crashes++
    this.reason = reasonOf(this.#home, this.#spec, code, signal, lines)
    const hopeless =
      (code !== null && FINAL_CODES.has(code)) ||
      (!this.#wasReady && (code === STORE_LOCKED_CODE || this.#crashes >= MAX_CRASHES_BEFORE_READY))
    if (hopeless) return this.#set('failed')
    this.restarts++
    this.#timer = setTimeout(() => this.start(), Math.min(BACKOFF_MS.first * 2 ** (this.#crashes - 1), BACKOFF_MS.last))
    this.#set('restarting')
  }

  #set(state: ChildState): void {
    this.state = state
    this.#changed(this)
  }
}

/** Why a worker ended, from what it said last. */
function reasonOf(
  home: string,
  { role, name }: WorkerName,
  code: number | null,
  signal: NodeJS.Signals | null,
  lines: string[],
): MeshError {
  const said = lines.findLast((line) => line.startsWith('infermesh: '))?.slice('infermesh: '.length)
  const last = said ?? lines.findLast((line) => line.trim() !== '')
  const who = `${role} ${name}`
  const message =
    last === undefined ? `${who} ended ${signal ? `by ${signal}` : `with code ${code}`}` : `${who}: ${last}`
  const details = { role, name }
  if (/ is in use by .*port/.test(message)) {
    const flag = PORT_FLAGS[role]
    return MeshError.PORT_IN_USE(flag === undefined ? message : `${message}: ${command(`up ${flag} 0`, home)}`, details)
  }
  switch (code) {
    case 64:
      return MeshError.BAD_REQUEST(message, details)
    case STORE_LOCKED_CODE:
      return MeshError.STORE_LOCKED(message, details)
    case 77:
      return MeshError.NOT_A_MEMBER(message, details)
    case 78:
      return MeshError.CONFIG_INVALID(message, details)
    case UNAVAILABLE_CODE:
      return /disk/.test(message) ? MeshError.DISK_FULL(message, details) : MeshError.DHT_UNREACHABLE(message, details)
    default:
      return MeshError.INTERNAL(message, details)
  }
}
