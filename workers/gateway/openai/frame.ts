import type { Requests } from '../requests.js'
import type { Call } from './call.js'
import { type Frame, fingerprint } from './objects.js'

/** What all objects of one answer carry. A model that does not exist is told by the request itself. */
export function frameOf(prefix: string, requests: Requests, name: string | undefined, call: Call): Frame {
  const model = requests.modelNamed(name)
  return {
    id: prefix + call.requestId.replace(/^req_/, ''),
    created: call.created,
    model: model?.name ?? name ?? '',
    system_fingerprint: fingerprint(model?.hash ?? ''),
  }
}
