import type { Command } from 'commander'
import { homePath } from '../../lib/home/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { userBudgets } from '../shared/budgets.js'
import { printConfirmation } from '../shared/confirmation.js'
import { factsOfUser, keyState } from '../shared/facts.js'
import { changedLimits, warnOfModels, withLimits, withNoLimits } from '../shared/limits.js'
import { type ListOptions, printList, wanted, withListLimit } from '../shared/lists.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { print, printFacts, printJson, timeText } from '../shared/output.js'
import { type LimitOptions, limitsOf, limitsText } from '../shared/parse.js'
import { readNewPassword, readPassword } from '../shared/password.js'
import { noSuchUser } from '../shared/users.js'

const OLD_WANTED =
  'Your new password wants the old one too: from a pipe, two lines, the old one and then the new one. An admin sets anybody’s with `infermesh users passwd <name>`'

/** True where the mesh asks for the old password, which was not given. */
function wantsOld(err: unknown): boolean {
  return err instanceof MeshError && err.code === 'FORBIDDEN' && err.details.param === 'oldPassword'
}

export function define(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  infermesh users add ann --budget 1M/month
  infermesh keys create --user ann
  infermesh users show ann
  infermesh users passwd ann
  infermesh users rm ann`,
  )

  withLimits(
    command
      .command('add')
      .description('add a user; make it a key with `keys create --user`')
      .argument('<name>', 'name of the user')
      .option('--admin', 'may manage users, keys, members and invites')
      .option('--password', 'ask for a password, or read it from standard input'),
  )
    .addHelpText('after', '\nExample:\n  infermesh users add ann --rpm 60 --budget 1M/month')
    .action(async (name: string, _options, self: Command) => {
      const options = optionsOf<LimitOptions & { admin?: boolean; password?: boolean }>(self)
      const password = options.password ? await readPassword(name) : undefined
      const user = await withMesh(options, async (mesh, signal) => {
        await warnOfModels(mesh, options.models, signal)
        const role = options.admin ? 'admin' : 'user'
        return mesh.admin.users.add({ name, role, password, limits: limitsOf(options) }, { signal })
      })
      if (options.json) printJson(user)
      else
        print(`${user.role === 'admin' ? 'Admin' : 'User'} ${user.name} is added, limits: ${limitsText(user.limits)}`)
    })

  withListLimit(command.command('ls').alias('list').description('list users'))
    .addHelpText('after', '\nExample:\n  infermesh users ls')
    .action(async (_options, self: Command) => {
      const options = optionsOf<ListOptions>(self)
      const users = await withMesh(options, (mesh, signal) =>
        mesh.admin.users.list({ limit: wanted(options) }, { signal }),
      )
      const rows = users.map(({ name, role, hasPassword, createdAt, limits }) => [
        name,
        role,
        hasPassword ? 'yes' : 'no',
        timeText(createdAt),
        limitsText(limits),
      ])
      if (options.json) printJson({ users })
      else printList(['NAME', 'ROLE', 'PASSWORD', 'ADDED', 'LIMITS'], rows, 'No users yet.', options)
    })

  withNoLimits(
    withLimits(
      command
        .command('limits')
        .description('show a user’s limits, or set those that are named')
        .argument('<name>', 'name of the user'),
    ),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  infermesh users limits ann\n  infermesh users limits ann --budget 2M/month\n  infermesh users limits ann --none',
    )
    .action(async (name: string, _options, self: Command) => {
      const options = optionsOf<LimitOptions & { none?: boolean }>(self)
      const user = await withMesh(options, async (mesh, signal) => {
        const [present] = await mesh.admin.users.list({ name }, { signal })
        const limits = changedLimits(present?.limits ?? {}, options)
        if (present !== undefined && limits === undefined) return present
        await warnOfModels(mesh, options.models, signal)
        // Of a user that is not there, the mesh says who is.
        return mesh.admin.users.limits({ name, limits: limits ?? {} }, { signal })
      })
      if (options.json) printJson(user)
      else print(`Limits of ${user.name}: ${limitsText(user.limits)}`)
    })

  command
    .command('show')
    .description('show a user: limits, what they leave, and keys')
    .argument('<name>', 'name of the user')
    .addHelpText(
      'after',
      '\nA budget is told as the authority has counted it, of all gateways together.\n\nExample:\n  infermesh users show ann',
    )
    .action(async (name: string, _options, self: Command) => {
      const common = optionsOf(self)
      const now = Date.now()
      const shown = await withMesh(common, async (mesh, signal) => {
        const [user] = await mesh.admin.users.list({ name }, { signal })
        if (user === undefined) throw noSuchUser(name, homePath(common.home))
        const keys = await mesh.admin.keys.list({ user: name }, { signal })
        const budget = (await userBudgets(mesh, [user], now, signal)).get(name)
        const valid = keys.filter((key) => keyState(key, now) === 'valid')
        return { ...user, budget, keys: { valid: valid.map(({ id }) => id), other: keys.length - valid.length } }
      })
      if (common.json) printJson(shown)
      else printFacts(factsOfUser(shown, now))
    })

  command
    .command('rm')
    .alias('remove')
    .description('remove a user and revoke the user’s keys')
    .argument('<name>', 'name of the user')
    .addHelpText('after', '\nExample:\n  infermesh users rm ann')
    .action(async (name: string, _options, self: Command) => {
      const common = optionsOf(self)
      const confirmation = await withMesh(common, (mesh, signal) => mesh.admin.users.remove({ name }, { signal }))
      if (common.json) printJson({ name, ...confirmation })
      else {
        print(`User ${name} is removed, and every key of ${name} revoked`)
        printConfirmation(confirmation)
      }
    })

  command
    .command('passwd')
    .description('set a password: your own, or for an admin anyone’s')
    .argument('[name]', 'name of the user (default: yourself)')
    .addHelpText(
      'after',
      '\nYour own wants the old one too: from a pipe, on the line before the new one.\n\nExamples:\n  infermesh users passwd\n  echo "$PASSWORD" | infermesh users passwd ann',
    )
    .action(async (name: string | undefined, _options, self: Command) => {
      const common = optionsOf(self)
      const given = name === undefined ? await readNewPassword() : { name, password: await readPassword(name) }
      await withMesh(common, async (mesh, signal) => {
        try {
          await mesh.admin.users.passwd(given, { signal })
        } catch (err) {
          throw wantsOld(err) ? MeshError.FORBIDDEN(OLD_WANTED) : err
        }
      })
      if (common.json) printJson({ name })
      else print('The password is set')
    })
}
