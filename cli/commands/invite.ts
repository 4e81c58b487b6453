import { type Command, Option } from 'commander'
import { ROLES, type Role } from '../../lib/protocol/index.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { bold, dim, print, printJson, timeText } from '../shared/output.js'
import { duration } from '../shared/parse.js'

export function define(command: Command): void {
  command
    .addOption(new Option('--role <role>', 'what the other machine will be').choices(ROLES).default('processor'))
    .option('--name <name>', 'what it will be called (default: what it asks for)')
    .option('--guest', 'trust it less: it serves only models that `infermesh models approve` allows it')
    .option('--expires <time>', 'how long the invite is valid (default: 1d)', duration)
    .addHelpText(
      'after',
      `
The invite works once, for one worker. Whoever has it can join: send it as you would a password.

Examples:
  infermesh invite
  infermesh invite --role gateway --name g2 --expires 1h
  infermesh invite --json | jq -r .invite`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ role: Role; name?: string; guest?: boolean; expires?: number }>(self)
      const { role, name, guest, expires } = options
      const made = await withMesh(options, (mesh, signal) =>
        mesh.admin.invites.create({ role, name, trust: guest ? 'guest' : 'own', expiresInMs: expires }, { signal }),
      )
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
