import { type Command, InvalidArgumentError } from 'commander'
import type { UsageDimension, UsageSum } from '../../lib/client/index.js'
import { addUsage, NO_USAGE, type UsageTotals } from '../../lib/protocol/index.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { countText, printJson, printTable } from '../shared/output.js'
import { since } from '../shared/parse.js'

const DIMENSIONS = ['key', 'user', 'model', 'day', 'hour'] as const satisfies UsageDimension[]

const SUMS = ['requests', 'failures', 'promptTokens', 'cachedTokens', 'completionTokens'] as const

export function define(command: Command): void {
  command
    .option('--since <time>', 'such as 24h, 7d or 2026-01-31 (default: since ever)', since)
    .option('--by <what>', `what makes a row: ${DIMENSIONS.join(', ')}; can be repeated`, gatherDimension)
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
      const options = optionsOf<{ since?: number; by?: UsageDimension[]; user?: string; keyId?: string }>(self)
      const { by = ['user', 'key', 'model'], user, keyId } = options
      const rows = await withMesh(options, (mesh, signal) =>
        mesh.admin.usage.query({ from: options.since ?? 0, user, keyId, by }, { signal }),
      )
      rows.sort((a, b) => namesOf(a, by).join().localeCompare(namesOf(b, by).join()))
      if (options.json) {
        // Named as the options are.
        const named = rows.map(({ keyId: key, ...rest }) => ({ ...(key !== undefined && { key }), ...rest }))
        printJson({ rows: named, total: sum(rows) })
        return
      }
      const cells = rows.map((row) => [...namesOf(row, by), ...numbers(row)])
      if (rows.length > 1) cells.push([...by.map((_, i) => (i === 0 ? 'total' : '')), ...numbers(sum(rows))])
      printTable(
        [...by.map((name) => name.toUpperCase()), 'REQUESTS', 'FAILED', 'PROMPT', 'CACHED', 'COMPLETION'],
        cells,
        'Nothing was used yet.',
      )
    })
}

function gatherDimension(text: string, before: UsageDimension[] = []): UsageDimension[] {
  const dimension = DIMENSIONS.find((one) => one === text)
  if (dimension === undefined) throw new InvalidArgumentError(`Expected ${DIMENSIONS.join(', ')}.`)
  return [...before, dimension]
}

function namesOf(row: UsageSum, by: UsageDimension[]): string[] {
  return by.map((one) => row[one === 'key' ? 'keyId' : one] ?? '')
}

function sum(rows: UsageSum[]): UsageTotals {
  return rows.reduce<UsageTotals>(addUsage, NO_USAGE)
}

function numbers(totals: UsageTotals): string[] {
  return SUMS.map((name) => countText(totals[name]))
}
