import {
  findProfile,
  hasAuthority,
  homeFiles,
  readProfile,
  readRoles,
  readSettings,
  readStatuses,
  settingsPath,
  writeProfile,
  writeSetting,
} from '../../lib/home/index.js'
import { isOwnIpv4, lanAddresses } from '../../lib/lan/index.js'
import {
  bootstrapNodeSchema,
  LOOPBACK,
  MeshError,
  type MeshProfile,
  type NetworkKind,
  validate,
} from '../../lib/protocol/index.js'
import { askRestart, canRestart } from '../supervisor/restart.js'
import { runningSupervisor, runningWorkers } from '../supervisor/state.js'
import { command } from './hints.js'
import { isSameSet } from './lists.js'

/** The network that a home's mesh is found on, and where its HTTP door listens: what they are, and how they are changed. */

export interface NetworkOptions {
  bootstrap?: string[]
  netHost?: string
  httpHost?: string
}

/** What a change has done to the workers of this home. */
interface Restarted {
  /** The workers run on it by now. */
  restarted: boolean
  /** Workers, as `role name`, that run as before until somebody starts them anew. */
  restart: string[]
  /** Where the HTTP API of this home's gateways listens now, as URLs; none while none runs. */
  http: string[]
}

/** What `infermesh network --http-host` did. */
export interface DoorOutcome extends Restarted {
  httpHost: string
  changed: boolean
}

/** Every address that a machine has. */
const ALL: ReadonlySet<string> = new Set(['0.0.0.0', '::'])

/** What `infermesh network <kind>` did. */
export interface Outcome extends Restarted {
  mesh: string
  kind: NetworkKind
  /** Empty also where the authority says it, as it starts anew. */
  bootstrap: string[]
  from: NetworkKind
  changed: boolean
  /** This machine's addresses in a LAN, the one in use first. */
  addresses: string[]
}

/**
 * A home's mesh, and whether its network is changed here.
 * @throws MeshError CONFIG_INVALID where the home belongs to no mesh, BAD_REQUEST for options that only a change takes
 */
export function whereNetworkIsChanged(
  home: string,
  { bootstrap, netHost }: NetworkOptions = {},
): { profile: MeshProfile; isHere: boolean } {
  if (bootstrap !== undefined || netHost !== undefined) {
    throw MeshError.BAD_REQUEST(`--bootstrap and --net-host go with a kind, such as ${command('network lan', home)}`)
  }
  return { profile: readProfile(home), isHere: hasAuthority(home) }
}

/**
 * Puts a home's mesh on another network. Workers that a supervisor runs are started anew.
 * @throws MeshError CONFIG_INVALID where the mesh is none of this home, BAD_REQUEST where the options do not fit the kind
 */
export async function changeNetwork(
  home: string,
  kind: NetworkKind,
  options: NetworkOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  const profile = profileToChange(home, kind)
  mustFit(kind, options)
  if (options.httpHost !== undefined) mustBeDoor(home, options.httpHost)
  const addresses = addressesFor(home, options)
  const network = { kind, bootstrap: bootstrapFor(kind, profile.network, options, addresses[0]) }
  const before = profile.network
  const isMoved = isChange(home, 'net', options.netHost) || isChange(home, 'http', options.httpHost)
  const changed = isMoved || network.kind !== before.kind || !isFoundAt(network, before.bootstrap)
  const outcome = { mesh: profile.address, ...network, from: before.kind, changed, addresses }
  if (!changed) return { ...outcome, restarted: false, restart: [], http: doorsOf(home) }

  keepHost(home, 'net', options.netHost)
  keepHost(home, 'http', options.httpHost)
  writeProfile(home, { ...profile, network })
  const done = await startAnew(home, signal)
  // What the authority has made of it.
  return { ...outcome, ...(done.restarted ? readProfile(home).network : {}), ...done }
}

/**
 * Has the HTTP door of a home's gateways listen on an address, from now on. Workers that a supervisor runs are started anew.
 * @throws MeshError CONFIG_INVALID where the home belongs to no mesh or has no gateway, BAD_REQUEST for an address that is not its own
 */
export async function openDoor(home: string, httpHost: string, signal: AbortSignal): Promise<DoorOutcome> {
  readProfile(home)
  mustBeDoor(home, httpHost)
  const changed = isChange(home, 'http', httpHost)
  if (!changed) return { httpHost, changed, restarted: false, restart: [], http: doorsOf(home) }
  keepHost(home, 'http', httpHost)
  return { httpHost, changed, ...(await startAnew(home, signal)) }
}

/** Where the authority serves the first node the others are the gateways', which come and go. */
function isFoundAt({ kind, bootstrap }: MeshProfile['network'], before: readonly string[]): boolean {
  const isServed = kind === 'local' || kind === 'lan'
  return isServed ? bootstrap[0] === before[0] : isSameSet(bootstrap, before)
}

