import type { MeshClient } from '../../lib/client/index.js'
import { decodeConnectString, isLoopbackHost } from '../../lib/protocol/index.js'
import { command } from './hints.js'
import { dim, print } from './output.js'

/** What the owner of a new key needs on another machine. */
export interface Connection {
  /** For INFERMESH_MESH: `address@host:port,…`. */
  mesh: string
  /** Base URL for OpenAI clients on other machines; absent: no gateway listens beyond loopback. */
  baseURL?: string
  /** Whether the mesh is one machine's alone. */
  isLocal: boolean
}

/** How long the mesh has to say where its gateways listen, before nothing is said of it. */
const STATUS_MS = 3000
const UNSPECIFIED = new Set(['0.0.0.0', '[::]'])

/** How others reach the mesh. @param connect the connect string that the authority made */
export async function connectionOf(mesh: MeshClient, connect: string, signal: AbortSignal): Promise<Connection> {
  const { address, network } = decodeConnectString(connect).profile
  const nodes = network.bootstrap.length === 0 ? '' : `@${network.bootstrap.join(',')}`
  const status = await mesh
    .status({ signal: AbortSignal.any([signal, AbortSignal.timeout(STATUS_MS)]) })
    .catch(() => undefined)
  const baseURL = status?.workers
    .filter(({ role, state }) => role === 'gateway' && state !== 'down')
    .flatMap(({ addresses }) => addresses?.http ?? [])
    .find(isReachable)
  return {
    mesh: `${address}${nodes}`,
    ...(baseURL !== undefined && { baseURL: `${baseURL}/v1` }),
    isLocal: network.kind === 'local',
  }
}

/** Whether another machine may reach what listens there. */
function isReachable(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { hostname } = new URL(url)
  return !isLoopbackHost(hostname) && !UNSPECIFIED.has(hostname)
}

/** Shows it as lines to copy. */
export function printConnection(
  home: string,
  key: string,
  connect: string,
  { mesh, baseURL, isLocal }: Connection,
): void {
  print()
  print(dim('Where the key is to be used, one of these lines. Each holds the key: send it as you would a password.'))
  print(`infermesh login ${connect}`)
  print(`export INFERMESH_MESH=${mesh} INFERMESH_KEY=${key}`)
  if (baseURL !== undefined) print(`export OPENAI_BASE_URL=${baseURL} OPENAI_API_KEY=${key}`)
  else {
    print(
      dim(
        'OpenAI clients: no gateway listens beyond its own machine. `infermesh network --http-host 0.0.0.0` there opens it to others; or, after the login, `infermesh proxy` where the client runs.',
      ),
    )
  }
  if (isLocal) {
    print(
      dim(
        `This mesh is on this machine alone (network local): ${command('network lan', home)} lets other machines find it.`,
      ),
    )
  }
}
