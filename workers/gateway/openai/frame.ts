import type { Call } from '../http/index.js'
import { type Frame, fingerprint } from './objects.js'
import type { DoorOptions } from './options.js'

/** What all objects of one answer carry. A model that does not exist is told by the request itself. */
export function frameOf(
  prefix: string,
  catalogue: DoorOptions['catalogue'],
  name: string | undefined,
  call: Call,
): Frame {
  const model = catalogue.find(name)
  return {
    id: prefix + call.requestId.replace(/^req_/, ''),
    created: call.created,
    model: model?.name ?? name ?? '',
    system_fingerprint: fingerprint(model?.hash ?? ''),
  }
}
