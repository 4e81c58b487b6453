import { Counter, Gauge, type Registry } from 'prom-client'
import type { Link } from '../../link/index.js'
import { type ErrorCode, ROLES } from '../../protocol/index.js'

/** Why links end as a rule: their series are there from the start. */
const CLOSED = [
  'BAD_REQUEST',
  'HOLE_PUNCH_FAILED',
  'LINK_CLOSED',
  'NOT_A_MEMBER',
  'PEER_NOT_FOUND',
  'REFUSED',
  'SHUTTING_DOWN',
  'TIMEOUT',
  'VERSION_MISMATCH',
] as const satisfies ErrorCode[]

/** What the net counts of its links. */
export class NetMetrics {
  readonly #closed: Counter<'reason'>
  readonly #badFrames: Counter

  /**
   * @param links every link
   * @param members links to members
   */
  constructor(registry: Registry, links: Iterable<Link>, members: ReadonlyMap<string, Link>) {
    const open = new Gauge({
      name: 'infermesh_links',
      help: 'Links to other members and to clients.',
      labelNames: ['role', 'state'],
      registers: [registry],
      collect: () => {
        open.reset()
        for (const role of [...ROLES, 'client']) for (const state of ['open', 'suspect']) open.set({ role, state }, 0)
        for (const { role, suspect } of links) open.inc({ role, state: suspect ? 'suspect' : 'open' })
      },
    })
    const rtt = new Gauge({
      name: 'infermesh_link_rtt_seconds',
      help: 'Last round-trip time of a heartbeat, the slowest link of each role.',
      labelNames: ['role'],
      registers: [registry],
      collect: () => {
        rtt.reset()
        const slowest = new Map<string, number>()
        for (const { role, rttMs } of members.values()) {
          if (rttMs !== undefined) slowest.set(role, Math.max(slowest.get(role) ?? 0, rttMs))
        }
        for (const [role, ms] of slowest) rtt.set({ role }, ms / 1000)
      },
    })
    this.#closed = new Counter({
      name: 'infermesh_link_closed_total',
      help: 'Links that ended, by the code of the reason.',
      labelNames: ['reason'],
      registers: [registry],
    })
    for (const reason of CLOSED) this.#closed.inc({ reason }, 0)
    this.#badFrames = new Counter({
      name: 'infermesh_bad_frames_total',
      help: 'Links closed because the other side sent what is no frame of the protocol.',
      registers: [registry],
    })
  }

  closed(reason: string): void {
    this.#closed.inc({ reason })
  }

  badFrame(): void {
    this.#badFrames.inc()
  }
}
