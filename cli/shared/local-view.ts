import { ROLES, type WorkerStatus } from '../../lib/protocol/index.js'
import { runningWorkers } from '../supervisor/state.js'
import { command } from './hints.js'
import { bold, cyan, dim, durationText, green, print, printTable, yellow } from './output.js'

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
    worker.state === 'ready' ? green(worker.state) : yellow(worker.state),
    durationText(Math.max(0, Date.now() - worker.since)),
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
    for (const model of load.models) {
      if (model.reason !== undefined) print(dim(`${role} ${name}: ${model.name} is ${model.state}: ${model.reason}`))
    }
  }
  print()
  print(
    dim(
      `These are this machine’s own workers. To see the whole mesh from here: \`infermesh keys create\` where the mesh was made, then ${command('login <connect string>', home)} with what it prints.`,
    ),
  )
}

function addressText({ addresses }: Pick<WorkerStatus, 'addresses'>): string {
  const shown = addresses.http ?? addresses.metrics
  return shown === undefined ? '-' : cyan(shown)
}

/** `the auth worker, gateway g1`; `-` where there is no link. */
export function linksText({ links = [] }: Pick<WorkerStatus, 'links'>): string {
  const inOrder = links.toSorted(
    (a, b) => ROLES.indexOf(a.role) - ROLES.indexOf(b.role) || a.name.localeCompare(b.name),
  )
  const linked = inOrder.filter(({ state }) => state !== 'down').map(linkName)
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
