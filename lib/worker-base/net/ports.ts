import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeFileAtomic } from '../../home/index.js'
import type { NetworkKind, Role } from '../../protocol/index.js'
import type { NetConfig } from './config.js'

/** UDP ports of workers' DHT nodes: the same over restarts, and on networks of several machines known beforehand. */

/** How many ports each role has to choose from: a second worker of a role on one machine takes the next. */
export const PORTS_PER_ROLE = 8
const ORDER = ['auth', 'gateway', 'processor', 'metrics'] as const
/** How many ports there are from `net.port` on. */
export const PORTS = PORTS_PER_ROLE * ORDER.length

/** The first and the last UDP port of a role, for a firewall's rules; undefined where any free one is taken. */
export function portsOf(role: Role, config: Pick<NetConfig, 'port'>): { first: number; last: number } | undefined {
  if (config.port === 0) return undefined
  const first = config.port + ORDER.indexOf(role) * PORTS_PER_ROLE
  return { first, last: first + PORTS_PER_ROLE - 1 }
}

/** The file with the port that a worker's node had, and the kind of network that this was on. */
function portFile(workerDir: string): string {
  return join(workerDir, 'dht.port')
}

/** Keeps the port of a worker's node for its later starts on a network of this kind. */
export function keepPort(workerDir: string, kind: NetworkKind, port: number): void {
  if (port > 0 && keptPort(workerDir, kind) !== port) writeFileAtomic(portFile(workerDir), `${port} ${kind}\n`)
}

/** One of another kind of network is none: a firewall's rules name the ports of a LAN, and on one machine any is taken. */
function keptPort(workerDir: string, kind: NetworkKind): number | undefined {
  try {
    const [, port, of] = /^(\d{1,5}) (\w+)\s*$/.exec(readFileSync(portFile(workerDir), 'utf8')) ?? []
    return of === kind ? Number(port) : undefined
  } catch {
    return undefined
  }
}

export interface PortWish {
  config: Pick<NetConfig, 'port'>
  role: Role
  workerDir: string
  kind: NetworkKind
  /** What members look for the worker at. */
  known?: number | undefined
  /** What this process itself has taken. */
  own?: number | undefined
}

/**
 * A UDP port that is free now: the one that members know, the one that the worker had, else the first of its role's range,
 * else any.
 * @param host the address to bind to; empty: all
 */
export async function choosePort(wish: PortWish, host: string): Promise<number> {
  const { config, role, workerDir, kind, known, own } = wish
  // On one machine nobody has to know a port, and the range is left to the meshes of several.
  const range = kind === 'local' ? undefined : portsOf(role, config)
  const tries = [known, keptPort(workerDir, kind)].filter((port) => port !== undefined)
  for (let port = range?.first ?? 1; port <= (range?.last ?? 0); port++) tries.push(port)
  for (const port of tries) if (port === own || (await isFree(port, host))) return port
  return (await boundPort(0, host)) ?? 0
}

/** Whether a UDP port can be bound. @param host the address to bind to; empty: all */
export async function isFree(port: number, host: string): Promise<boolean> {
  return (await boundPort(port, host)) === port
}

/** Binds a UDP port for a moment. @returns undefined where it is taken */
function boundPort(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', () => socket.close(() => resolve(undefined)))
    socket.bind({ port, address: host === '' ? '0.0.0.0' : host, exclusive: true }, () => {
      const { port: bound } = socket.address()
      socket.close(() => resolve(bound))
    })
  })
}