async function startAnew(home: string, signal: AbortSignal): Promise<Restarted> {
  const supervisor = runningSupervisor(home)
  if (supervisor !== undefined && canRestart(supervisor)) {
    await askRestart(home, supervisor, signal)
    return { restarted: true, restart: [], http: doorsOf(home) }
  }
  const restart = runningWorkers(home).map(({ role, name }) => `${role} ${name}`)
  return { restarted: false, restart, http: doorsOf(home) }
}

/** Where this home's gateways listen, by their status files. */
function doorsOf(home: string): string[] {
  return readStatuses(home).flatMap((file) => ('status' in file ? (file.status.addresses.http ?? []) : []))
}

/** @throws MeshError CONFIG_INVALID: no mesh yet, or one that was made elsewhere */
function profileToChange(home: string, kind: NetworkKind): MeshProfile {
  const profile = findProfile(home)
  if (profile === undefined) {
    throw MeshError.CONFIG_INVALID(`${home} belongs to no mesh yet: ${command(`up --network ${kind}`, home)} makes one`)
  }
  if (hasAuthority(home)) return profile
  throw MeshError.CONFIG_INVALID(
    `${home} has joined a mesh that was made elsewhere: \`infermesh network ${kind}\` changes its network there, and this machine joins again where it does not follow`,
  )
}

/** @throws MeshError BAD_REQUEST */
function mustFit(kind: NetworkKind, { bootstrap, netHost }: NetworkOptions): void {
  for (const node of bootstrap ?? []) validate(bootstrapNodeSchema, node, '--bootstrap')
  if (kind === 'private' && (bootstrap ?? []).length === 0) {
    throw MeshError.BAD_REQUEST('A private network wants a DHT node of its own: --bootstrap <host:port>')
  }
  if (kind !== 'private' && bootstrap !== undefined) {
    throw MeshError.BAD_REQUEST(`--bootstrap goes with \`infermesh network private\`, not with ${kind}`)
  }
  if (netHost === undefined) return
  if (kind === 'local') throw MeshError.BAD_REQUEST('--net-host goes with any network but local')
  if (!isOwnIpv4(netHost)) {
    throw MeshError.BAD_REQUEST(
      `--net-host ${netHost} is no IPv4 address of this machine; it has ${lanAddresses().join(', ') || 'none but loopback'}`,
    )
  }
}

/** @throws MeshError CONFIG_INVALID where no gateway is this home's, BAD_REQUEST for an address that is not this machine's */
function mustBeDoor(home: string, host: string): void {
  if (!(readRoles(home) ?? []).some(({ role }) => role === 'gateway')) {
    throw MeshError.CONFIG_INVALID(
      `${home} starts no gateway, and the HTTP API is a gateway's: say --http-host where one runs`,
    )
  }
  if (ALL.has(host) || isOwnIpv4(host)) return
  throw MeshError.BAD_REQUEST(
    `--http-host ${host} is no IPv4 address of this machine: expected 0.0.0.0 for all that it has, ${LOOPBACK} for none but itself, or one of ${lanAddresses().join(', ') || 'none'}`,
  )
}

/** This machine's addresses, the one first that the workers of this home bind to. */
function addressesFor(home: string, { netHost }: NetworkOptions): string[] {
  const chosen = netHost ?? hostSetting(home, 'net')
  const own = lanAddresses()
  return chosen === undefined ? own : [chosen, ...own.filter((address) => address !== chosen)]
}

type Facility = 'net' | 'http'

/** The address that the home's own settings name; undefined where they leave it open. */
function hostSetting(home: string, facility: Facility): string | undefined {
  const { host } = readSettings(settingsPath(homeFiles(home).configDir, facility))
  return typeof host === 'string' && host !== '' ? host : undefined
}

function isChange(home: string, facility: Facility, host: string | undefined): boolean {
  return host !== undefined && host !== hostSetting(home, facility)
}

function keepHost(home: string, facility: Facility, host: string | undefined): void {
  if (host !== undefined) writeSetting(homeFiles(home).configDir, facility, 'host', host)
}

/** @throws MeshError CONFIG_INVALID where there is no LAN */
function bootstrapFor(
  kind: NetworkKind,
  before: MeshProfile['network'],
  { bootstrap = [] }: NetworkOptions,
  address: string | undefined,
): string[] {
  if (kind === 'private') return bootstrap
  if (kind === 'public') return []
  if (kind === 'lan' && address === undefined) {
    throw MeshError.CONFIG_INVALID('This machine has no IPv4 address but loopback: connect it to a LAN first')
  }
  // On another kind of network the authority has another port: it says which as it stops, or as it starts.
  const [own, ...gateways] = kind === before.kind ? before.bootstrap : []
  if (own === undefined) return []
  return [`${kind === 'local' ? LOOPBACK : address}:${own.split(':').at(-1)}`, ...gateways]
}
