import { Argument, type Command } from 'commander'
import {
  BACK_ENDS,
  type BackEnd,
  engineDir,
  install,
  installedBackEnds,
  type Plan,
  planInstall,
} from '../shared/engine-install.js'
import { optionsOf } from '../shared/mesh.js'
import { dim, interruptible, print, printJson, printTable } from '../shared/output.js'

export function define(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  infermesh gpu ls
  infermesh gpu install cpu
  infermesh gpu install cuda --dry-run`,
  )

  command
    .command('ls')
    .alias('list')
    .description('list the engine’s back ends, and which are on this machine')
    .addHelpText('after', '\nExample:\n  infermesh gpu ls --json')
    .action((_options, self: Command) => {
      const backEnds = installedBackEnds()
      if (optionsOf(self).json) printJson({ dir: engineDir(), backEnds })
      else {
        const rows = backEnds.map(({ backEnd, exists, installed, bytes }) => [
          backEnd === 'cpu' && process.platform === 'darwin' ? 'cpu, metal' : backEnd,
          installed ? 'yes' : exists ? 'no' : 'none for this machine',
          megabytes(bytes),
        ])
        printTable(['back end', 'here', 'size'], rows, '')
      }
    })

  command
    .command('install')
    .description('bring the engine with a back end from the npm registry')
    .addArgument(new Argument('<back end>', 'cpu is in each of the others').choices(BACK_ENDS))
    .option('--dry-run', 'say what would be brought, and bring nothing')
    .addHelpText(
      'after',
      `
The engine is node-llama-cpp, in the version that this infermesh was tested with. What is here is replaced once the new one is whole;
models that are loaded go on with the old one until they are loaded again.

Examples:
  infermesh gpu install cpu
  infermesh gpu install cuda       # for NVIDIA
  infermesh gpu install vulkan     # for AMD, Intel and others`,
    )
    .action(async (backEnd: BackEnd, _options, self: Command) => {
      const { dryRun, json } = optionsOf<{ dryRun?: boolean }>(self)
      const plan = planInstall(backEnd)
      if (!json) sayPlan(plan)
      if (!dryRun) await interruptible((signal) => install(plan, progress(plan, json === true), signal))
      if (process.stderr.isTTY && !dryRun) process.stderr.write('\r\x1b[2K')
      if (json) printJson({ ...plan, installed: dryRun !== true })
      else if (!dryRun)
        print(`The engine is here. \`infermesh up\` takes it; \`infermesh status\` shows which back end works`)
    })
}

function sayPlan({ packages, bytes, dir }: Plan): void {
  print(`${Object.keys(packages).length} packages with what they need, about ${megabytes(bytes)} on disk, into ${dir}`)
  for (const [name, version] of Object.entries(packages)) print(dim(`  ${name} ${version}`))
}

/** Draws on a terminal how far it is. */
function progress({ bytes }: Plan, quiet: boolean): (done: number) => void {
  if (quiet || process.stderr.isTTY !== true) return () => {}
  return (done) => process.stderr.write(`\r\x1b[2K${megabytes(done)} of about ${megabytes(bytes)}`)
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
