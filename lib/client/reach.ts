import { createSocket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import type DHT from 'hyperdht'
import { findProfile, hasAuthority, isAlive, readStatuses } from '../home/index.js'
import { MeshError, nodeAddress, systemCode } from '../protocol/index.js'
import type { Settings } from './options.js'

/** Why a mesh is not reached, before anybody of it has said a word. */

/** How long a node may take to answer whether it is there. */
const PING_MS = 1500

/** True when one of the nodes answers; for the public DHT, when any node is known. */
export async function answers(dht: DHT, nodes: readonly string[]): Promise<boolean> {
  if (nodes.length === 0) return dht.toArray().length > 0
  const pings = nodes.map(async (node) => dht.ping(nodeAddress(node)))
  const late = new Promise<never>((_, reject) => setTimeout(reject, PING_MS, new Error('no answer')).unref())
  return Promise.race([Promise.any(pings), late]).then(
    () => true,
    () => false,
  )
}

/**
 * What to say where no node answers: that the mesh is this home's own and does not run, that there is no way to its nodes from
 * this machine, or what may be wrong at the other end.
 */
export async function unreachable(
  { home, address, network: { kind }, bootstrap: nodes }: Pick<Settings, 'home' | 'address' | 'network' | 'bootstrap'>,
  details: Record<string, unknown>,
): Promise<MeshError> {
  if (isStopped(home, address)) {
    return MeshError.DHT_UNREACHABLE(`The mesh of ${home} does not run: \`infermesh up\` starts it`, details)
  }
  if (kind !== 'local' && !hasNetwork()) {
    return MeshError.DHT_UNREACHABLE('This machine is on no network: connect it, and try again', details)
  }
  if (nodes.length === 0) {
    return MeshError.DHT_UNREACHABLE(
      'No node of the public DHT answers: is this machine online, and may it send UDP?',
      details,
    )
  }
  const list = nodes.join(', ')
  const reasons = await Promise.all(nodes.map(noWayTo))
  if (reasons.every((reason) => reason !== undefined)) {
    return MeshError.DHT_UNREACHABLE(
      `This machine has no way to ${list} (${[...new Set(reasons)].join(', ')}): is it on the same network as the mesh?`,
      details,
    )
  }
  const firewall =
    kind === 'local'
      ? ''
      : `, and do the firewalls there let UDP ${portsText(nodes)} in? \`infermesh doctor\` looks here. Where the mesh has moved since, a new invite or connect string says where to`
  return MeshError.DHT_UNREACHABLE(
    `No DHT node answers at ${list}: is the mesh running? \`infermesh up\` starts it where it was made${firewall}`,
    details,
  )
}

/** Whether a mesh was made in this home, and none of the home's workers runs. */
function isStopped(home: string, address: string): boolean {
  if (!hasAuthority(home) || findProfile(home)?.address !== address) return false
  return !readStatuses(home).some((file) => 'status' in file && isAlive(file.status.pid))
}

function hasNetwork(): boolean {
  return Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ internal }) => !internal))
}

/** The system's reason why nothing can be sent to a node; undefined where it knows a way. Nothing is sent. */
function noWayTo(node: string): Promise<string | undefined> {
  const { host, port } = nodeAddress(node)
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    const end = (reason?: string): void => {
      socket.close()
      resolve(reason)
    }
    socket.once('error', (err) => end(systemCode(err) ?? err.message))
    // Not as an argument: that one is given the errors, too.
    socket.once('connect', () => end())
    socket.connect(port, host)
  })
}

function portsText(nodes: readonly string[]): string {
  const ports = [...new Set(nodes.map((node) => nodeAddress(node).port))]
  return `port${ports.length === 1 ? '' : 's'} ${ports.join(', ')}`
}
