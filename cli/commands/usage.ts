import { setTimeout as sleep } from 'node:timers/promises'
import { type Command, InvalidArgumentError } from 'commander'
import type { MeshClient, UsageCheck, UsageDimension, UsageSum } from '../../lib/client/index.js'
import { homePath } from '../../lib/home/index.js'
import { addUsage, MeshError, NO_USAGE, type UsageTotals } from '../../lib/protocol/index.js'
import { type BudgetState, keyBudgets, userBudgets } from '../shared/budgets.js'
import { type ListOptions, printList, withListLimit } from '../shared/lists.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { counted, countText, dim, green, print, printJson, printTable, yellow } from '../shared/output.js'
import { budgetText, since } from '../shared/parse.js'
import { mustBeUser } from '../shared/users.js'

const DIMENSIONS = ['key', 'user', 'model', 'day', 'hour'] as const satisfies UsageDimension[]

const SUMS = ['requests', 'failures', 'promptTokens', 'cachedTokens', 'completionTokens'] as const

const NUMBERS = ['REQUESTS', 'FAILED', 'PROMPT', 'CACHED', 'COMPLETION']

const CHANGED = ['requests', 'completionTokens'] as const
/** EX_SOFTWARE of sysexits(3): totals that are wrong are a fault of infermesh. */
const DIFFERENT = 70
const POLL_MS = 300

export function define(command: Command): void {
  defineVerify(command)
  withListLimit(command)
    .option('--since <time>', 'such as 24h, 7d or 2026-01-31 (default: since ever)', since)
    .option('--by <what>', `what makes a row: ${DIMENSIONS.join(', ')}; can be repeated`, gatherDimension)
    .option('--user <name>', 'this user only')
    .option('--key-id <id>', 'this key only')
    .addHelpText(
      'after',
      `
You see your own usage, and as an admin everyone’s. Times are whole hours in UTC. By user or by key alone, it also shows
budgets, and what is left of them in the day or month that runs now, whatever --since says.

Examples:
  infermesh usage
  infermesh usage --by user
  infermesh usage --since 7d --by user --by model
  infermesh usage --by day --json`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<ListOptions & { since?: number; by?: UsageDimension[]; user?: string; keyId?: string }>(
        self,
      )
      const { by = ['user', 'key', 'model'], user, keyId } = options
      const rows = await withMesh(options, async (mesh, signal) => {
        const query = { from: options.since ?? 0, user, keyId, by, limit: options.limit }
        const found = await mesh.admin.usage.query(query, { signal })
        // What a removed user used is still told.
        if (found.length === 0 && user !== undefined) await mustBeUser(mesh, user, homePath(options.home), signal)
        const budgets = await budgetsOf(mesh, by, user, signal)
        return found.map((row) => ({ ...row, ...budgetOf(budgets, row) }))
      })
      rows.sort((a, b) => namesOf(a, by).join().localeCompare(namesOf(b, by).join()))
      if (options.json) {
        // Named as the options are.
        const named = rows.map(({ keyId: key, ...rest }) => ({ ...(key !== undefined && { key }), ...rest }))
        printJson({ rows: named, total: sum(rows) })
        return
      }
      const hasBudgets = rows.some(({ budget }) => budget !== undefined)
      const cells = rows.map((row) => [...namesOf(row, by), ...numbers(row), ...(hasBudgets ? budgetCells(row) : [])])
      if (rows.length > 1) cells.push([...by.map((_, i) => (i === 0 ? 'total' : '')), ...numbers(sum(rows))])
      printList(
        [...by.map((name) => name.toUpperCase()), ...NUMBERS, ...(hasBudgets ? ['BUDGET', 'LEFT'] : [])],
        cells,
        'Nothing was used yet.',
        options,
      )
    })
}

