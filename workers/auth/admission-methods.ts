import { MeshError } from '../../lib/protocol/index.js'
import type { Admissions } from './admissions.js'
import { actor, type Respond } from './caller.js'
import type { AuthMetrics } from './metrics.js'

/** Serves those who ask to join, and the admins who decide. */
export function serveAdmissions(
  respond: Respond,
  { admissions, metrics }: { admissions: Admissions; metrics: AuthMetrics },
): void {
  respond('admission.ask', async (request, { peer, address }) => {
    try {
      return admissions.ask(peer, address, request)
    } catch (err) {
      if (err instanceof MeshError) metrics.joinRefused(err.code)
      throw err
    }
  })
  respond('admission.wait', async (request, { peer }) => admissions.wait(peer, request))
  respond('admission.withdraw', async (_request, { peer }) => {
    admissions.withdraw(peer)
    return {}
  })
  respond('admission.list', async (page) => {
    const { items, ...end } = admissions.list(page)
    return { requests: items, ...end }
  })
  respond('admission.accept', (request, context) => admissions.accept(actor(context), request, context.signal))
  respond('admission.refuse', (request, context) => admissions.refuse(actor(context), request, context.signal))
}
