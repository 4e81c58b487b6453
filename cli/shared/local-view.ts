import type { WorkerStatus } from '../../lib/protocol/index.js'
import { runningWorkers } from '../supervisor/state.js'
import { command } from './hints.js'
import { bold, dim, print, printTable } from './output.js'
import { addressText, byRole, printModelReasons, sinceText, stateText } from './status.js'

/** What a machine's own workers say of themselves, for which nobody needs a key. */

/** What `status --json` gives where this machine holds no key. */
export function localView(home: string, mesh: string) {
  const workers = runningWorkers(home).map(({ load, ...worker }) => ({ ...worker, state: load.state, load }))
  return { mesh, local: true, workers, models: [] }
}

/** Shows it to a person. */
export function printLocalView(home: string, { mesh, workers }: ReturnType<typeof localView>): void {
  print(`${dim('mesh')}  ${bold(mesh)}`)
  print()
  const rows = workers.map((worker) => [
    worker.role,
    worker.name,
    stateText(worker.state),
    sinceText(worker.since),
    linksText(worker),
    modelsText(worker),
    addressText(worker),
  ])
  printTable(
    ['ROLE', 'NAME', 'STATE', 'UP', 'LINKED WITH', 'MODELS', 'ADDRESS'],
    rows,
    `No workers run on this machine: ${command('up', home)} starts them.`,
  )
  for (const { role, name, links = [], load } of workers) {
    for (const link of links) {
      if (link.state === 'down')
        print(dim(`${role} ${name}: no link with ${linkName(link)}: ${link.reason ?? 'not found yet'}`))
    }
    printModelReasons({ role, name }, load.models)
  }
  print()
  print(
    dim(
      `These are this machine’s own workers. To see the whole mesh from here: \`infermesh keys create\` where the mesh was made, then ${command('login <connect string>', home)} with what it prints.`,
    ),
  )
}

/** `the auth worker, gateway g1`; `-` where there is no link. */
export function linksText({ links = [] }: Pick<WorkerStatus, 'links'>): string {
  const linked = links
    .toSorted(byRole)
    .filter(({ state }) => state !== 'down')
    .map(linkName)
  return linked.length === 0 ? '-' : linked.join(', ')
}

export function linkName({ role, name }: { role: string; name: string }): string {
  return name === '' || name === role ? `the ${role} worker` : `${role} ${name}`
}

/** `infermesh-tiny loaded`, with what runs them. */
export function modelsText({ load: { models, gpu } }: Pick<WorkerStatus, 'load'>): string {
  if (models.length === 0) return '-'
  const on = gpu === undefined ? '' : ` (${gpu.backend})`
  return `${models.map(({ name, state }) => `${name} ${state}`).join(', ')}${on}`
}
