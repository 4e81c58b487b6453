import { readFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { MeshClient } from '../../lib/client/index.js'
import { findProfile, homeFiles, homePath, loadSeed, makePrivateDir, writeProfile } from '../../lib/home/index.js'
import {
  decodeInvite,
  MeshError,
  type MeshProfile,
  nameSchema,
  ROLES,
  type Role,
  validate,
} from '../../lib/protocol/index.js'
import { optionsOf } from '../shared/mesh.js'
import { dim, interruptible, print, printJson, withSpinner } from '../shared/output.js'
import { machineName, rememberRole } from '../supervisor/plan.js'
import { runningWorkers } from '../supervisor/state.js'

export function define(command: Command): void {
  command
    .argument('<invite>', 'what `infermesh invite` printed on the other machine, or - to read it from standard input')
    .option('--name <name>', 'what this worker is called (default: the invite’s name, else this machine’s name)')
    .addOption(new Option('--role <role>', 'where the invite leaves it open').choices(ROLES))
    .option('--up', 'start this machine’s workers afterwards')
    .addHelpText(
      'after',
      `
Examples:
  infermesh join imv_… --up
  infermesh join imv_… --name gaming-pc && infermesh up --detach`,
    )
    .action(async (text: string, _options, self: Command) => {
      const options = optionsOf<{ name?: string; role?: Role; up?: boolean }>(self)
      const home = homePath(options.home)
      const invite = decodeInvite(text === '-' ? readFileSync(0, 'utf8') : text)
      const role = invite.role ?? options.role ?? 'processor'
      if (options.role !== undefined && options.role !== role) {
        throw MeshError.BAD_REQUEST(`This invite is for a ${role}, not for a ${options.role}`)
      }
      if (invite.name !== undefined && (options.name ?? invite.name) !== invite.name) {
        throw MeshError.BAD_REQUEST(`This invite is for the name ${invite.name}, not for ${options.name}`)
      }
      const name = validate(nameSchema, invite.name ?? options.name ?? machineName(), '--name')
      if (runningWorkers(home).some((worker) => worker.role === role && worker.name === name)) {
        throw MeshError.CONFLICT(`The ${role} ${name} runs here already: stop it first, or choose another --name`)
      }
      assertSameMesh(home, invite.profile)

      const workerDir = homeFiles(home).worker(role, name)
      makePrivateDir(home)
      makePrivateDir(workerDir)
      const seed = loadSeed(workerDir)
      const member = await withSpinner(
        'joining the mesh',
        options.json === true,
        interruptible(async (signal) => {
          const mesh = new MeshClient({ mesh: invite.profile, home, seed })
          try {
            return await mesh.join({ id: invite.id, secret: invite.secret, role, name }, { signal })
          } catch (err) {
            throw elsewhere(err, invite.profile) ?? err
          } finally {
            await mesh.close()
          }
        }),
      )
      writeProfile(home, invite.profile)
      rememberRole(home, { role, name })
      if (options.json) printJson({ mesh: invite.profile.address, member })
      else {
        print(`This machine is the ${role} ${member.name} of the mesh ${invite.profile.address}`)
        if (!options.up) print(dim('Start it with `infermesh up`, or `infermesh up --detach` in the background.'))
      }
      if (options.up) {
        const { up } = await import('./up.js')
        await up({ ...options, role: undefined, name: undefined, check: true })
      }
    })
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
function assertSameMesh(home: string, profile: MeshProfile): void {
  const own = findProfile(home)
  if (own === undefined || own.address === profile.address) return
  throw MeshError.CONFLICT(
    `${home} belongs to the mesh ${own.address} already, and this invite is for ${profile.address}: join with another --home`,
  )
}
