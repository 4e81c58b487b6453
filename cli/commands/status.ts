import type { Command } from 'commander'
import type { MeshClient, WorkerView } from '../../lib/client/index.js'
import { findProfile, homePath } from '../../lib/home/index.js'
import { ROLES } from '../../lib/protocol/index.js'
import { movedProblem } from '../backup/moved.js'
import { localView, printLocalView } from '../shared/local-view.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { MODEL_HEAD, modelRows } from '../shared/models.js'
import { bold, cyan, dim, durationText, green, print, printJson, printTable, red, yellow } from '../shared/output.js'

type Status = Awaited<ReturnType<MeshClient['status']>>

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

/** Shows a mesh's workers and models to a person. */
export function printStatus({ mesh, workers, models }: Status): void {
  print(`${dim('mesh')}  ${bold(mesh)}`)
  print()
  printWorkers(workers)
  print()
  printTable(MODEL_HEAD, modelRows(models), 'No models yet.')
}

/** Shows workers as a table, why those that are down are down, and why models cannot be used. */
export function printWorkers(workers: WorkerView[]): void {
  const inOrder = workers.toSorted(
    (a, b) => ROLES.indexOf(a.role) - ROLES.indexOf(b.role) || a.name.localeCompare(b.name),
  )
  const rows = inOrder.map((worker) => [
    worker.role,
    worker.name,
    stateText(worker.state),
    worker.since === undefined ? '-' : durationText(Math.max(0, Date.now() - worker.since)),
    loadText(worker),
    addressText(worker),
  ])
  printTable(['ROLE', 'NAME', 'STATE', 'UP', 'LOAD', 'ADDRESS'], rows, 'No workers yet.')
  for (const { role, name, reason, load } of workers) {
    if (reason) print(dim(`${role} ${name}: ${reason}`))
    for (const model of load?.models ?? []) {
      if (model.reason) print(dim(`${role} ${name}: ${model.name} is ${model.state}: ${model.reason}`))
    }
  }
}

function stateText(state: WorkerView['state']): string {
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

function addressText({ addresses = {} }: WorkerView): string {
  const shown = addresses.http ?? addresses.metrics
  return shown === undefined ? '-' : cyan(shown)
}
