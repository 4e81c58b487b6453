import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Command } from 'commander'
import { MeshClient, type Scope } from '../../lib/client/index.js'
import { homePath } from '../../lib/home/index.js'
import {
  decodeConnectString,
  isConnectString,
  MeshError,
  nameSchema,
  oneLine,
  SCOPES,
  validate,
} from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { logIn, mustBeFreeFor, printLogin } from '../shared/login.js'
import { type Common, clientOptions, optionsOf } from '../shared/mesh.js'
import { interruptible, withSpinner } from '../shared/output.js'
import { duration, gatherScope } from '../shared/parse.js'
import { readKnownPassword } from '../shared/password.js'

/** What a key that is made for a home may do, where nothing is said. */
const LOGIN_SCOPES: Scope[] = ['inference', 'read:usage', 'manage:keys']
const EXPIRES_MS = 90 * 86_400_000

interface LoginOptions extends Common {
  expires?: number
  scope?: Scope[]
}

export function define(login: Command): void {
  login
    .argument(
      '<who>',
      'a connect string, as `infermesh keys create` prints it, - to read one from standard input, or a user’s name',
    )
    .option('--expires <time>', 'with a name: how long the key that is made here is valid (default: 90d)', duration)
    .option(
      '--scope <scope>',
      `with a name: what that key may be used for: ${SCOPES.join(', ')}; can be repeated (default: ${LOGIN_SCOPES.join(', ')})`,
      gatherScope,
    )
    .addHelpText(
      'after',
      `
Afterwards run, chat, models, proxy and whoami work with this home and nothing more. A name asks for the password (from
a pipe: its first line), and wants the mesh: --mesh <address@host:port>, or INFERMESH_MESH. \`infermesh logout\` forgets.

Examples:
  infermesh login imc_…
  pbpaste | infermesh login -
  infermesh login ann --mesh <address>@<host:port>`,
    )
    .action(async (who: string, _options, self: Command) => {
      const options = optionsOf<LoginOptions>(self)
      const home = homePath(options.home)
      const given = who === '-' ? readFileSync(0, 'utf8').trim() : who.trim()
      const told = isConnectString(given)
        ? await withString(home, given, options)
        : await withName(home, given, options)
      printLogin(told, options.json === true)
    })
}

function withString(home: string, given: string, options: LoginOptions) {
  mustBeFreeFor(home, decodeConnectString(given).profile.address)
  return interruptible((signal) =>
    withSpinner('asking the mesh whose key this is', options.json === true, logIn(home, given, false, signal)),
  )
}

/** Makes a key of its own for this home, with the user's password. */
async function withName(home: string, given: string, options: LoginOptions) {
  if (/^im[a-z]?_/.test(given)) {
    throw MeshError.BAD_REQUEST(
      given.startsWith('imv_')
        ? `This is an invite, which adds a machine to a mesh: ${command('join <invite>', home)} takes it`
        : 'This is an API key alone, which does not say of which mesh: give the connect string that was printed beside it, or both in INFERMESH_MESH and INFERMESH_KEY',
    )
  }
  const name = validate(nameSchema, given, 'user name')
  const stranger = new MeshClient({ ...clientOptions(options), key: undefined })
  try {
    mustBeFreeFor(home, stranger.address)
    const password = await readKnownPassword(name)
    return await interruptible((signal) =>
      withSpinner('logging in', options.json === true, exchange(home, stranger, { name, password }, options, signal)),
    )
  } finally {
    await stranger.close()
  }
}

async function exchange(
  home: string,
  stranger: MeshClient,
  body: { name: string; password: string },
  options: LoginOptions,
  signal: AbortSignal,
) {
  const { token } = await stranger.login(body, { signal })
  const user = new MeshClient({ ...clientOptions(options), key: token })
  try {
    const { connect } = await user.admin.keys.create(
      {
        label: `login on ${oneLine(hostname()).slice(0, 60)}`,
        scopes: options.scope ?? LOGIN_SCOPES,
        expiresAt: Date.now() + (options.expires ?? EXPIRES_MS),
      },
      { signal },
    )
    if (connect === undefined)
      throw MeshError.VERSION_MISMATCH(
        'The authority runs an earlier version of infermesh, which tells no connect string: upgrade it, or use --key',
      )
    return await logIn(home, connect, true, signal)
  } finally {
    await user.close()
  }
}
