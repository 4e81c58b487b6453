import {
  complain,
  findLogin,
  findProfile,
  hasAuthority,
  readRoles,
  type WorkerName,
  writeRoles,
} from '../../lib/home/index.js'
import {
  MeshError,
  type MeshProfile,
  messageOf,
  nameSchema,
  ROLES,
  type Role,
  roleSchema,
  validate,
} from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { isSameSet } from '../shared/lists.js'
import type { Common } from '../shared/mesh.js'
import type { WorkerSpec } from './child.js'

/** What says which workers to start, and how. */
export interface PlanOptions {
  role?: string[]
  name?: string
  network?: string
  bootstrap?: string[]
  host?: string
  netHost?: string
  httpPort?: number
  metricsPort?: number
  gpu?: string
  set?: string[]
}

/** What `infermesh up` takes. */
export interface RunOptions extends PlanOptions, Common {
  detach?: boolean
  showKey?: boolean
  /** Ask the mesh a first question. */
  check: boolean
}

export interface Plan {
  specs: WorkerSpec[]
  /** This start makes the mesh: what it starts is what later starts mean. */
  makesMesh: boolean
}

/**
 * Which workers to start, with which settings: those asked for; else those this home had before; else one of each role
 * where it makes its own mesh.
 * @throws MeshError BAD_REQUEST, CONFIG_INVALID
 */
export function planWorkers(home: string, options: PlanOptions): Plan {
  const profile = findProfile(home)
  const makesMesh = profile === undefined
  if (makesMesh) mustMakeMesh(home)
  mustBeItsNetwork(home, profile, options)
  const asked = options.role?.map((text) => parseRole(text, options.name))
  const workers = asked ?? readRoles(home) ?? ROLES.map((role) => ({ role, name: options.name ?? role }))
  const twice = workers.find(({ role, name }, i) => workers.findIndex((w) => w.role === role && w.name === name) !== i)
  if (twice !== undefined) {
    throw MeshError.BAD_REQUEST(
      `--role ${twice.role}: two workers of one role want names of their own, such as --role ${twice.role}:a --role ${twice.role}:b`,
    )
  }
  if (makesMesh && !workers.some(({ role }) => role === 'auth')) {
    throw MeshError.CONFIG_INVALID(
      `${home} belongs to no mesh yet: make one with ${command('up', home)}, or join one with ${command('join <invite>', home)}`,
    )
  }
  const specs = workers.map((worker, i) => {
    const isFirst = workers.findIndex(({ role }) => role === worker.role) === i
    return { ...worker, settings: settingsFor(worker.role, isFirst, options) }
  })
  return { specs, makesMesh }
}

/** @throws MeshError CONFIG_INVALID where the home uses another mesh: it would have two */
function mustMakeMesh(home: string): void {
  const login = findLogin(home)
  if (login === undefined) return
  throw MeshError.CONFIG_INVALID(
    `${home} uses the mesh ${login.profile.address} as ${login.user}, and has no workers of its own: ${command('join <invite>', home)} adds this machine to that mesh, another --home makes another mesh in a home of its own`,
  )
}

/** @throws MeshError CONFIG_INVALID with the command that changes what a mesh is found on: a start does not */
function mustBeItsNetwork(home: string, profile: MeshProfile | undefined, options: PlanOptions): void {
  if (profile === undefined) return
  const { kind, bootstrap } = profile.network
  const { network: asked, bootstrap: nodes, netHost } = options
  const refuse = (flag: string, is: string, change: string) => {
    const where = hasAuthority(home)
      ? `${command(`network ${change}`, home)} changes that, and then ${command('up', home)} starts it`
      : `\`infermesh network ${change}\` changes that where the mesh was made`
    return MeshError.CONFIG_INVALID(`${flag}: the mesh of ${home} is ${is}. ${where}`)
  }
  const flags = [...(nodes ?? []).map((node) => ` --bootstrap ${node}`), netHost ? ` --net-host ${netHost}` : ''].join(
    '',
  )
  if (asked !== undefined && asked !== kind) throw refuse(`--network ${asked}`, kind, asked + flags)
  if (nodes !== undefined && !isSameSet(nodes, bootstrap)) {
    const is = bootstrap.length === 0 ? kind : `${kind}, found at ${bootstrap.join(', ')}`
    throw refuse(`--bootstrap ${nodes.join(' --bootstrap ')}`, is, `private${flags}`)
  }
  if (netHost !== undefined && kind === 'local') throw refuse(`--net-host ${netHost}`, kind, `lan${flags}`)
}

/** `processor` or `processor:p1`. */
function parseRole(text: string, fallbackName: string | undefined): WorkerName {
  const [roleText, name] = text.split(':', 2)
  const role = validate(roleSchema, roleText, '--role')
  return { role, name: validate(nameSchema, name ?? fallbackName ?? role, '--role name') }
}

/** Adds a worker that has joined to those that `infermesh up` starts here. */
export function rememberRole(home: string, worker: WorkerName): void {
  const others = (readRoles(home) ?? []).filter(({ role, name }) => role !== worker.role || name !== worker.name)
  writeRoles(home, [...others, worker])
}

/** Keeps what made the mesh as what `infermesh up` starts here. That it cannot is no reason to stop what runs. */
export function keepPlan(home: string, { specs, makesMesh }: Plan): void {
  if (!makesMesh) return
  try {
    writeRoles(home, specs)
  } catch (err) {
    complain(`infermesh: which workers to start here next time could not be written: ${messageOf(err)}`)
  }
}

/**
 * Each role is given the settings of the facilities it has. A port is for the first worker of its role: the others take
 * free ones, which they keep.
 */
function settingsFor(role: Role, isFirst: boolean, options: PlanOptions): string[] {
  const { network, bootstrap, host, netHost, httpPort, metricsPort, gpu } = options
  const settings: string[] = []
  const add = (key: string, value: unknown) => {
    if (value !== undefined) settings.push(`${key}=${JSON.stringify(value)}`)
  }
  add('net.kind', network)
  add('net.bootstrap', bootstrap)
  add('net.host', netHost)
  if (role === 'gateway') {
    add('http.host', host)
    add('http.port', isFirst ? httpPort : 0)
  }
  if (role === 'metrics') {
    add('metrics.host', host)
    add('metrics.port', isFirst ? metricsPort : 0)
  }
  if (role === 'processor') add('engine.gpu', gpu)
  return [...settings, ...(options.set ?? [])]
}
