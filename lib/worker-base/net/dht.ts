import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import type { DHTOptions, KeyPair } from 'hyperdht'
import DHT from 'hyperdht'
import { writeFileAtomic } from '../../home/index.js'
import { isLoopback, LOOPBACK, MeshError, type MeshProfile, messageOf, type Role } from '../../protocol/index.js'
import type { NetConfig } from './config.js'

/** How this worker's DHT node is made for a kind of network. */
export function nodeOptions(
  network: MeshProfile['network'],
  { config, keyPair, role, workerDir }: { config: NetConfig; keyPair: KeyPair; role: Role; workerDir: string },
): DHTOptions {
  const { kind, bootstrap } = network
  const host = isLoopback(network) ? LOOPBACK : config.host
  const bound = host === '' ? {} : { host }
  if (kind === 'public') return { keyPair, ...bound }
  // Behind a NAT, or maybe so: the node finds out by itself whether others can reach it.
  if (kind === 'private' && !isLoopback(network)) return { keyPair, bootstrap, ...bound }
  // Any free port: HyperDHT's usual ones are soon taken by a node of another mesh, and the two would become one DHT.
  const port = role === 'auth' ? (keptPort(nodePortFile(workerDir)) ?? 0) : 0
  return {
    keyPair,
    bootstrap,
    ...bound,
    firewalled: false,
    // The authority's node keeps announcements beside the bootstrap node. The others come and go, and each that is gone
    // would hold up every lookup by a second: they stay out of the routing tables.
    ephemeral: role !== 'auth',
    // A range without its end. Where the port was taken meanwhile, any free one.
    port: port === 0 ? [0, 0] : [port, port + 1],
  }
}

/**
 * Keeps the port of the authority's node for later starts, as the bootstrap node's. Whoever announces and looks up knows
 * these two: one that came back elsewhere would leave a dead node behind, and each announcement waits for that for ten
 * seconds and more.
 */
export function keepNodePort(workerDir: string, port: number): void {
  if (port > 0) writeFileAtomic(nodePortFile(workerDir), `${port}\n`)
}

const nodePortFile = (workerDir: string): string => join(workerDir, 'dht.port')

/** The address that other machines of the LAN reach this one at. */
function lanAddress(): string {
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { family, internal, address } of addresses ?? []) if (family === 'IPv4' && !internal) return address
  }
  throw MeshError.CONFIG_INVALID(
    'net.host: this machine has no IPv4 address but loopback; name the one to use, or use the network kind local',
  )
}

/**
 * The bootstrap node that the authority serves on local and LAN networks. Its port is kept, so that workers find it
 * again after a restart.
 */
export async function serveBootstrap(workerDir: string, kind: 'local' | 'lan', config: NetConfig): Promise<DHT> {
  const host = kind === 'local' ? LOOPBACK : config.host === '' ? lanAddress() : config.host
  const portFile = join(workerDir, 'bootstrap.port')
  const kept = config.bootstrapPort !== 0 ? config.bootstrapPort : keptPort(portFile)
  const port = kept ?? (await freeUdpPort(host))
  const node = DHT.bootstrapper(port, host, { host })
  try {
    await node.fullyBootstrapped()
  } catch (err) {
    await node.destroy()
    throw MeshError.PORT_IN_USE(
      `The DHT's bootstrap node cannot use ${host}:${port} (UDP): ${messageOf(err)}. Is another authority of this home running?`,
      { port },
      { cause: err },
    )
  }
  writeFileAtomic(portFile, `${port}\n`)
  return node
}

function keptPort(file: string): number | undefined {
  try {
    const port = Number(readFileSync(file, 'utf8'))
    return Number.isInteger(port) && port > 0 && port < 65_536 ? port : undefined
  } catch {
    return undefined
  }
}

async function freeUdpPort(host: string): Promise<number> {
  const { createSocket } = await import('node:dgram')
  const socket = createSocket('udp4')
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(0, host, resolve)
  })
  const { port } = socket.address()
  await new Promise<void>((resolve) => socket.close(() => resolve()))
  return port
}
