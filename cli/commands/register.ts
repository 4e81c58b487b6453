import type { Command } from 'commander'
import { MeshClient } from '../../lib/client/index.js'
import { homePath } from '../../lib/home/index.js'
import { MeshError, nameSchema, validate } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { logIn, mustBeFreeFor, printLogin } from '../shared/login.js'
import { clientOptions, optionsOf } from '../shared/mesh.js'
import { interruptible, withSpinner } from '../shared/output.js'
import { readPassword } from '../shared/password.js'

export function define(register: Command): void {
  register
    .argument('<name>', 'what you want to be called')
    .addHelpText(
      'after',
      `
Makes a user and a key for yourself, where the mesh lets strangers do that (auth.selfRegistration), and logs this home in.
It asks for a new password, or reads it from a pipe's first line.

Examples:
  infermesh register ann --mesh <address>@<host:port>
  INFERMESH_MESH=<address> infermesh register ann`,
    )
    .action(async (given: string, _options, self: Command) => {
      const options = optionsOf(self)
      const home = homePath(options.home)
      const name = validate(nameSchema, given, 'user name')
      const stranger = new MeshClient({ ...clientOptions(options), key: undefined })
      try {
        // What could not be kept is not asked for.
        mustBeFreeFor(home, stranger.address)
        const password = await readPassword(name)
        const told = await interruptible((signal) =>
          withSpinner('registering', options.json === true, makeUser(home, stranger, { name, password }, signal)),
        )
        printLogin(told, options.json === true)
      } finally {
        await stranger.close()
      }
    })
}

async function makeUser(
  home: string,
  stranger: MeshClient,
  body: { name: string; password: string },
  signal: AbortSignal,
) {
  const { connect } = await stranger.register(body, { signal })
  if (connect !== undefined) return logIn(home, connect, false, signal)
  throw MeshError.VERSION_MISMATCH(
    `You are registered as ${body.name}, but the authority runs an earlier version of infermesh, which tells no connect string: ask for its upgrade, then ${command(`login ${body.name}`, home)}`,
  )
}
