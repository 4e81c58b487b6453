import { createSocket } from 'node:dgram'
import type { KeyPair, NodeAddress } from 'hyperdht'
import DHT from 'hyperdht'
import { isOwnIpv4, lanAddresses } from '../../lan/index.js'
import {
  isDoor,
  isLoopback,
  LOOPBACK,
  MeshError,
  type MeshProfile,
  nodeAddress,
  type Role,
} from '../../protocol/index.js'
import type { NetConfig } from './config.js'
import { MeshNode } from './node.js'
import { choosePort, isFree } from './ports.js'

/** Every address that the machine has. */
const ANY = '0.0.0.0'

export interface NodeOptions {
  config: NetConfig
  keyPair: KeyPair
  role: Role
  workerDir: string
  /** Where a peer was seen last. */
  whereIs: (publicKey: Uint8Array) => readonly NodeAddress[]
  /** Whether an announcement of this key under this topic is kept, on a network of the mesh's own. */
  mayAnnounce: (topic: Uint8Array, publicKey: Uint8Array) => boolean
}

/** A worker's DHT node. */
export interface OwnNode {
  dht: DHT
  /** Its UDP port, where that is kept for later starts. */
  port?: number
  /** The same node, where the network is the mesh's own: `local` or `lan`. */
  mesh?: MeshNode
  /** Where other machines reach it, as `host:port`; only there. */
  address?: string
}

/**
 * Makes this worker's DHT node for a kind of network.
 * @throws MeshError DHT_UNREACHABLE where a LAN's machine is on no network, PORT_IN_USE where it must have a port that is taken
 */
export async function openNode(network: MeshProfile['network'], options: NodeOptions): Promise<OwnNode> {
  const { config, keyPair, role, whereIs, mayAnnounce } = options
  const { kind, bootstrap } = network
  const bind = isLoopback(network) ? LOOPBACK : config.host
  if (bind !== '' && bind !== ANY && !isOwnIpv4(bind)) throw notOurs(bind, kind)
  const bound = bind === '' ? {} : { host: bind }
  if (kind === 'public') return { dht: new DHT({ keyPair, ...bound }) }
  const port = await portFor(options, network, bind)
  // A range without its end. Where the port was taken meanwhile, any free one.
  const ports: [number, number] = [port, port + 1]
  if (kind === 'private') {
    // Behind a NAT, or maybe so: the node finds out by itself whether others can reach it.
    if (!isLoopback(network)) return { dht: new DHT({ keyPair, bootstrap, port: ports, ...bound }), port }
    return {
      dht: new DHT({ keyPair, bootstrap, port: ports, firewalled: false, ephemeral: role !== 'auth', ...bound }),
      port,
    }
  }
  const host = bind === '' ? await addressTowards(bootstrap[0], role) : bind
  // Gateways and the authority have addresses that last: whoever knows one of them finds all.
  const isMeetingPoint = isDoor(role)
  const mesh = await MeshNode.open({ keyPair, host, port, bind, isMeetingPoint, whereIs, mayAnnounce })
  if (mesh.address()?.port === port) return { dht: mesh, mesh, port, address: `${host}:${port}` }
  // Another program took the port in between: its address would be wrong.
  await mesh.destroy({ force: true })
  return openNode(network, options)
}

/** A home that was restored on another machine, or a machine that was given another address. */
function notOurs(host: string, kind: MeshProfile['network']['kind']): MeshError {
  const [first = '<address>', ...others] = lanAddresses()
  const own = [first, ...others].join(', ')
  return MeshError.DHT_UNREACHABLE(
    `net.host is ${host}, which is no address of this machine now: it has ${own}. \`infermesh network ${kind} --net-host ${first}\` names that where the mesh was made, elsewhere the setting net.host`,
    { host },
  )
}

/**
 * Where the authority's node will be once it starts anew on another network of the mesh's own, as `host:port`: said while
 * its members can still be told. That start takes it, where it is free then.
 * @param own the port of the node that it has now
 * @throws MeshError DHT_UNREACHABLE where a LAN's machine is on no network
 */
export async function nextNode(
  kind: 'local' | 'lan',
  { config, workerDir, own }: Pick<NodeOptions, 'config' | 'workerDir'> & { own: number | undefined },
): Promise<string> {
  const bind = kind === 'local' ? LOOPBACK : config.host
  const port = config.bootstrapPort || (await choosePort({ config, role: 'auth', workerDir, kind, own }, bind))
  return `${bind === '' ? lanAddress() : bind}:${port}`
}

async function portFor(options: NodeOptions, network: MeshProfile['network'], bind: string): Promise<number> {
  const { bootstrapPort } = options.config
  const { kind, bootstrap } = network
  if (options.role !== 'auth' || kind === 'private') return choosePort({ ...options, kind }, bind)
  if (bootstrapPort === 0) {
    // The first node that the profile of a mesh's own network names is the authority's.
    const known = bootstrap[0] === undefined ? undefined : nodeAddress(bootstrap[0]).port
    return choosePort({ ...options, kind, known }, bind)
  }
  if (await isFree(bootstrapPort, bind)) return bootstrapPort
  throw MeshError.PORT_IN_USE(
    `The authority’s DHT node cannot use UDP port ${bootstrapPort} (net.bootstrapPort): another program has it. Is another authority running?`,
    { port: bootstrapPort },
  )
}

/**
 * The address of this machine on the LAN: the one from which it reaches a node there, where it does, else its first.
 * @throws MeshError DHT_UNREACHABLE where it is on no network
 */
async function addressTowards(node: string | undefined, role: Role): Promise<string> {
  const own = node === undefined || role === 'auth' ? undefined : await sourceAddress(node)
  return own ?? lanAddress()
}

/** The address that the system would send from; nothing is sent. @returns undefined where there is no way */
function sourceAddress(node: string): Promise<string | undefined> {
  const { host, port } = nodeAddress(node)
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    const end = (address?: string): void => {
      socket.close()
      resolve(address)
    }
    socket.once('error', () => end())
    // Not as an argument: that one is given the errors, too.
    socket.once('connect', () => end(socket.address().address))
    socket.connect(port, host)
  })
}

/** The first address that other machines of the LAN reach this one at. */
function lanAddress(): string {
  const [address] = lanAddresses()
  if (address !== undefined) return address
  // No wrong setting: a machine that starts may have its address a moment later, and its worker is started again.
  throw MeshError.DHT_UNREACHABLE(
    'This machine has no IPv4 address but loopback: connect it to the network, name the address to use (net.host), or use the network kind local',
  )
}
