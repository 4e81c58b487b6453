import type { Command } from 'commander'
import { homePath } from '../../lib/home/index.js'
import type { Finding } from '../checks/finding.js'
import { moved, secretFiles, unreadableFiles } from '../checks/home.js'
import { links } from '../checks/links.js'
import { diskSpace, embeddedModel, engine, nodeVersion } from '../checks/machine.js'
import { mesh } from '../checks/mesh.js'
import { ports, processes } from '../checks/processes.js'
import { security } from '../checks/security.js'
import { type Common, optionsOf } from '../shared/mesh.js'
import { dim, green, print, printJson, red, withSpinner, yellow } from '../shared/output.js'
import { runningWorkers } from '../supervisor/state.js'

const UNAVAILABLE = 69

export function define(command: Command): void {
  command
    .option('--security', 'look for what makes the mesh weaker than it could be')
    .addHelpText(
      'after',
      `
Looks at Node, the home's files, ports, processes, the engine, the model, the GPU, the network and the mesh.
With --security at who may read and reach what: files, listeners, members, keys.
Exit code 69 where something must be mended.

Examples:
  infermesh doctor
  infermesh doctor --security
  infermesh doctor --json | jq '.findings[] | select(.state != "ok")'`,
    )
    .action(async (_options, self: Command) => {
      const common = optionsOf<{ security?: boolean }>(self)
      const home = homePath(common.home)
      const look = common.security ? security(home, common, runningWorkers(home)) : examine(home, common)
      const findings = await withSpinner('looking', common.json === true, look)
      if (common.json) printJson({ findings })
      else for (const finding of findings) printFinding(finding)
      if (findings.some(({ state }) => state === 'fail')) process.exitCode = UNAVAILABLE
    })
}

async function examine(home: string, common: Common): Promise<Finding[]> {
  const workers = runningWorkers(home)
  return [
    nodeVersion(),
    ...secretFiles(home),
    ...unreadableFiles(home),
    ...(await moved(home)),
    diskSpace(home),
    ...processes(home, workers),
    ...(await ports(home, workers)),
    ...engine(home),
    embeddedModel(),
    ...links(home, workers),
    ...(await mesh(home, common)),
  ]
}

function printFinding({ check, state, message, advice }: Finding): void {
  const mark = { ok: green('ok  '), warn: yellow('warn'), fail: red('fail') }[state]
  print(`${mark}  ${dim(check.padEnd(12))}${message}`)
  if (advice !== undefined) print(`${' '.repeat(18)}${dim(`→ ${advice}`)}`)
}
