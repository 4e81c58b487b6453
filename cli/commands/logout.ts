import type { Command } from 'commander'
import { MeshClient } from '../../lib/client/index.js'
import { findLogin, homePath, type Login, loginPath, removeLogin } from '../../lib/home/index.js'
import { MeshError, messageOf } from '../../lib/protocol/index.js'
import { optionsOf } from '../shared/mesh.js'
import { interruptible, print, printJson, warn, withSpinner } from '../shared/output.js'

export function define(logout: Command): void {
  logout
    .addHelpText(
      'after',
      `
A key that \`infermesh login <user name>\` made for this home is revoked. One that came in a connect string stays
good: whoever has it may use it elsewhere.

Examples:
  infermesh logout
  infermesh logout --home ~/work-mesh`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf(self)
      const home = homePath(options.home)
      const login = findLogin(home)
      if (login === undefined) {
        throw MeshError.NOT_FOUND(`${loginPath(home)} is not there: this home is logged in to no mesh`)
      }
      const id = login.key.split('_')[1] ?? ''
      const kept = login.own
        ? await interruptible((signal) =>
            withSpinner('revoking the key', options.json === true, revoke(home, login, id, signal)),
          )
        : undefined
      removeLogin(home)
      const revoked = login.own && kept === undefined
      if (options.json) return printJson({ home, user: login.user, keyId: id, revoked })
      print(`This home uses the mesh ${login.profile.address} as ${login.user} no more`)
      if (revoked) print(`The key im_${id}_… is revoked`)
      else if (kept !== undefined) warn(`warning: the key im_${id}_… could not be revoked, and works on: ${kept}`)
      else print(`The key im_${id}_… is good still; \`infermesh keys revoke ${id}\`, with an admin’s key, ends it`)
    })
}

/** @returns why it could not be revoked */
async function revoke(
  home: string,
  { profile, key }: Login,
  id: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const mesh = new MeshClient({ home, mesh: profile, key })
  try {
    await mesh.admin.keys.revoke({ id }, { signal })
    return undefined
  } catch (err) {
    // One that is refused already needs no revoking.
    if (err instanceof MeshError && err.code === 'INVALID_API_KEY') return undefined
    if (signal.aborted) throw err
    return messageOf(err)
  } finally {
    await mesh.close()
  }
}
