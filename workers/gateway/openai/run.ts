import { setMaxListeners } from 'node:events'
import type { Finish, InferenceRequest } from '../../../lib/protocol/index.js'
import type { Call } from '../http/index.js'
import type { AnswerEvent, Requests } from '../requests/index.js'
import { inOpenAiWords, type Words } from './words.js'

/** One of the answers that a call asks for. */
export interface Choice {
  request: InferenceRequest
  index: number
}

/**
 * Runs the generations of one call at the same time: all of them, or none is begun. The first that fails ends the others.
 * @param words in which the caller has asked, for errors: a stream tells them as they are
 * @param tell told each event, with the choice that it belongs to
 * @returns the choices with their ends, in their order
 * @throws MeshError
 */
export async function runAll<C extends Choice>(
  requests: Requests,
  choices: readonly C[],
  call: Call,
  words: Words,
  tell: (event: AnswerEvent, choice: C) => void,
): Promise<(C & { finish: Finish })[]> {
  try {
    return await runEach(requests, choices, call, tell)
  } catch (err) {
    throw inOpenAiWords(err, words)
  }
}

async function runEach<C extends Choice>(
  requests: Requests,
  choices: readonly C[],
  call: Call,
  tell: (event: AnswerEvent, choice: C) => void,
): Promise<(C & { finish: Finish })[]> {
  const [first] = choices
  if (choices.length === 1 && first !== undefined) {
    return [{ ...first, finish: await requests.generate(first.request, call, (event) => tell(event, first)) }]
  }
  const failed = new AbortController()
  const signal = AbortSignal.any([call.signal, failed.signal])
  setMaxListeners(0, signal)
  const asked = choices.map(({ request, index }) => {
    // Ids are at most 64 characters long.
    const requestId = index === 0 ? call.requestId : `${call.requestId.slice(0, 60)}.${index}`
    return { request, context: { ...call, requestId, signal } }
  })
  try {
    const finishes = await Promise.all(
      requests.generateAll(asked, (event, i) => {
        const choice = choices[i]
        if (choice !== undefined) tell(event, choice)
      }),
    )
    return choices.flatMap((choice, i) => {
      const finish = finishes[i]
      return finish === undefined ? [] : [{ ...choice, finish }]
    })
  } catch (err) {
    failed.abort(err)
    throw err
  }
}

/** Tells a waiting client its place; true where the event was such. */
export function toldPlace(event: AnswerEvent, comment: (text: string) => void): boolean {
  if (event.type === 'queued') comment(`queued, place ${event.position}`)
  return event.type === 'queued' || event.type === 'started'
}
