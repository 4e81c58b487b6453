import { Argument, type Command } from 'commander'
import { homePath } from '../../lib/home/index.js'
import { LOOPBACK, type MeshProfile, type NetworkKind, networkKindSchema } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { optionsOf } from '../shared/mesh.js'
import {
  changeNetwork,
  type DoorOutcome,
  type NetworkOptions,
  type Outcome,
  openDoor,
  whereNetworkIsChanged,
} from '../shared/network.js'
import { bold, cyan, dim, interruptible, print, printFacts, printJson, withSpinner, yellow } from '../shared/output.js'
import { gather } from '../shared/parse.js'

/** What each kind of network is, in a few words. */
const MEANING: Record<NetworkKind, string> = {
  local: 'this machine alone; nothing leaves it',
  lan: 'machines that reach each other directly',
  private: 'machines that reach the DHT nodes named here',
  public: 'machines anywhere, over the public HyperDHT',
}

export function define(network: Command): void {
  network
    .addArgument(
      new Argument('[kind]', 'who can find the mesh from now on; without it: shows who can').choices(
        networkKindSchema.options,
      ),
    )
    .option('--bootstrap <host:port>', 'DHT node of a private network; can be repeated', gather)
    .option('--net-host <address>', 'this machine’s IPv4 address in the LAN (default: the first)')
    .option(
      '--http-host <address>',
      'where this home’s gateway listens for HTTP from now on: 0.0.0.0 lets other machines in; goes without a kind, too',
    )
    .addHelpText(
      'after',
      `
Users, keys, members and the mesh's address stay as they are. Workers that \`infermesh up\` runs are started anew.
Run it where the mesh was made. What other machines do then is said.

Examples:
  infermesh network
  infermesh network lan
  infermesh network lan --net-host 192.168.1.7
  infermesh network --http-host 0.0.0.0
  infermesh network private --bootstrap 10.0.0.1:49737
  infermesh network public`,
    )
    .action(async (kind: NetworkKind | undefined, _options, self: Command) => {
      const options = optionsOf<NetworkOptions>(self)
      const home = homePath(options.home)
      const quiet = options.json === true
      if (kind === undefined) return options.httpHost === undefined ? show(home, options) : open(home, options)
      const outcome = await interruptible((signal) =>
        withSpinner('changing the network', quiet, changeNetwork(home, kind, options, signal)),
      )
      if (quiet) printJson(outcome)
      else printOutcome(home, outcome)
    })
}

/** Where the HTTP door listens, and nothing else. */
async function open(home: string, options: NetworkOptions & { json?: boolean }): Promise<void> {
  const { httpHost = LOOPBACK, json = false } = options
  whereNetworkIsChanged(home, options)
  const outcome = await interruptible((signal) =>
    withSpinner('opening the HTTP door', json, openDoor(home, httpHost, signal)),
  )
  if (json) return printJson(outcome)
  if (!outcome.changed) return print(dim('It listened there already: nothing has changed.'))
  print(`The HTTP API listens on ${bold(httpHost)} from now on.`)
  printRestart(home, outcome)
}

function show(home: string, options: NetworkOptions & { json?: boolean }): void {
  const { profile, isHere } = whereNetworkIsChanged(home, options)
  const { address, network } = profile
  if (options.json) return printJson({ mesh: address, ...network, changedHere: isHere })
  printNetwork(profile)
  print(
    dim(
      isHere
        ? `${command(`network <${networkKindSchema.options.join('|')}>`, home)} changes it.`
        : 'This home has joined the mesh: its network is changed where the mesh was made.',
    ),
  )
}

function printNetwork({ address, network }: Pick<MeshProfile, 'address' | 'network'>): void {
  const { kind, bootstrap } = network
  printFacts([
    ['network', `${bold(kind)}: ${MEANING[kind]}`],
    ['mesh', address],
    ['DHT', bootstrap.length > 0 ? bootstrap.join(', ') : undefined],
  ])
}

function printOutcome(home: string, outcome: Outcome): void {
  const { mesh, kind, bootstrap, from, changed, restarted, addresses } = outcome
  printNetwork({ address: mesh, network: { kind, bootstrap } })
  if (!changed) return print(dim('It was that already: nothing has changed.'))
  print()
  printRestart(home, outcome)
  if (kind === 'lan' && addresses.length > 1) {
    print(dim(`Other addresses of this machine, for --net-host: ${addresses.slice(1).join(', ')}`))
  }
  if (from !== 'local' && from !== kind) {
    print(
      restarted
        ? 'Other machines that were linked follow by themselves. One that was away joins again, with a new invite.'
        : yellow('Other machines have not heard of it: they join again, with a new invite.'),
    )
    print(yellow('Invites that were made before name the former network.'))
  }
  if (kind !== 'local')
    print(`Another machine: ${command('invite', home)} here, then \`infermesh join <invite>\` there.`)
}

function printRestart(
  home: string,
  { restarted, restart, http }: Pick<DoorOutcome, 'restarted' | 'restart' | 'http'>,
): void {
  for (const url of http) print(`${dim('OpenAI API  ')}${cyan(`${url}/v1`)}`)
  if (restarted) print('The workers of this machine run on it now.')
  else if (restart.length > 0) {
    print(yellow(`Start anew what runs here, the authority first: ${restart.join(', ')}`))
  } else print(`Start it with ${command('up', home)}.`)
}
