import type { Command } from 'commander'
import { withLimits } from '../shared/limits.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { bold, dim, print, printJson, printTable, red, timeText } from '../shared/output.js'
import { duration, type LimitOptions, limitsOf, limitsText } from '../shared/parse.js'

export function define(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  infermesh keys create --user ann --label laptop --rpm 60 --budget 100000/day --expires 30d
  infermesh keys ls
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
    .addHelpText(
      'after',
      `
Examples:
  infermesh keys create --label ci --expires 90d
  export OPENAI_API_KEY=$(infermesh keys create --json | jq -r .key)`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<LimitOptions & { user?: string; label?: string; expires?: number }>(self)
      const { user, label, expires } = options
      const made = await withMesh(options, (mesh, signal) =>
        mesh.admin.keys.create(
          {
            user,
            label,
            limits: limitsOf(options),
            expiresAt: expires === undefined ? undefined : Date.now() + expires,
          },
          { signal },
        ),
      )
      const { id, key, limits, expiresAt } = made
      if (options.json) {
        printJson({ id, key, user: made.user, label: made.label, limits, expiresAt })
        return
      }
      print(bold(key))
      print(dim(`for ${made.user}, limits: ${limitsText(limits)}${expiresAt ? `, until ${timeText(expiresAt)}` : ''}`))
      print(dim('Keep it now: it is not stored and cannot be shown again.'))
    })

  command
    .command('ls')
    .alias('list')
    .description('list your keys; for an admin everyone’s')
    .addHelpText('after', '\nExample:\n  infermesh keys ls')
    .action(async (_options, self: Command) => {
      const common = optionsOf(self)
      const keys = await withMesh(common, (mesh, signal) => mesh.admin.keys.list({ signal }))
      if (common.json) {
        printJson({ keys })
        return
      }
      const now = Date.now()
      const rows = keys.map((key) => [
        key.id,
        key.user,
        key.label ?? '-',
        stateOf(key, now),
        timeText(key.createdAt),
        timeText(key.expiresAt),
        limitsText(key.limits),
      ])
      printTable(['ID', 'USER', 'LABEL', 'STATE', 'MADE', 'EXPIRES', 'LIMITS'], rows, 'No keys yet.')
    })

  command
    .command('revoke')
    .alias('rm')
    .description('make a key worthless, on every gateway within a second')
    .argument('<id>', 'the key’s id: what stands between im_ and the next _')
    .addHelpText('after', '\nExample:\n  infermesh keys revoke 1pjcnbhzd4xue')
    .action(async (id: string, _options, self: Command) => {
      const common = optionsOf(self)
      const key = await withMesh(common, (mesh, signal) => mesh.admin.keys.revoke({ id: idOf(id) }, { signal }))
      if (common.json) printJson(key)
      else print(`The key im_${key.id}_… of ${key.user} is revoked`)
    })
}

function stateOf({ revokedAt, expiresAt }: { revokedAt?: number; expiresAt?: number }, now: number): string {
  if (revokedAt !== undefined) return red('revoked')
  return expiresAt !== undefined && expiresAt <= now ? red('expired') : 'valid'
}

/** People paste a whole key where its id is asked for: the secret part goes nowhere. */
function idOf(text: string): string {
  return text.startsWith('im_') ? (text.split('_')[1] ?? text) : text
}
