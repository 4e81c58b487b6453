import { setMaxListeners } from 'node:events'
import type { Finish, InferenceRequest } from '../../../lib/protocol/index.js'
import type { Call } from '../http/index.js'
import type { AnswerEvent, Requests } from '../requests/index.js'
import { inOpenAiWords, type Words } from './words.js'

/** One of the answers that a call asks for. */
export interface Choice {
  request: InferenceRequest
  index: number
  /** The name of its prompt, where a call has many. */
  prompt?: string
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
  const wordsOf = (choice?: C): Words => ({ ...words, ...(choice?.prompt !== undefined && { prompt: choice.prompt }) })
  const [first] = choices
  if (choices.length === 1 && first !== undefined) {
    const finish = await runOne(requests, first.request, call, wordsOf(first), (event) => tell(event, first))
    return [{ ...first, finish }]
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
      requests
        .generateAll(asked, (event, i) => {
          const choice = choices[i]
          if (choice !== undefined) tell(event, choice)
        })
        .map((finish, i) =>
          finish.catch((err: unknown) => {
            throw inOpenAiWords(err, wordsOf(choices[i]))
          }),
        ),
    )
    return choices.flatMap((choice, i) => {
      const finish = finishes[i]
      return finish === undefined ? [] : [{ ...choice, finish }]
    })
  } catch (err) {
    failed.abort(err)
    throw inOpenAiWords(err, words)
  }
}

/** Runs one generation. @throws MeshError in the caller's words */
export async function runOne(
  requests: Requests,
  request: InferenceRequest,
  call: Call,
  words: Words,
  tell: (event: AnswerEvent) => void,
): Promise<Finish> {
  try {
    return await requests.generate(request, call, tell)
  } catch (err) {
    throw inOpenAiWords(err, words)
  }
}

/** Tells a waiting client its place; true where the event was such. */
export function toldPlace(event: AnswerEvent, comment: (text: string) => void): boolean {
  if (event.type === 'queued') comment(`queued, place ${event.position}`)
  return event.type === 'queued' || event.type === 'started'
}
