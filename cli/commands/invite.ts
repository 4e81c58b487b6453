import { type Command, Option } from 'commander'
import type { InviteInfo } from '../../lib/client/index.js'
import { homePath } from '../../lib/home/index.js'
import { MeshError, ROLES, type Role } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { type ListOptions, printList, wanted, withListLimit } from '../shared/lists.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { bold, dim, print, printJson, red, timeText } from '../shared/output.js'
import { duration } from '../shared/parse.js'

export function define(invite: Command): void {
  defineList(invite)
  defineRevoke(invite)
  invite
    .addOption(new Option('--role <role>', 'what the other machine will be').choices(ROLES).default('processor'))
    .option('--name <name>', 'what it will be called (default: what it asks for)')
    .option('--guest', 'trust it less: it serves only models that `infermesh models approve` allows it')
    .option('--same-machine', 'for another home on this machine: what a local mesh can invite')
    .option('--expires <time>', 'how long the invite is valid (default: 1d)', duration)
    .addHelpText(
      'after',
      `
The invite works once, for one worker. Whoever has it can join: send it as you would a password.

Examples:
  infermesh invite
  infermesh invite --role gateway --name g2 --expires 1h
  infermesh invite --json | jq -r .invite
  infermesh invite ls`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<InviteOptions>(self)
      const { role, name, guest, expires } = options
      const made = await withMesh(options, (mesh, signal) => {
        if (mesh.network.kind === 'local' && !options.sameMachine) throw nobodyCanJoin(homePath(options.home))
        return mesh.admin.invites.create(
          { role, name, trust: guest ? 'guest' : 'own', expiresInMs: expires },
          { signal },
        )
      })
      if (options.json) {
        printJson(made)
        return
      }
      print(
        dim(`For one ${guest ? 'guest ' : ''}${role}, once, until ${timeText(made.expiresAt)}. On the other machine:`),
      )
      print()
      print(`infermesh join ${bold(made.invite)}`)
    })
}

interface InviteOptions {
  role: Role
  name?: string
  guest?: boolean
  sameMachine?: boolean
  expires?: number
}

/** What an invite to a mesh on loopback would be: worthless on any other machine. */
function nobodyCanJoin(home: string): MeshError {
  return MeshError.CONFIG_INVALID(
    `The mesh is on this machine alone (network local), so no other can join it. ${command('network lan', home)} lets machines of your LAN find it, ${command('network public', home)} machines anywhere; then invite. For another home on this machine: --same-machine`,
  )
}

function defineList(invite: Command): void {
  withListLimit(invite.command('ls').alias('list').description('list invites, without their secrets'))
    .addHelpText('after', '\nExample:\n  infermesh invite ls')
    .action(async (_options, self: Command) => {
      const options = optionsOf<ListOptions>(self)
      const invites = await withMesh(options, (mesh, signal) =>
        mesh.admin.invites.list({ limit: wanted(options) }, { signal }),
      )
      const now = Date.now()
      const rows = invites.map((invite) => [
        invite.id,
        invite.role ?? 'any',
        invite.name ?? '-',
        invite.trust ?? 'own',
        stateOf(invite, now),
        timeText(invite.createdAt),
        timeText(invite.expiresAt),
      ])
      if (options.json) printJson({ invites })
      else printList(['ID', 'ROLE', 'NAME', 'TRUST', 'STATE', 'MADE', 'EXPIRES'], rows, 'No invites yet.', options)
    })
}

function defineRevoke(invite: Command): void {
  invite
    .command('revoke')
    .alias('rm')
    .description('make an invite worthless; whom it admitted stays')
    .argument('<id>', 'the invite’s id, as `invite ls` shows it')
    .addHelpText('after', '\nExample:\n  infermesh invite revoke 8kq3zzgk1nsxa')
    .action(async (id: string, _options, self: Command) => {
      const common = optionsOf(self)
      await withMesh(common, (mesh, signal) => mesh.admin.invites.revoke({ id }, { signal }))
      if (common.json) printJson({ id })
      else print(`The invite ${id} is revoked`)
    })
}

function stateOf({ revokedAt, spentAt, expiresAt, reusable }: InviteInfo, now: number): string {
  if (revokedAt !== undefined) return red('revoked')
  if (spentAt !== undefined) return 'spent'
  if (expiresAt !== undefined && expiresAt <= now) return red('expired')
  return reusable ? 'this home’s own' : 'open'
}
