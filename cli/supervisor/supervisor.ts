import { EventEmitter } from 'node:events'
import { releaseSupervisor } from '../../lib/home/index.js'
import { MeshError, type WorkerStatus } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { leftOut } from './admission.js'
import { Child, type WorkerSpec } from './child.js'
import { SupervisorLog } from './log.js'
import { claimHome } from './state.js'

const CHECK_MS = 10
/** How long the workers may take to be ready. */
const READY_MS = 60_000

/** Runs the workers of one home: starts them, restarts what crashes, stops them in order. Emits `change` with the worker, and `restarted`. */
export class Supervisor extends EventEmitter<{ change: [Child]; restarted: [] }> {
  readonly children: Child[]
  readonly #home: string
  /** Rejects once every worker has failed for good: there is nothing left to supervise. */
  readonly hopeless: Promise<never>
  readonly #log: SupervisorLog
  #claimed = false
  #starting: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #stopping: Promise<void> | undefined

  constructor(home: string, specs: WorkerSpec[]) {
    super()
    this.#home = home
    this.#log = new SupervisorLog(home)
    this.children = specs.map((spec) => new Child(home, spec, (child) => this.#changed(child)))
    this.hopeless = new Promise((_, reject) => {
      this.on('change', ({ reason }) => {
        if (this.children.every(({ state }) => state === 'failed')) reject(reason)
      })
    })
    this.hopeless.catch(() => {})
  }

  /**
   * Starts every worker. The authority is the first in the network: its first start makes the mesh that the others join, and
   * on local and LAN networks it serves the node that they meet at. Processors and gateways load meanwhile; metrics workers,
   * for which no answer waits, leave the processor cores to them until then.
   * @throws MeshError STORE_LOCKED where the home is run already, TIMEOUT, or why a worker cannot start
   */
  start(): Promise<void> {
    this.#starting = this.#start()
    return this.#starting
  }

  async #start(): Promise<void> {
    claimHome(
      this.#home,
      this.children.map(({ role, name }) => ({ role, name })),
    )
    this.#claimed = true
    this.#timer = setInterval(() => {
      for (const child of this.children) child.check()
    }, CHECK_MS)
    await this.#startInOrder()
  }

  /** Stops every worker and starts it again, with what the home says now. @throws MeshError as `start` does */
  async restart(): Promise<void> {
    await this.#starting
    await this.#stopInOrder()
    await this.#startInOrder()
    this.emit('restarted')
  }

  /** The workers' status files, as far as they are there. */
  statuses(): WorkerStatus[] {
    return this.children.map((child) => child.status).filter((status) => status !== undefined)
  }

  /** Stops the authority last, so that the others can still tell it what they must. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  /** Ends every worker at once. */
  kill(): void {
    for (const child of this.children) child.kill('SIGKILL')
  }

  async #startInOrder(): Promise<void> {
    if (this.#stopping !== undefined) return
    const authority = this.children.filter(isAuthority)
    const others = this.children.filter((child) => !isAuthority(child))
    for (const child of authority) child.start()
    if (authority.length > 0) {
      for (const child of others) if (child.role !== 'metrics') child.startHeld()
      await this.#untilReady(authority)
    }
    for (const child of others) {
      if (child.isHeld) child.release()
      else child.start()
    }
    await this.#untilReady(others)
  }

  async #stopInOrder(): Promise<void> {
    await Promise.all(this.children.filter((child) => !isAuthority(child)).map((child) => child.stop()))
    await Promise.all(this.children.filter(isAuthority).map((child) => child.stop()))
  }

  async #stop(): Promise<void> {
    await this.#stopInOrder()
    clearInterval(this.#timer)
    if (this.#claimed) releaseSupervisor(this.#home)
    this.#log.close()
  }

  #changed(child: Child): void {
    this.#log.tell(child)
    this.emit('change', child)
  }

  /** Waits until these are ready. @throws MeshError TIMEOUT, or why one of all cannot start */
  async #untilReady(children: Child[]): Promise<void> {
    const deadline = performance.now() + READY_MS
    while (this.#stopping === undefined) {
      const left = leftOut(this.children)
      const failed = this.children.find((child) => child.state === 'failed' && !left.includes(child))
      if (failed !== undefined) throw failed.reason ?? MeshError.INTERNAL(`${failed.role} ${failed.name} failed`)
      const waiting = children.filter((child) => child.state !== 'ready' && !left.includes(child))
      if (waiting.length === 0) return
      if (performance.now() > deadline) {
        const names = waiting.map(({ role, name }) => `${role} ${name}`).join(', ')
        throw MeshError.TIMEOUT(
          `Not ready within ${READY_MS / 1000} s: ${names}. ${command('logs', this.#home)} says more`,
        )
      }
      await new Promise((resolve) => setTimeout(resolve, CHECK_MS))
    }
    throw MeshError.CANCELLED('Stopped before all workers were ready')
  }
}

function isAuthority({ role }: Child): boolean {
  return role === 'auth'
}
