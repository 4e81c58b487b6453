import { readFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { type Member, MeshClient } from '../../lib/client/index.js'
import {
  findLogin,
  findProfile,
  homeFiles,
  homePath,
  loadSeed,
  makePrivateDir,
  writeProfile,
} from '../../lib/home/index.js'
import { machineName } from '../../lib/lan/index.js'
import {
  decodeInvite,
  MeshError,
  type MeshProfile,
  nameSchema,
  ROLES,
  type Role,
  validate,
} from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { type Common, optionsOf } from '../shared/mesh.js'
import { chooseNearby, mustBeOurs, type NearbyOptions, profileOf, tellCode } from '../shared/nearby.js'
import { dim, interruptible, print, printJson, withSpinner } from '../shared/output.js'
import { rememberRole } from '../supervisor/plan.js'
import { runningWorkers } from '../supervisor/state.js'

export function define(join: Command): void {
  join
    .argument(
      '[invite]',
      'what `infermesh invite` printed on the other machine, or - to read it from standard input; without it: looks for meshes in this LAN and asks to join one',
    )
    .option('--name <name>', 'what this worker is called (default: the invite’s name, else this machine’s name)')
    .addOption(new Option('--role <role>', 'where no invite says it (default: processor)').choices(ROLES))
    .option('--yes', 'ask nobody here: join the only mesh nearby, or the one that --mesh names or gives the address of')
    .option('--net-host <address>', 'this machine’s IPv4 address to look from (default: all in a LAN)')
    .option('--up', 'start this machine’s workers afterwards')
    .addHelpText(
      'after',
      `
Without an invite it shows a code and waits until an admin of the mesh, who sees the same code, accepts the request:
\`infermesh members accept <code>\`. Only meshes of the network lan are found.

Examples:
  infermesh join imv_… --up
  infermesh join imv_… --name gaming-pc && infermesh up --detach
  infermesh join
  infermesh join --mesh c5jctn8ecucag5iz7oyg8ybj5f4ya57jqyyeab796m61hro1z3do --yes`,
    )
    .action(async (text: string | undefined, _options, self: Command) => {
      const options = optionsOf<JoinOptions>(self)
      const home = homePath(options.home)
      const joined = text === undefined ? await joinNearby(home, options) : await joinWith(home, text, options)
      const { profile, member } = joined
      writeProfile(home, profile)
      rememberRole(home, member)
      if (options.json) printJson({ mesh: profile.address, member })
      else {
        print(`This machine is the ${member.role} ${member.name} of the mesh ${profile.address}`)
        if (!options.up)
          print(dim(`Start it with ${command('up', home)}, or ${command('up --detach', home)} in the background.`))
      }
      if (options.up) {
        const { up } = await import('./up.js')
        await up({ ...options, mesh: undefined, role: undefined, name: undefined, netHost: undefined, check: true })
      }
    })
}

interface JoinOptions extends Common, NearbyOptions {
  name?: string
  role?: Role
  up?: boolean
}

interface Joined {
  profile: MeshProfile
  member: Member
}

/** Spends an invite. */
async function joinWith(home: string, text: string, options: JoinOptions): Promise<Joined> {
  const invite = decodeInvite(text === '-' ? readFileSync(0, 'utf8') : text)
  const { id, secret, profile } = invite
  const role = invite.role ?? options.role ?? 'processor'
  if (options.role !== undefined && options.role !== role) {
    throw MeshError.BAD_REQUEST(`This invite is for a ${role}, not for a ${options.role}`)
  }
  if (invite.name !== undefined && (options.name ?? invite.name) !== invite.name) {
    throw MeshError.BAD_REQUEST(`This invite is for the name ${invite.name}, not for ${options.name}`)
  }
  const name = nameFor(home, role, invite.name ?? options.name)
  assertSameMesh(home, profile)
  const member = await withSpinner(
    'joining the mesh',
    options.json === true,
    asNewcomer(home, profile, { role, name }, (mesh, signal) =>
      mesh.join({ id, secret, role, name }, { signal }).catch((err: unknown) => {
        throw elsewhere(err, profile) ?? err
      }),
    ),
  )
  return { profile, member }
}

/** Asks a mesh of this LAN, and waits for its admin. */
async function joinNearby(home: string, options: JoinOptions): Promise<Joined> {
  const role = options.role ?? 'processor'
  const name = nameFor(home, role, options.name)
  const own = findProfile(home)
  const chosen = await chooseNearby(options)
  const profile = profileOf(chosen)
  assertSameMesh(home, profile, own)
  let code = ''
  const quiet = options.json === true
  const waiting = (work: Promise<Member>) => withSpinner('waiting until somebody there accepts it', quiet, work)
  const member = await waiting(
    asNewcomer(home, profile, { role, name }, (mesh, signal) =>
      mesh.askToJoin({
        role,
        name,
        signal,
        onCode: (text) => {
          code = text
          tellCode(text, chosen, quiet)
        },
      }),
    ),
  )
  // One that is a member already is told so, and shows no code.
  if (!options.yes && code !== '') await mustBeOurs(code, chosen)
  return { profile, member }
}

/** Does something with a client that has the worker's own key pair, made where there is none yet. */
function asNewcomer(
  home: string,
  profile: MeshProfile,
  { role, name }: { role: Role; name: string },
  work: (mesh: MeshClient, signal: AbortSignal) => Promise<Member>,
): Promise<Member> {
  const workerDir = homeFiles(home).worker(role, name)
  makePrivateDir(home)
  makePrivateDir(workerDir)
  const seed = loadSeed(workerDir)
  return interruptible(async (signal) => {
    const mesh = new MeshClient({ mesh: profile, home, seed })
    try {
      return await work(mesh, signal)
    } finally {
      await mesh.close()
    }
  })
}

/** @throws MeshError BAD_REQUEST for no name, CONFLICT where a worker runs here under it */
function nameFor(home: string, role: Role, given: string | undefined): string {
  const name = validate(nameSchema, given ?? machineName(), '--name')
  if (runningWorkers(home).some((worker) => worker.role === role && worker.name === name)) {
    throw MeshError.CONFLICT(`The ${role} ${name} runs here already: stop it first, or choose another --name`)
  }
  return name
}

/** Why the authority of a mesh on loopback cannot be reached; undefined where that is not the reason. */
function elsewhere(err: unknown, { network }: MeshProfile): MeshError | undefined {
  if (network.kind !== 'local' || MeshError.from(err).code !== 'AUTHORITY_DOWN') return undefined
  return MeshError.CONFIG_INVALID(
    'This invite is for homes on the machine where it was made (network local), and that mesh does not run here. From another machine: run `infermesh network lan` there, and then `infermesh invite` again',
    {},
    { cause: err },
  )
}

/** A home belongs to one mesh. @throws MeshError CONFLICT */
function assertSameMesh(home: string, profile: MeshProfile, own = findProfile(home)): void {
  if (own !== undefined && own.address !== profile.address) {
    throw MeshError.CONFLICT(
      `${home} belongs to the mesh ${own.address} already, and this is ${profile.address}: join with another --home`,
    )
  }
  const login = findLogin(home)
  if (login !== undefined && login.profile.address !== profile.address) {
    throw MeshError.CONFLICT(
      `${home} is logged in to the mesh ${login.profile.address}, and this is ${profile.address}: ${command('logout', home)} first, or join with another --home`,
    )
  }
}
