import type { Command } from 'commander'
import type { Limits, MeshClient } from '../../lib/client/index.js'
import { warn } from './output.js'
import { budget, integer, type LimitOptions, limitsOf, list } from './parse.js'

/** Adds the options that limitsOf reads. */
export function withLimits(command: Command): Command {
  return command
    .option('--rpm <n>', 'requests per minute', integer)
    .option('--tpm <n>', 'tokens per minute', integer)
    .option('--concurrent <n>', 'requests at a time', integer)
    .option('--budget <tokens/period>', 'such as 100000/day, 2M/month or 500k/total', budget)
    .option('--models <a,b>', 'only these models', list)
}

/** Adds the option that takes all limits away before those that are named are set. */
export function withNoLimits(command: Command): Command {
  return command.option('--none', 'no limits but those named here')
}

/** Present limits with those that the options name in their place; undefined where the options name none. */
export function changedLimits(present: Limits, options: LimitOptions & { none?: boolean }): Limits | undefined {
  const named = limitsOf(options)
  if (options.none !== true && Object.keys(named).length === 0) return undefined
  return options.none === true ? named : { ...present, ...named }
}

/** How long the mesh has to say which models it has, before nothing is said of them. */
const MODELS_MS = 3000

/** Says on standard error which of the models that a limit names the mesh does not have now: a misspelt one serves nobody. */
export async function warnOfModels(mesh: MeshClient, models: string[] | undefined, signal: AbortSignal): Promise<void> {
  if (models === undefined) return
  const known = await mesh
    .models({ signal: AbortSignal.any([signal, AbortSignal.timeout(MODELS_MS)]) })
    .catch(() => undefined)
  const names = known?.map(({ name }) => name)
  const missing = names === undefined ? [] : models.filter((model) => !names.includes(model))
  if (names === undefined || missing.length === 0) return
  const has = names.length === 0 ? 'none now' : names.slice(0, 8).join(', ')
  warn(`warning: the mesh has no model ${missing.join(', ')}; it has ${has}`)
}
