import { type Command, InvalidArgumentError } from 'commander'
import type { UsageRow } from '../../lib/client/index.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { countText, printJson, printTable } from '../shared/output.js'
import { since } from '../shared/parse.js'

const GROUPS = {
  key: (row: UsageRow) => row.keyId,
  user: (row: UsageRow) => row.user,
  model: (row: UsageRow) => row.model,
  day: (row: UsageRow) => row.hour.slice(0, 10),
  hour: (row: UsageRow) => row.hour,
} as const
type Group = keyof typeof GROUPS

const SUMS = ['requests', 'failures', 'promptTokens', 'cachedTokens', 'completionTokens'] as const
type Totals = Record<(typeof SUMS)[number], number>

export function define(command: Command): void {
  command
    .option('--since <time>', 'such as 24h, 7d or 2026-01-31 (default: since ever)', since)
    .option('--by <what>', `what makes a row: ${Object.keys(GROUPS).join(', ')}; can be repeated`, gatherGroup)
    .option('--user <name>', 'this user only')
    .option('--key-id <id>', 'this key only')
    .addHelpText(
      'after',
      `
You see your own usage, and as an admin everyone’s. Times are whole hours in UTC.

Examples:
  infermesh usage
  infermesh usage --since 7d --by user --by model
  infermesh usage --by day --json`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ since?: number; by?: Group[]; user?: string; keyId?: string }>(self)
      const { by = ['user', 'key', 'model'], user, keyId } = options
      const rows = await withMesh(options, (mesh, signal) =>
        mesh.admin.usage.query({ from: options.since ?? 0, user, keyId }, { signal }),
      )
      const groups = grouped(rows, by)
      if (options.json) {
        printJson({ rows: groups.map(({ names, totals }) => ({ ...names, ...totals })), total: sum(rows) })
        return
      }
      const cells = groups.map(({ names, totals }) => [...by.map((name) => names[name] ?? ''), ...numbers(totals)])
      if (groups.length > 1) cells.push([...by.map((_, i) => (i === 0 ? 'total' : '')), ...numbers(sum(rows))])
      printTable(
        [...by.map((name) => name.toUpperCase()), 'REQUESTS', 'FAILED', 'PROMPT', 'CACHED', 'COMPLETION'],
        cells,
        'Nothing was used yet.',
      )
    })
}

function gatherGroup(text: string, before: Group[] = []): Group[] {
  if (!Object.hasOwn(GROUPS, text)) throw new InvalidArgumentError(`Expected ${Object.keys(GROUPS).join(', ')}.`)
  return [...before, text as Group]
}

function grouped(rows: UsageRow[], by: Group[]): { names: Partial<Record<Group, string>>; totals: Totals }[] {
  const groups = new Map<string, UsageRow[]>()
  for (const row of rows) {
    const id = JSON.stringify(by.map((name) => GROUPS[name](row)))
    groups.set(id, [...(groups.get(id) ?? []), row])
  }
  return [...groups.values()]
    .map((members) => ({
      names: Object.fromEntries(by.map((name) => [name, GROUPS[name](members[0] as UsageRow)])),
      totals: sum(members),
    }))
    .sort((a, b) => JSON.stringify(a.names).localeCompare(JSON.stringify(b.names)))
}

function sum(rows: UsageRow[]): Totals {
  const totals: Totals = { requests: 0, failures: 0, promptTokens: 0, cachedTokens: 0, completionTokens: 0 }
  for (const row of rows) for (const name of SUMS) totals[name] += row[name]
  return totals
}

function numbers(totals: Totals): string[] {
  return SUMS.map((name) => countText(totals[name]))
}
