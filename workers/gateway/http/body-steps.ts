import type { Transform } from 'node:stream'
import type { RequestPayload } from 'fastify'

/** A body by way of a step. A step that fails leaves the body as it is: without its socket nobody could be told why. */
export function throughStep(payload: RequestPayload, step: Transform): RequestPayload {
  payload.once('error', (err: Error) => step.destroy(err))
  payload.pipe(step)
  // How much has come of a compressed body, which is what its headers tell.
  if ('receivedEncodedLength' in payload && !('receivedEncodedLength' in step)) {
    Object.defineProperty(step, 'receivedEncodedLength', { get: () => payload.receivedEncodedLength })
  }
  return step
}