function defineVerify(command: Command): void {
  command
    .command('verify')
    .description('add up the gateways’ journals anew, and mend totals that say something else')
    .option('--dry-run', 'change nothing; exit code 70 where something would be mended')
    .addHelpText(
      'after',
      `
For admins. It reads all the journals that the auth worker holds, and takes the longer the more they hold; requests and
the counting of usage go on meanwhile. Hours that the journals no longer tell all of are only raised.

Examples:
  infermesh usage verify --dry-run
  infermesh usage verify --json`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ dryRun?: boolean }>(self)
      const check = await withMesh(
        options,
        (mesh, signal) => verify(mesh, options.dryRun === true, signal),
        'adding up',
      )
      if (check.dryRun && check.different > 0) process.exitCode = DIFFERENT
      if (options.json) printJson(jsonOf(check))
      else printCheck(check)
    })
}

/** Waits until a check is done. @throws MeshError with why it failed */
async function verify(mesh: MeshClient, dryRun: boolean, signal: AbortSignal): Promise<UsageCheck> {
  let check = await mesh.admin.usage.verify({ dryRun }, { signal })
  while (check.state === 'running') {
    await sleep(POLL_MS, undefined, { signal })
    check = await mesh.admin.usage.verify({ id: check.id }, { signal })
  }
  if (check.failure !== undefined) throw MeshError.INTERNAL(`The usage could not be checked: ${check.failure.message}`)
  return check
}

/** A check as `--json` gives it: without an hour where the journals tell all. */
function jsonOf({ result, ...check }: UsageCheck) {
  if (result === undefined) return check
  const { partialUntil, ...counts } = result
  return { ...check, result: { ...counts, ...(partialUntil !== '' && { partialUntil }) } }
}

function printCheck({ dryRun, different, differences, stored, correct, result }: UsageCheck): void {
  if (result !== undefined) {
    const { rows, records, journals: read, partialUntil } = result
    print(`${counted(rows, 'row')} compared with ${counted(records, 'record')} of ${counted(read, 'journal')}`)
    if (partialUntil !== '') print(dim(`The journals tell of every request only after ${partialUntil}:00 UTC`))
  }
  if (different === 0) {
    print(green('The totals say what the journals say.'))
    return
  }
  printTable(
    ['HOUR', 'USER', 'KEY', 'MODEL', 'REQUESTS', 'COMPLETION'],
    differences.map(({ row, stored, correct }) => [
      row.hour,
      row.user,
      row.keyId,
      row.model,
      ...CHANGED.map((name) => `${stored[name]} -> ${correct[name]}`),
    ]),
    '',
  )
  if (different > differences.length) print(dim(`… and ${different - differences.length} more`))
  const change = `${stored.requests} -> ${correct.requests} requests in ${counted(different, 'row')}`
  print(dryRun ? yellow(`${change}: would be mended`) : green(`${change}: mended`))
}

/**
 * Where the budgets stand of what makes the rows, where that is users or keys alone and whoever asks may know their
 * limits: an admin those of all users, who may see keys those of its keys.
 */
async function budgetsOf(
  mesh: MeshClient,
  by: readonly UsageDimension[],
  user: string | undefined,
  signal: AbortSignal,
): Promise<Map<string, BudgetState>> {
  const now = Date.now()
  try {
    if (by.length === 1 && by[0] === 'user') {
      return await userBudgets(mesh, await mesh.admin.users.list({ name: user }, { signal }), now, signal)
    }
    if (by.length === 1 && by[0] === 'key') {
      const keys = await mesh.admin.keys.list({ user }, { signal })
      return await keyBudgets(mesh, keys, keys, now, signal)
    }
  } catch (err) {
    if (!(err instanceof MeshError && err.code === 'FORBIDDEN')) throw err
  }
  return new Map()
}

function budgetOf(budgets: ReadonlyMap<string, BudgetState>, { user, keyId }: UsageSum): { budget?: BudgetState } {
  const budget = budgets.get(user ?? keyId ?? '')
  return budget === undefined ? {} : { budget }
}

function budgetCells({ budget }: { budget?: BudgetState }): string[] {
  return budget === undefined ? ['-', '-'] : [budgetText(budget), countText(budget.left)]
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
