import type { Command } from 'commander'
import { budget, integer, list } from './parse.js'

/** Adds the options that limitsOf reads. */
export function withLimits(command: Command): Command {
  return command
    .option('--rpm <n>', 'requests per minute', integer)
    .option('--tpm <n>', 'tokens per minute', integer)
    .option('--concurrent <n>', 'requests at a time', integer)
    .option('--budget <tokens/period>', 'such as 100000/day, 2M/month or 500k/total', budget)
    .option('--models <a,b>', 'only these models', list)
}
