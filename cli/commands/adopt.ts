import { resolve } from 'node:path'
import type { Command } from 'commander'
import { adoptStores, findProfile, homePath, movedStores } from '../../lib/home/index.js'
import { mustNotRun } from '../backup/original.js'
import { workersOf } from '../backup/workers.js'
import { optionsOf } from '../shared/mesh.js'
import { dim, print, printJson, withSpinner } from '../shared/output.js'

export function define(command: Command): void {
  command
    .option('--force', 'do not look whether the original runs still; two that run lose what one of them writes')
    .addHelpText(
      'after',
      `
For a home that was copied, unpacked or moved to another disk or machine, and whose original runs no more. It looks for the
original first: on this machine, and over the mesh's network.

Examples:
  infermesh adopt
  infermesh adopt --home /mnt/new/infermesh && infermesh up --home /mnt/new/infermesh`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ force?: boolean }>(self)
      const home = resolve(homePath(options.home))
      const moved = await movedStores(home)
      if (moved.length > 0 && options.force !== true) {
        const original = {
          workers: workersOf(home),
          homes: [home],
          profile: findProfile(home),
          anyway: 'adopt with --force',
        }
        await withSpinner('looking for the original', options.json === true, mustNotRun(original))
      }
      adoptStores(home, moved, Date.now())
      if (options.json) return printJson({ home, adopted: moved })
      if (moved.length === 0) print(`Nothing in ${home} was copied or moved`)
      else print(`${home} is this machine's now: ${moved.join(', ')}. ${dim('The original must never run again.')}`)
    })
}
