import type { Command } from 'commander'
import { type ListOptions, printList, wanted, withListLimit } from '../shared/lists.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { print, printJson, timeText, yellow } from '../shared/output.js'

export function define(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  infermesh members ls
  infermesh members remove p1
  infermesh members remove processor/p1`,
  )

  withListLimit(command.command('ls').alias('list').description('list the workers that belong to the mesh'))
    .addHelpText('after', '\nExample:\n  infermesh members ls --json')
    .action(async (_options, self: Command) => {
      const options = optionsOf<ListOptions>(self)
      const members = await withMesh(options, (mesh, signal) =>
        mesh.admin.members.list({ limit: wanted(options) }, { signal }),
      )
      const rows = members.map(
        ({ role, name, lastSeenAt, trust = 'own', models = [], addedAt, notAfter, publicKey }) => [
          role,
          name,
          [trust, ...models].join(' '),
          timeText(addedAt),
          timeText(notAfter),
          timeText(lastSeenAt),
          publicKey,
        ],
      )
      if (options.json) printJson({ members })
      else
        printList(['ROLE', 'NAME', 'TRUST', 'ADDED', 'UNTIL', 'SEEN', 'PUBLIC KEY'], rows, 'No members yet.', options)
    })

  command
    .command('remove')
    .alias('rm')
    .description('take a worker out of the mesh and cut its links')
    .argument('<member>', 'name, role/name where names repeat, or public key')
    .addHelpText('after', '\nExample:\n  infermesh members remove p1')
    .action(async (member: string, _options, self: Command) => {
      const common = optionsOf(self)
      const removed = await withMesh(common, (mesh, signal) => mesh.admin.members.remove({ member }, { signal }))
      if (common.json) printJson(removed)
      else {
        print(`${removed.role} ${removed.name} is no longer a member of the mesh`)
        if (removed.accountsMoved === false) {
          print(yellow('What it knows of the accounts cannot be replaced now: no change is made to them until it is'))
        }
        if (removed.wasLastGateway === true) {
          print(
            yellow(
              'It was the last gateway: until `infermesh up --role gateway:<new name>` runs one, nobody is served',
            ),
          )
        }
      }
    })
}
