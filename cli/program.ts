import { Command } from 'commander'
import { version } from './shared/version.js'

/** The program `infermesh`: its commands, and the options that all of them take. */

/** A subcommand's file adds its arguments, options, help and action to the command made for it here. */
interface CommandFile {
  define(command: Command): void
}

interface Entry {
  summary: string
  load: () => Promise<CommandFile>
}

/** Only the subcommand that is wanted is loaded: the network's libraries cost more time than most commands take. */
const commands: Record<string, Entry> = {
  up: { summary: 'start this machine’s workers; makes a mesh the first time', load: () => import('./commands/up.js') },
  down: { summary: 'stop this machine’s workers', load: () => import('./commands/down.js') },
  chat: { summary: 'talk with a model', load: () => import('./commands/chat.js') },
  run: { summary: 'ask one thing and print the answer', load: () => import('./commands/run.js') },
  status: { summary: 'show workers, addresses and models', load: () => import('./commands/status.js') },
  models: { summary: 'list, add and remove models', load: () => import('./commands/models.js') },
  keys: { summary: 'make, list and revoke API keys', load: () => import('./commands/keys.js') },
  users: { summary: 'add, list and remove users', load: () => import('./commands/users.js') },
  members: { summary: 'list, accept and remove the workers of the mesh', load: () => import('./commands/members.js') },
  network: { summary: 'show or change who can find the mesh', load: () => import('./commands/network.js') },
  invite: { summary: 'make an invite for another machine', load: () => import('./commands/invite.js') },
  join: { summary: 'join a mesh, with an invite or of this LAN', load: () => import('./commands/join.js') },
  login: {
    summary: 'use a mesh from here, with a connect string or a password',
    load: () => import('./commands/login.js'),
  },
  logout: { summary: 'forget what `login` keeps here', load: () => import('./commands/logout.js') },
  register: {
    summary: 'make a user for yourself, where the mesh allows that',
    load: () => import('./commands/register.js'),
  },
  whoami: {
    summary: 'show your user, your key and what is left of your limits',
    load: () => import('./commands/whoami.js'),
  },
  usage: { summary: 'show who used how much', load: () => import('./commands/usage.js') },
  audit: { summary: 'show who changed what', load: () => import('./commands/audit.js') },
  proxy: {
    summary: 'serve the mesh to OpenAI clients of this machine',
    load: () => import('./commands/proxy.js'),
  },
  logs: { summary: 'show the workers’ logs', load: () => import('./commands/logs.js') },
  backup: { summary: 'write this machine’s home into one encrypted file', load: () => import('./commands/backup.js') },
  restore: { summary: 'make a home from a backup', load: () => import('./commands/restore.js') },
  adopt: {
    summary: 'go on with a home that was copied or moved here',
    load: () => import('./commands/adopt.js'),
  },
  gpu: { summary: 'bring the engine and its GPU back ends', load: () => import('./commands/gpu.js') },
  doctor: { summary: 'look for what is wrong on this machine', load: () => import('./commands/doctor.js') },
  completion: { summary: 'print shell completion', load: () => import('./commands/completion.js') },
}

const EXAMPLES = `
Examples:
  infermesh up                          # make a mesh on this machine and talk to it
  infermesh run "Why is the sky blue?"
  infermesh network lan                 # let machines of your LAN find it
  infermesh invite --role processor     # and on the other machine: infermesh join <invite>
  infermesh status

Every command has --help.`

/**
 * The program, ready to parse.
 * @param isWanted whose arguments and options are needed, by a command's name; of the others there is the name alone
 */
export async function makeProgram(isWanted: (name: string) => boolean): Promise<Command> {
  const program = new Command('infermesh')
    .description('One private inference service from the machines you already own.')
    .version(version(), '-V, --version', 'print the version')
    .option('--home <dir>', 'where this machine keeps its mesh (default: INFERMESH_HOME, else ~/.infermesh)')
    .option(
      '--mesh <address>',
      'mesh address, address@host:port with a bootstrap node, or a connect string (default: INFERMESH_MESH)',
    )
    .option('--key <key>', 'API key (default: INFERMESH_KEY, else that of `login`, else <home>/admin.key)')
    .option('--json', 'print JSON, for programs')
    .helpOption('-h, --help', 'print help')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => {} })
    .exitOverride()
    .addHelpText('after', EXAMPLES)

  for (const [name, { summary, load }] of Object.entries(commands)) {
    const command = program.command(name).summary(summary).description(summary)
    if (isWanted(name)) (await load()).define(command)
    else command.action(() => {})
  }
  return program
}
