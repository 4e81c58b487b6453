import type { Command } from 'commander'
import { findProfile, homePath } from '../../lib/home/index.js'
import { movedProblem } from '../backup/moved.js'
import { localView, printLocalView } from '../shared/local-view.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { printJson } from '../shared/output.js'
import { printStatus } from '../shared/status.js'

export function define(command: Command): void {
  command
    .addHelpText(
      'after',
      `
On a machine that has joined and holds no key it shows that machine's own workers.

Examples:
  infermesh status
  infermesh status --json | jq '.workers[] | select(.state != "ready")'`,
    )
    .action(async (_options, self: Command) => {
      const common = optionsOf(self)
      const home = homePath(common.home)
      const told = await withMesh(common, async (mesh, signal) => {
        // Without a key there is this machine's own view, where it belongs to the mesh that is asked for.
        const isHere = !mesh.hasKey && findProfile(home)?.address === mesh.address
        return isHere ? { local: localView(home, mesh.address) } : { whole: await mesh.status({ signal }) }
      }).catch(async (err: unknown) => {
        // Where nothing runs because the home was moved, that is what to tell.
        throw (common.mesh === undefined ? await movedProblem(home) : undefined) ?? err
      })
      if (common.json) printJson(told.whole ?? told.local)
      else if (told.whole !== undefined) printStatus(told.whole)
      else printLocalView(home, told.local)
    })
}
