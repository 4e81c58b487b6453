import { findLogin, findProfile, homePath, readAdminKey, readNodes, readStatuses } from '../home/index.js'
import {
  bootstrapNodeSchema,
  decodeConnectString,
  decodeKey,
  encodeKey,
  isConnectString,
  isDoor,
  isLoopback,
  isToken,
  type MemberNode,
  MeshError,
  type MeshProfile,
  meshProfileSchema,
  type NetworkKind,
  noApiKey,
  nodeText,
  parseApiKey,
  validate,
} from '../protocol/index.js'

/** Which mesh to use, and as whom. Everything has a default from the home, as the CLI has it. */
export interface MeshClientOptions {
  /**
   * The mesh: a connect string, which holds a key as well, its address, `address@host:port,host:port` with the DHT's
   * bootstrap nodes, or a whole profile. Absent: INFERMESH_MESH, else the mesh of the home, or that it is logged in to.
   */
  mesh?: string | MeshProfile
  /**
   * API key, or a token that a login gave. Absent: that of a connect string in `mesh`, else INFERMESH_KEY, else that of a
   * connect string in INFERMESH_MESH, else the key that the home is logged in with, else the admin's where the home made this mesh.
   */
  key?: string
  /** Absent: INFERMESH_HOME, else ~/.infermesh. */
  home?: string
  /** `host:port` of DHT nodes, where `mesh` is an address on a network of its own. */
  bootstrap?: string[]
  /** Kind of network, where `mesh` is an address. Absent: `public` without bootstrap nodes, `local` where they are on 127.0.0.1, else `private`. */
  network?: NetworkKind
  /** How long finding and verifying a gateway may take. Absent: 5 s on local and LAN networks, else 20 s. */
  timeoutMs?: number
  /**
   * Seed of the client's key pair, 32 bytes. Absent: a random one. Two connected processes with the same key pair push
   * each other out, so only what has to prove an identity wants it.
   */
  seed?: Uint8Array
  /**
   * Asked for `host:port` of nodes of the mesh with this address, where none that is known answers: its machine may be gone,
   * and the mesh be elsewhere. Who answers there is trusted no more than anybody. Absent: the mesh is where it was, or nowhere.
   */
  findElsewhere?: (address: string) => Promise<string[]>
}

/** Options after every default is filled in. */
export interface Settings {
  address: string
  /** The directory's core key: the address as bytes. */
  core: Buffer
  /** The authority's public key, where a profile tells it. */
  authority: string | undefined
  network: MeshProfile['network']
  /** What is asked where gateways are: the profile's nodes, and those that this home remembers. Empty for the public DHT. */
  bootstrap: string[]
  /** Members and where they were seen last, workers of this home first: they are called there without asking the DHT. */
  nodes: MemberNode[]
  /** The home, which remembers where members are. */
  home: string
  key: string | undefined
  timeoutMs: number
  /** Finds nodes of the mesh where none of `bootstrap` answers; undefined where they can be nowhere else. */
  findElsewhere: ((address: string) => Promise<string[]>) | undefined
}

/** Nodes that are asked at once, so that one that is gone delays nobody. */
const MAX_ASKED = 10

const TIMEOUT_MS = { local: 5000, lan: 5000, private: 20_000, public: 20_000 } as const

/** @throws MeshError CONFIG_INVALID when no mesh is named or a file is unreadable, BAD_REQUEST when an option is wrong */
export function resolveOptions(options: MeshClientOptions, env: NodeJS.ProcessEnv = process.env): Settings {
  const home = homePath(options.home)
  const login = findLogin(home)
  const own = findProfile(home) ?? login?.profile
  const given = meshOf(options, env)
  const profile = resolveProfile(given.mesh, options, home, own)
  const { kind } = profile.network
  const core = decodeKey(profile.address, 'mesh address')
  const address = encodeKey(core)
  const remembered = kind === 'public' ? [] : readNodes(home, address)
  const doors = remembered.filter(({ role }) => isDoor(role))
  const { bootstrap } = profile.network
  return {
    address,
    core,
    authority: profile.authority,
    network: profile.network,
    bootstrap: kind === 'public' ? [] : [...new Set([...bootstrap, ...doors.map(nodeText)])].slice(0, MAX_ASKED),
    nodes: [...(kind === 'local' && own?.address === address ? neighbours(home) : []), ...doors],
    home,
    key: readKey(
      options.key ??
        (options.mesh === undefined ? undefined : given.key) ??
        (env.INFERMESH_KEY || undefined) ??
        given.key ??
        // The home's keys are for the home's mesh only: no other mesh may see them.
        (login?.profile.address === address ? login.key : undefined) ??
        (own?.address === address ? readAdminKey(home)?.text : undefined),
    ),
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS[kind],
    findElsewhere: kind === 'public' || isLoopback(profile.network) ? undefined : options.findElsewhere,
  }
}

