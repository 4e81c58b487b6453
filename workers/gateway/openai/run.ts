import { setMaxListeners } from 'node:events'
import type { Finish, GenerateEvent, InferenceRequest } from '../../../lib/protocol/index.js'
import type { Requests } from '../requests.js'
import type { Call } from './call.js'

export type Told = Exclude<GenerateEvent, { type: 'finish' }>

/**
 * Runs the generations of one call at the same time. The first that fails ends the others.
 * @returns their ends, in the order of the requests
 * @throws MeshError
 */
export async function runAll(
  requests: Requests,
  inputs: readonly InferenceRequest[],
  call: Call,
  emit: (choice: number, event: Told) => void,
): Promise<Finish[]> {
  const [first] = inputs
  if (inputs.length === 1 && first !== undefined)
    return [await requests.generate(first, call, (event) => emit(0, event))]
  const failed = new AbortController()
  const signal = AbortSignal.any([call.signal, failed.signal])
  setMaxListeners(0, signal)
  try {
    return await Promise.all(
      inputs.map((input, i) =>
        // Ids are at most 64 characters long.
        requests.generate(
          input,
          { ...call, requestId: i === 0 ? call.requestId : `${call.requestId.slice(0, 60)}.${i}`, signal },
          (event) => emit(i, event),
        ),
      ),
    )
  } catch (err) {
    failed.abort(err)
    throw err
  }
}

/** Tells a waiting client its place; true where the event was such. */
export function toldPlace(event: Told, comment: (text: string) => void): boolean {
  if (event.type === 'queued') comment(`queued, place ${event.position}`)
  return event.type === 'queued' || event.type === 'started'
}
