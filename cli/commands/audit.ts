import type { Command } from 'commander'
import { detailText } from '../shared/changes.js'
import { type ListOptions, printList, wanted, withListLimit } from '../shared/lists.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { printJson, timeText } from '../shared/output.js'

export function define(command: Command): void {
  withListLimit(command)
    .addHelpText(
      'after',
      `
For admins. Newest first. \`--json\` gives each entry whole.

Examples:
  infermesh audit --limit 20
  infermesh audit --json | jq '.entries[] | select(.actor == "ann")'`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<ListOptions>(self)
      const entries = await withMesh(options, (mesh, signal) =>
        mesh.admin.audit.list({ limit: wanted(options) }, { signal }),
      )
      const rows = entries.map(({ at, actor, action, target, detail }) => [
        timeText(at),
        actor,
        action,
        target,
        detail === undefined ? '-' : detailText(detail),
      ])
      if (options.json) printJson({ entries })
      else printList(['TIME', 'ACTOR', 'ACTION', 'TARGET', 'DETAIL'], rows, 'Nothing was changed yet.', options)
    })
}
