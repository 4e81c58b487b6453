import type { WorkerStatus } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { linkName, linksText, modelsText } from '../shared/local-view.js'
import type { Finding } from './finding.js'

/** How this machine's own workers stand in the mesh, as they say themselves: nobody needs a key for that. */
export function links(home: string, workers: WorkerStatus[]): Finding[] {
  return workers.flatMap((worker) => {
    const { role, name, load, links: seen, listed } = worker
    // One of an earlier build does not tell; the authority depends on nobody.
    if (seen === undefined || role === 'auth') return []
    const who = `${role} ${name}`
    const logs = command(`logs ${role}-${name}`, home)
    const linked = linksText(worker)
    if (linked !== '-' && listed === false) {
      return [
        {
          check: 'links',
          state: 'warn',
          message: `${who} is not in the mesh’s directory, as far as it has read it`,
          advice: `${logs} says more; where it was removed, \`infermesh invite\` where the mesh was made, then ${command('join <invite>', home)}`,
        },
      ]
    }
    const lost = seen.find(({ state }) => state === 'down')
    const failed = load.models.filter((model) => model.state === 'failed')
    return [
      linked === '-'
        ? {
            check: 'links',
            state: 'warn',
            message: `${who} is linked with nobody${lost === undefined ? '' : `: ${linkName(lost)}: ${lost.reason ?? 'not found yet'}`}`,
            advice: `start the workers where the mesh was made, or check the network between; ${logs} says more`,
          }
        : { check: 'links', state: 'ok', message: `${who} is linked with ${linked}` },
      ...(load.models.length === 0
        ? []
        : [
            {
              check: 'model',
              state: failed.length > 0 ? ('warn' as const) : ('ok' as const),
              message: `${who} has ${modelsText(worker)}`,
            },
          ]),
    ] satisfies Finding[]
  })
}
