import type { MeshClient, WorkerView } from '../../lib/client/index.js'
import type { WorkerName } from '../../lib/home/index.js'
import { ROLES } from '../../lib/protocol/index.js'
import { MODEL_HEAD, modelRows } from './models.js'
import { bold, cyan, dim, durationText, green, print, printTable, red, yellow } from './output.js'

/** A mesh's workers and models, as a gateway sees them. */

type Status = Awaited<ReturnType<MeshClient['status']>>

/** Shows a mesh's workers and models to a person. */
export function printStatus({ mesh, workers, models }: Status): void {
  print(`${dim('mesh')}  ${bold(mesh)}`)
  print()
  printWorkers(workers)
  print()
  printTable(MODEL_HEAD, modelRows(models), 'No models yet.')
}

/** Shows workers as a table, why those that are down are down, and why models cannot be used. */
function printWorkers(workers: WorkerView[]): void {
  const rows = workers
    .toSorted(byRole)
    .map((worker) => [
      worker.role,
      worker.name,
      stateText(worker.state),
      sinceText(worker.since),
      loadText(worker),
      addressText(worker),
    ])
  printTable(['ROLE', 'NAME', 'STATE', 'UP', 'LOAD', 'ADDRESS'], rows, 'No workers yet.')
  for (const { role, name, reason, load } of workers) {
    if (reason) print(dim(`${role} ${name}: ${reason}`))
    printModelReasons({ role, name }, load?.models ?? [])
  }
}

/** Says of models that cannot be used why not. */
export function printModelReasons(
  { role, name }: WorkerName,
  models: readonly { name: string; state: string; reason?: string | undefined }[],
): void {
  for (const model of models) {
    if (model.reason) print(dim(`${role} ${name}: ${model.name} is ${model.state}: ${model.reason}`))
  }
}

/** Orders workers by role, then by name. */
export function byRole(a: WorkerName, b: WorkerName): number {
  return ROLES.indexOf(a.role) - ROLES.indexOf(b.role) || a.name.localeCompare(b.name)
}

/** How long ago a time was. */
export function sinceText(at: number | undefined): string {
  return at === undefined ? '-' : durationText(Math.max(0, Date.now() - at))
}

export function stateText(state: WorkerView['state']): string {
  const paint = { ready: green, starting: yellow, draining: yellow, suspect: yellow, down: red }[state]
  return paint(state)
}

function loadText({ role, load }: WorkerView): string {
  if (load === undefined || (role !== 'gateway' && role !== 'processor')) return '-'
  const slots = load.models.reduce((sum, model) => sum + model.slots, 0)
  const parts = [role === 'processor' && slots > 0 ? `${load.running} of ${slots} slots` : `${load.running} running`]
  if (load.queued > 0) parts.push(`${load.queued} waiting`)
  if (load.gpu !== undefined) parts.push(load.gpu.backend)
  return parts.join(', ')
}

/** Where a worker listens, if anywhere. */
export function addressText({ addresses = {} }: Pick<WorkerView, 'addresses'>): string {
  const shown = addresses.http ?? addresses.metrics
  return shown === undefined ? '-' : cyan(shown)
}
