import type { Command } from 'commander'
import { dim, print, printTable } from './output.js'
import { integer } from './parse.js'

/** Rows of a list that are shown where nobody says how many. */
const SHOWN = 1000

export interface ListOptions {
  limit?: number
  json?: boolean
}

/** Adds the option that says how much of a list is wanted. */
export function withListLimit(command: Command): Command {
  return command.option('--limit <n>', `how many at most (default: ${SHOWN}; with --json all)`, integer)
}

/** How many items to ask for: one more than are shown, to know whether there are more. */
export function wanted({ limit, json }: ListOptions): number | undefined {
  return limit ?? (json === true ? undefined : SHOWN + 1)
}

/** Prints a list as a table, and where it is longer than what is shown, how to see more. */
export function printList(head: string[], rows: string[][], empty: string, { limit }: ListOptions): void {
  printTable(head, limit === undefined ? rows.slice(0, SHOWN) : rows, empty)
  if (limit === undefined && rows.length > SHOWN)
    print(dim(`There are more than ${SHOWN}: --limit <n> shows as many as you say`))
}

/** Whether two lists hold the same, in whatever order. */
export function isSameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item) => b.includes(item))
}
