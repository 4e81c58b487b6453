import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { homePath, isRestored } from '../../lib/home/index.js'
import { networkKindSchema } from '../../lib/protocol/index.js'
import { mustBeInPlace } from '../backup/moved.js'
import { optionsOf } from '../shared/mesh.js'
import { withSpinner } from '../shared/output.js'
import { gather, port } from '../shared/parse.js'
import { isBackground, serveInBackground, startInBackground } from '../supervisor/background.js'
import { serveInForeground } from '../supervisor/foreground.js'
import type { RunOptions } from '../supervisor/plan.js'

export function define(command: Command): void {
  command
    .option('--role <role[:name]>', 'auth, gateway, processor or metrics; can be repeated (default: all four)', gather)
    .option('--name <name>', 'name of this machine’s workers (default: their role)')
    .option('-d, --detach', 'go on in the background; `infermesh down` stops it')
    .option('--http-port <port>', 'port of the OpenAI-compatible HTTP API; 0: a free one (default: 8080)', port)
    .option('--metrics-port <port>', 'port of the Prometheus metrics; 0: a free one (default: 9464)', port)
    .option('--host <address>', 'address that these two listen on (default: 127.0.0.1)')
    .addOption(
      new Option(
        '--network <kind>',
        'who can find the mesh that this makes (default: local); later: `infermesh network`',
      ).choices(networkKindSchema.options),
    )
    .option('--bootstrap <host:port>', 'DHT node of a private network; can be repeated', gather)
    .option('--net-host <address>', 'this machine’s address in the LAN (default: the first)')
    .addOption(
      new Option('--gpu <kind>', 'what runs models (default: auto)').choices([
        'auto',
        'cuda',
        'vulkan',
        'metal',
        'off',
      ]),
    )
    .option('--set <facility.key=value>', 'any other setting of the workers; can be repeated', gather)
    .option('--show-key', 'print the whole admin key')
    .option('--no-check', 'do not ask the mesh a first question')
    .addHelpText(
      'after',
      `
The first time it makes a mesh of its own. In a terminal it ends in a chat; elsewhere it serves until SIGTERM.

Examples:
  infermesh up
  infermesh up --detach --http-port 0 --json
  infermesh up --network lan --host 0.0.0.0
  infermesh up --role processor --gpu cuda`,
    )
    .action(async (_options, self: Command) => up(optionsOf<RunOptions>(self)))
}

/** Starts this machine's workers and stays with them, or leaves them in the background. */
export async function up(options: RunOptions): Promise<void> {
  const home = resolve(homePath(options.home))
  if (isBackground()) return serveInBackground(home, options)
  await mustBeInPlace(home)
  if (isRestored(home)) {
    const { mustBeTheOnlyOne } = await import('../backup/original.js')
    await withSpinner('looking for the original', options.json === true, mustBeTheOnlyOne(home))
  }
  return options.detach === true ? startInBackground(home, options) : serveInForeground(home, options)
}
