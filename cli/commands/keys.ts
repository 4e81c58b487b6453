import type { Command } from 'commander'
import type { ApiKeyInfo, Limits, MeshClient, Scope } from '../../lib/client/index.js'
import { adminKeyPath, homePath, readAdminKey, writeAdminKey } from '../../lib/home/index.js'
import { MeshError, SCOPES } from '../../lib/protocol/index.js'
import { keyBudgets } from '../shared/budgets.js'
import { printConfirmation } from '../shared/confirmation.js'
import { connectionOf, printConnection } from '../shared/connection.js'
import { factsOfKey, keyState, type ShownKey } from '../shared/facts.js'
import { command as typed } from '../shared/hints.js'
import { changedLimits, warnOfModels, withLimits, withNoLimits } from '../shared/limits.js'
import { type ListOptions, printList, wanted, withListLimit } from '../shared/lists.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { bold, dim, print, printFacts, printJson, timeText } from '../shared/output.js'
import { duration, gatherScope, type LimitOptions, limitsOf, limitsText } from '../shared/parse.js'
import { mustBeUser } from '../shared/users.js'

interface CreateOptions extends LimitOptions {
  user?: string
  label?: string
  expires?: number
  scope?: Scope[]
  alone?: boolean
}

export function define(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  infermesh keys create --user ann --label laptop --rpm 60 --budget 100000/day --expires 30d
  infermesh keys create --scope inference --scope read:usage
  infermesh keys ls
  infermesh keys show 1pjcnbhzd4xue
  infermesh keys limits 1pjcnbhzd4xue --rpm 30
  infermesh keys revoke 1pjcnbhzd4xue`,
  )

  withLimits(
    command
      .command('create')
      .description('make an API key; it is shown this once')
      .option('--user <name>', 'whose key (default: your own)')
      .option('--label <text>', 'what to call it'),
  )
    .option('--expires <time>', 'how long it is valid, such as 30d (default: until revoked)', duration)
    .option(
      '--scope <scope>',
      `what it may be used for: ${SCOPES.join(', ')}; can be repeated (default: inference)`,
      gatherScope,
    )
    .option('--alone', 'it does not end with the key that it is made with (for admins)')
    .addHelpText(
      'after',
      `
Examples:
  infermesh keys create --label ci --expires 90d
  export OPENAI_API_KEY=$(infermesh keys create --json | jq -r .key)`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<CreateOptions>(self)
      const { user, label, expires, scope, alone } = options
      const { made, connection } = await withMesh(options, async (mesh, signal) => {
        await warnOfModels(mesh, options.models, signal)
        const made = await mesh.admin.keys.create(
          {
            user,
            label,
            scopes: scope,
            limits: limitsOf(options),
            expiresAt: expires === undefined ? undefined : Date.now() + expires,
            alone,
          },
          { signal },
        )
        const { connect } = made
        return { made, connection: connect === undefined ? undefined : await connectionOf(mesh, connect, signal) }
      })
      const { id, key, connect, scopes, limits, expiresAt } = made
      if (options.json) {
        const { label, parent } = made
        const { mesh, baseURL } = connection ?? {}
        printJson({ id, key, connect, mesh, baseURL, user: made.user, label, scopes, parent, limits, expiresAt })
        return
      }
      print(bold(key))
      print(dim(`for ${made.user}, ${toldOf(made)}`))
      if (made.parent !== undefined)
        print(dim(`It ends with the key im_${made.parent}_…, whose limits hold for both together.`))
      print(dim('Keep it now: it is not stored and cannot be shown again.'))
      if (connect !== undefined && connection !== undefined)
        printConnection(homePath(options.home), key, connect, connection)
    })

  command
    .command('rotate')
    .description('put a new key in this home’s admin.key, and revoke the old one')
    .option('--expires <time>', 'how long the new one is valid, such as 90d (default: until revoked)', duration)
    .addHelpText(
      'after',
      '\nKeys that were made with the old one end with it. Where the old one is lost or over, delete admin.key and\nstart the authority again: it makes a new one.\n\nExample:\n  infermesh keys rotate --expires 90d',
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ expires?: number }>(self)
      const home = homePath(options.home)
      const old = readAdminKey(home)
      if (old === undefined) throw MeshError.NOT_FOUND(`${adminKeyPath(home)} is not there: this home has no key`)
      const expiresAt = options.expires === undefined ? undefined : Date.now() + options.expires
      const { key, id } = await withMesh({ ...options, key: old.text }, (mesh, signal) =>
        mesh.admin.keys.create({ label: 'home', scopes: [...SCOPES], expiresAt, alone: true }, { signal }),
      )
      // In its file first: whatever fails from here on, somebody has a key.
      writeAdminKey(home, key)
      const revoked = await withMesh({ ...options, key }, (mesh, signal) =>
        mesh.admin.keys.revoke({ id: old.id }, { signal }),
      )
      if (options.json) printJson({ id, file: adminKeyPath(home), revoked: old.id, expiresAt })
      else {
        print(`${adminKeyPath(home)} holds the key im_${id}_… now; im_${old.id}_… is revoked`)
        printConfirmation(revoked)
      }
    })

  withListLimit(
    command
      .command('ls')
      .alias('list')
      .description('list your keys, newest first; for an admin everyone’s')
      .option('--user <name>', 'this user only'),
  )
    .addHelpText('after', '\nExample:\n  infermesh keys ls')
    .action(async (_options, self: Command) => {
      const options = optionsOf<ListOptions & { user?: string }>(self)
      const { user } = options
      const keys = await withMesh(options, async (mesh, signal) => {
        const found = await mesh.admin.keys.list({ user, limit: wanted(options) }, { signal })
        if (found.length === 0 && user !== undefined) await mustBeUser(mesh, user, homePath(options.home), signal)
        return found
      })
      if (options.json) {
        printJson({ keys })
        return
      }
      const now = Date.now()
      const rows = keys.map((key) => [
        key.id,
        key.user,
        key.label ?? '-',
        keyState(key, now),
        timeText(key.createdAt),
        timeText(key.expiresAt),
        key.scopes?.join(', ') ?? 'all of its user’s',
        limitsHere(key),
      ])
      printList(['ID', 'USER', 'LABEL', 'STATE', 'MADE', 'EXPIRES', 'SCOPES', 'LIMITS'], rows, 'No keys yet.', options)
    })

  withNoLimits(
    withLimits(
      command
        .command('update')
        .description('name or narrow a key; an admin may widen it')
        .argument('<id>', 'the key’s id: what stands between im_ and the next _')
        .option('--label <text>', 'what to call it'),
    ),
  )
    .option('--expires <time>', 'how long it is valid from now on, such as 30d', duration)
    .option('--scope <scope>', `what it may be used for: ${SCOPES.join(', ')}; can be repeated`, gatherScope)
    .addHelpText(
      'after',
      '\nLimits that are not named stay.\n\nExample:\n  infermesh keys update 1pjcnbhzd4xue --rpm 30 --label ci',
    )
    .action(async (text: string, _options, self: Command) => {
      const options = optionsOf<LimitOptions & { label?: string; expires?: number; scope?: Scope[]; none?: boolean }>(
        self,
      )
      const { label, expires, scope } = options
      const id = idOf(text)
      const key = await withMesh(options, async (mesh, signal) => {
        const [present] = await mesh.admin.keys.list({ id }, { signal })
        const limits = changedLimits(present?.limits ?? {}, options)
        if ([label, expires, scope, limits].every((one) => one === undefined)) {
          throw MeshError.BAD_REQUEST('Say what to change: a label, scopes, limits or when it expires')
        }
        await warnOfModels(mesh, options.models, signal)
        const expiresAt = expires === undefined ? undefined : Date.now() + expires
        return mesh.admin.keys.update({ id, label, scopes: scope, limits, expiresAt }, { signal })
      })
      if (options.json) printJson(key)
      else print(`The key im_${key.id}_… of ${key.user}: ${toldOf(key)}`)
    })

  defineLimits(command)
  defineShow(command)

  command
    .command('revoke')
    .alias('rm')
    .description('make a key and those made with it worthless, on every linked gateway within a second')
    .argument('<id>', 'the key’s id: what stands between im_ and the next _')
    .addHelpText('after', '\nExample:\n  infermesh keys revoke 1pjcnbhzd4xue')
    .action(async (id: string, _options, self: Command) => {
      const common = optionsOf(self)
      const key = await withMesh(common, (mesh, signal) => mesh.admin.keys.revoke({ id: idOf(id) }, { signal }))
      if (common.json) printJson(key)
      else {
        print(`The key im_${key.id}_… of ${key.user} is revoked`)
        printConfirmation(key)
      }
    })
}

function defineLimits(command: Command): void {
  withNoLimits(
    withLimits(
      command
        .command('limits')
        .description('show a key’s limits, or set those that are named')
        .argument('<id>', 'the key’s id'),
    ),
  )
    .addHelpText(
      'after',
      '\nLimits that are not named stay.\n\nExamples:\n  infermesh keys limits 1pjcnbhzd4xue\n  infermesh keys limits 1pjcnbhzd4xue --budget 2M/month\n  infermesh keys limits 1pjcnbhzd4xue --none',
    )
    .action(async (text: string, _options, self: Command) => {
      const options = optionsOf<LimitOptions & { none?: boolean }>(self)
      const id = idOf(text)
      const key = await withMesh(options, async (mesh, signal) => {
        const [present] = await mesh.admin.keys.list({ id }, { signal })
        const limits = changedLimits(present?.limits ?? {}, options)
        if (present !== undefined && limits === undefined) return present
        await warnOfModels(mesh, options.models, signal)
        // Of a key that is not there, the mesh says which are.
        return mesh.admin.keys.update({ id, limits: limits ?? {} }, { signal })
      })
      if (options.json) printJson(key)
      else print(`Limits of the key im_${key.id}_… of ${key.user}: ${limitsText(key.limits)}`)
    })
}

function defineShow(command: Command): void {
  command
    .command('show')
    .description('show a key: its limits, what they leave, and what it may do')
    .argument('<id>', 'the key’s id: what stands between im_ and the next _')
    .addHelpText(
      'after',
      '\nA budget is told as the authority has counted it, of all gateways together. `infermesh whoami` shows the key in use.\n\nExample:\n  infermesh keys show 1pjcnbhzd4xue --json',
    )
    .action(async (text: string, _options, self: Command) => {
      const common = optionsOf(self)
      const home = homePath(common.home)
      const now = Date.now()
      const shown = await withMesh(common, (mesh, signal) => keyById(mesh, idOf(text), { home, now }, signal))
      if (common.json) printJson(shown)
      else printFacts(factsOfKey(shown, now))
    })
}

/** @throws MeshError NOT_FOUND */
async function keyById(
  mesh: MeshClient,
  id: string,
  { home, now }: { home: string; now: number },
  signal: AbortSignal,
): Promise<ShownKey> {
  const [key] = await mesh.admin.keys.list({ id }, { signal })
  if (key === undefined) throw MeshError.NOT_FOUND(`No API key has the id ${id}: ${typed('keys ls', home)} lists them`)
  if (key.limits.budget === undefined) return key
  const all = await mesh.admin.keys.list({ user: key.user }, { signal })
  return { ...key, budget: (await keyBudgets(mesh, [key], all, now, signal)).get(id) }
}

/** A key's own limits, and whose hold besides. */
function limitsHere({ limits, parent }: Pick<ApiKeyInfo, 'parent'> & { limits: Limits }): string {
  if (parent === undefined) return limitsText(limits)
  const own = Object.keys(limits).length === 0 ? '' : `${limitsText(limits)}, `
  return `${own}those of im_${parent}_…${own === '' ? '' : ' too'}`
}

/** What a key may do, in few words. */
function toldOf({ scopes, limits, expiresAt }: Pick<ApiKeyInfo, 'scopes' | 'expiresAt'> & { limits: Limits }): string {
  const may = scopes === undefined ? '' : `for ${scopes.join(', ')}, `
  return `${may}limits: ${limitsText(limits)}${expiresAt === undefined ? '' : `, until ${timeText(expiresAt)}`}`
}

/** People paste a whole key where its id is asked for: the secret part goes nowhere. */
function idOf(text: string): string {
  return text.startsWith('im_') ? (text.split('_')[1] ?? text) : text
}
