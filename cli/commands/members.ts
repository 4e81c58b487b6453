import type { Command } from 'commander'
import { homePath } from '../../lib/home/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { canAsk, confirm } from '../shared/ask.js'
import { command } from '../shared/hints.js'
import { type ListOptions, printList, wanted, withListLimit } from '../shared/lists.js'
import { type Common, optionsOf, withMesh } from '../shared/mesh.js'
import { bold, print, printJson, timeText, yellow } from '../shared/output.js'

export function define(members: Command): void {
  members.addHelpText(
    'after',
    `
Examples:
  infermesh members ls
  infermesh members requests
  infermesh members accept k7q-3mf
  infermesh members remove p1
  infermesh members remove processor/p1`,
  )

  withListLimit(members.command('ls').alias('list').description('list the workers that belong to the mesh'))
    .addHelpText('after', '\nExample:\n  infermesh members ls --json')
    .action(async (_options, self: Command) => {
      const options = optionsOf<ListOptions>(self)
      const found = await withMesh(options, (mesh, signal) =>
        mesh.admin.members.list({ limit: wanted(options) }, { signal }),
      )
      const rows = found.map(({ role, name, lastSeenAt, trust = 'own', models = [], addedAt, notAfter, publicKey }) => [
        role,
        name,
        [trust, ...models].join(' '),
        timeText(addedAt),
        timeText(notAfter),
        timeText(lastSeenAt),
        publicKey,
      ])
      if (options.json) printJson({ members: found })
      else
        printList(['ROLE', 'NAME', 'TRUST', 'ADDED', 'UNTIL', 'SEEN', 'PUBLIC KEY'], rows, 'No members yet.', options)
    })

  members
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
              `It was the last gateway: until ${command('up --role gateway:<new name>', homePath(common.home))} runs one, nobody is served`,
            ),
          )
        }
      }
    })

  defineRequests(members)
}

function defineRequests(members: Command): void {
  withListLimit(
    members.command('requests').description('list the machines that ask to join (`infermesh join` in the LAN)'),
  )
    .addHelpText('after', '\nExample:\n  infermesh members requests')
    .action(async (_options, self: Command) => {
      const options = optionsOf<ListOptions>(self)
      const requests = await withMesh(options, (mesh, signal) =>
        mesh.admin.admissions.list({ limit: wanted(options) }, { signal }),
      )
      const rows = requests.map(({ code, name, role, address, askedAt, expiresAt }) => [
        ...[code, name, role, address, timeText(askedAt), timeText(expiresAt)],
      ])
      if (options.json) printJson({ requests })
      else printList(['CODE', 'NAME', 'ROLE', 'FROM', 'ASKED', 'UNTIL'], rows, 'No machine asks to join.', options)
    })

  members
    .command('accept')
    .description('let a machine in that asks to join and shows the same code')
    .argument('<request>', 'the code that the machine shows, or its name')
    .option('--guest', 'trust it less: it serves only models that `infermesh models approve` allows it')
    .option('--yes', 'do not ask whether the code is the same, where a name is given')
    .addHelpText(
      'after',
      '\nExamples:\n  infermesh members accept k7q-3mf\n  infermesh members accept gaming-pc --guest',
    )
    .action(async (given: string, _options, self: Command) => {
      const options = optionsOf<{ guest?: boolean; yes?: boolean }>(self)
      const request = await codeFor(given, options)
      const trust = options.guest ? 'guest' : 'own'
      const member = await withMesh(options, (mesh, signal) =>
        mesh.admin.admissions.accept({ request, trust }, { signal }),
      )
      if (options.json) printJson({ member })
      else print(`${member.role} ${member.name} is a member of the mesh now`)
    })

  members
    .command('refuse')
    .description('turn a machine away that asks to join')
    .argument('<request>', 'its code or name')
    .addHelpText('after', '\nExample:\n  infermesh members refuse k7q-3mf')
    .action(async (request: string, _options, self: Command) => {
      const common = optionsOf(self)
      const refused = await withMesh(common, (mesh, signal) => mesh.admin.admissions.refuse({ request }, { signal }))
      if (common.json) printJson(refused)
      else print(`${refused.role} ${refused.name} was refused`)
    })
}

/**
 * What is accepted: a code as it is; of a name the code that belongs to it, once a person has compared it, for a name is
 * what anybody may say.
 * @throws MeshError BAD_REQUEST where nobody can be asked, CANCELLED for a no; Interrupted
 */
async function codeFor(given: string, options: Common & { yes?: boolean }): Promise<string> {
  const requests = await withMesh(options, (mesh, signal) => mesh.admin.admissions.list({}, { signal }))
  const named = requests.filter(({ name, role }) => name === given || `${role}/${name}` === given)
  const [only] = named
  if (options.yes || only === undefined || named.length > 1) return given
  if (!canAsk() || options.json) {
    throw MeshError.BAD_REQUEST(`Anybody may say the name ${given}: give the code that the machine shows, or --yes`)
  }
  const { code, role, name, address } = only
  if (await confirm(`Does the machine ${bold(name)} (${role}, from ${address}) show ${bold(code)}?`)) return code
  throw MeshError.CANCELLED('Nothing was accepted')
}