type Profile = Omit<MeshProfile, 'authority'> & { authority: string | undefined }

/** Which mesh the options or the environment name, and the key that came with it. @throws MeshError BAD_REQUEST */
function meshOf({ mesh: named }: MeshClientOptions, env: NodeJS.ProcessEnv): Named {
  const mesh = named ?? (env.INFERMESH_MESH || undefined)
  if (typeof mesh !== 'string' || !isConnectString(mesh)) return { mesh, key: undefined }
  const { profile, key } = decodeConnectString(mesh)
  return { mesh: profile, key }
}

interface Named {
  mesh: string | MeshProfile | undefined
  key: string | undefined
}

function resolveProfile(
  named: Named['mesh'],
  options: MeshClientOptions,
  home: string,
  own: MeshProfile | undefined,
): Profile {
  const mesh = named ?? own
  if (mesh === undefined) {
    throw MeshError.CONFIG_INVALID(
      `${home} belongs to no mesh yet: \`infermesh up\` makes one, \`infermesh login\` uses one as whoever runs it lets you, \`infermesh join <invite>\` adds this machine to one; or name one with --mesh`,
    )
  }
  if (typeof mesh !== 'string') return validate(meshProfileSchema, mesh, 'mesh', 'CONFIG_INVALID')

  const [text = '', nodes] = mesh.trim().split('@', 2)
  // It would be shown as what is no address.
  if (/^im[a-z]?_/.test(text)) {
    throw MeshError.BAD_REQUEST(
      'This is no mesh address, but a key or an invite: expected 52 characters of z-base-32, or a connect string, which begins with imc_',
      { param: 'mesh' },
    )
  }
  const address = encodeKey(decodeKey(text, 'mesh address'))
  const bootstrap = options.bootstrap ?? nodes?.split(',').filter((node) => node !== '')
  if (bootstrap === undefined && options.network === undefined && own?.address === address) return own
  return { address, authority: undefined, network: resolveNetwork(bootstrap ?? [], options.network) }
}

function resolveNetwork(bootstrap: string[], kind: NetworkKind | undefined): MeshProfile['network'] {
  const wrong = bootstrap.find((node) => !bootstrapNodeSchema.safeParse(node).success)
  if (wrong !== undefined) {
    throw MeshError.BAD_REQUEST(`${JSON.stringify(wrong)} is no bootstrap node: expected host:port`, {
      param: 'bootstrap',
    })
  }
  if (bootstrap.length > 0) {
    return { kind: kind ?? (isLoopback({ kind: 'private', bootstrap }) ? 'local' : 'private'), bootstrap }
  }
  if (kind === undefined || kind === 'public') return { kind: 'public', bootstrap }
  throw MeshError.BAD_REQUEST(`A ${kind} network wants bootstrap nodes: give host:port of one`, { param: 'bootstrap' })
}

function readKey(text: string | undefined): string | undefined {
  const key = text?.trim()
  if (key === undefined || key === '') return undefined
  if (parseApiKey(key) === undefined && !isToken(key)) {
    throw noApiKey(key)
  }
  return key
}

/** What the status files of this home's workers say of where they listen. One that cannot be read is one helper fewer. */
function neighbours(home: string): MemberNode[] {
  return readStatuses(home).flatMap((file) => {
    if ('problem' in file) return []
    const { role, publicKey, addresses } = file.status
    const [host, port] = addresses.dht?.split(':') ?? []
    return host === undefined ? [] : [{ role, publicKey, host, port: Number(port) }]
  })
}
