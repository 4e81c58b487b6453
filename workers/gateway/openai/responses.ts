import type { FastifyReply } from 'fastify'
import { type ChatMessage, type InferenceRequest, MeshError } from '../../../lib/protocol/index.js'
import { type Call, streamed } from '../http/index.js'
import type { AnswerEvent } from '../requests/index.js'
import type { BackgroundWork } from './background.js'
import { refuse } from './bodies.js'
import { frameOf } from './frame.js'
import { resolveReferences } from './item-references.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'
import { type Item, itemsOf, messagesOf, responseWords } from './response-input.js'
import { type Answered, ResponseBuilder } from './response-objects.js'
import { historyOf, notStored, ownerOf, responseDraft, storedView } from './response-records.js'
import { runOne, toldPlace } from './run.js'
import { pageOfLines, pageQuery, type Query, sendJson } from './stored-pages.js'
import { responseInference } from './to-inference.js'
import { chatAsked } from './tokens.js'
import { cutToFit } from './truncation.js'
import { inOpenAiWords, inWords, type Words } from './words.js'

/** `POST /v1/responses`. */
export async function respond(
  options: DoorOptions,
  body: PreparedBody<'responses'>,
  call: Call,
  reply: FastifyReply,
): Promise<unknown> {
  const { requests, catalogue, stored, background, bodies } = options
  if (body.background === true && body.store === false) refuse('background', 'needs store to be true')
  const items = await resolveReferences(options, call, itemsOf(body.input ?? []), reply)
  const messages = messagesOf(items, await historyOf(options, call, body.previous_response_id, reply))
  const { request, words } = await responseRequest(options, body, items, messages, call)
  const frame = frameOf('resp_', catalogue, request.model, call)
  const createdAt = Date.now()

  /** The response as it is told: that it is stored is said of one that is. */
  const kept = async (built: ResponseBuilder, response: Answered): Promise<Answered> => {
    if (body.store === false) return response
    const said = [...messages, built.message]
    const isKept = await stored.local.put(ownerOf(call), responseDraft({ response, items, messages: said }, createdAt))
    return isKept ? response : { ...response, store: false }
  }

  const inBackground = (built: ResponseBuilder, tell: (event: AnswerEvent) => void) => {
    const chars = messages.reduce((sum, { content }) => sum + content.length, 0)
    const room = bodies.hold(call.principal.user, chars)
    const generate: BackgroundWork['generate'] = (context, told) => runOne(requests, request, context, words, told)
    return background.begin({ generate, built, items, messages, room }, call, tell)
  }

  if (body.stream !== true) {
    const built = new ResponseBuilder(frame, body)
    if (body.background === true) {
      await inBackground(built, () => {})
      return { ...built.snapshot(), status: 'queued', output: [] }
    }
    const finish = await runOne(requests, request, call, words, (event) => built.add(event))
    return kept(built, built.finish(finish).response)
  }

  let sequence_number = 0
  const tell: { emit: (type: string, fields: object) => void } = { emit: () => {} }
  const built = new ResponseBuilder(frame, body, (type, fields) => tell.emit(type, fields))
  return streamed(
    reply,
    call,
    async (stream) => {
      tell.emit = (type, fields) =>
        stream.event(type, JSON.stringify({ type, ...fields, sequence_number: sequence_number++ }))
      if (body.background === true) {
        const { ended } = await inBackground(built, (event) => toldPlace(event, (text) => stream.comment(text)))
        const response = await ended
        // No event says that a response was cancelled.
        return tell.emit(response.status === 'cancelled' ? 'response.failed' : `response.${response.status}`, {
          response,
        })
      }
      const finish = await runOne(requests, request, call, words, (event) => {
        if (!toldPlace(event, (text) => stream.comment(text))) built.add(event)
      })
      const { response, type } = built.finish(finish)
      tell.emit(type, { response: await kept(built, response) })
    },
    (_stream, { code, message }) => {
      built.begin()
      tell.emit('response.failed', { response: built.fail(code ?? 'server_error', message) })
    },
  )
}

/** `POST /v1/responses/input_tokens`. @throws MeshError BAD_REQUEST, and as an earlier response that is not found */
export async function inputTokens(
  options: DoorOptions,
  body: PreparedBody<'responses'>,
  call: Call,
  reply: FastifyReply,
): Promise<unknown> {
  const items = await resolveReferences(options, call, itemsOf(body.input ?? []), reply)
  const messages = messagesOf(items, await historyOf(options, call, body.previous_response_id, reply))
  const { request } = await responseRequest(options, body, items, messages, call)
  const { count } = await options.tokens.ask(request.model, chatAsked(request, false), call)
  return { object: 'response.input_tokens', input_tokens: count }
}

/** What is asked of the mesh for a response, cut where that is wanted, and in which words. @throws MeshError in the caller's words */
async function responseRequest(
  options: DoorOptions,
  body: PreparedBody<'responses'>,
  items: readonly Item[],
  messages: ChatMessage[],
  call: Call,
): Promise<{ request: InferenceRequest; words: Words }> {
  const words = responseWords(items, messages, Boolean(body.instructions))
  const request = inWords(words, () => responseInference(body, messages))
  if (body.truncation !== 'auto') return { request, words }
  try {
    const { request: sent, kept } = await cutToFit(options, request, call)
    return { request: sent, words: { ...words, places: words.places && { ...words.places, kept } } }
  } catch (err) {
    throw inOpenAiWords(err, words)
  }
}

/** `GET /v1/responses/{id}`, from whichever gateway keeps it. @throws MeshError NOT_FOUND, PEER_NOT_FOUND */
export async function getResponse(options: DoorOptions, call: Call, id: string, query: Query, reply: FastifyReply) {
  if (query.stream !== undefined && query.stream !== 'false') {
    refuse('stream', 'a response is not streamed a second time; ask for it without, until its status is another')
  }
  const { bytes } = await storedView(options, call, id, 'object', 'response')
  return sendJson(options, call, reply, bytes)
}

/** `DELETE /v1/responses/{id}`. @throws MeshError NOT_FOUND, PEER_NOT_FOUND */
export async function deleteResponse({ stored }: DoorOptions, call: Call, id: string): Promise<object> {
  if (!id.startsWith('resp_') || !(await stored.delete(ownerOf(call), id))) throw notStored(id, 'response')
  return { id, object: 'response', deleted: true }
}

/** `POST /v1/responses/{id}/cancel`: of one that is made in the background. @throws MeshError NOT_FOUND, PEER_NOT_FOUND, BAD_REQUEST */
export async function cancelResponse(options: DoorOptions, call: Call, id: string, reply: FastifyReply) {
  const { head } = await storedView(options, call, id, 'object', 'response')
  if (!head.background) {
    throw MeshError.BAD_REQUEST(`${id} was not made in the background: only such responses can be cancelled`)
  }
  // One that has ended by now stays as it is.
  await options.stored.cancel(ownerOf(call), id)
  return getResponse(options, call, id, {}, reply)
}

/** `GET /v1/responses/{id}/input_items`. @throws MeshError NOT_FOUND, PEER_NOT_FOUND, BAD_REQUEST */
export async function getInputItems(options: DoorOptions, call: Call, id: string, query: Query, reply: FastifyReply) {
  const page = pageQuery(query, 'desc')
  const { bytes } = await storedView(options, call, id, 'items', 'response')
  return sendJson(options, call, reply, pageOfLines(bytes, page))
}
