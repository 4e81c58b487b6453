import type { FastifyReply } from 'fastify'
import { MeshError } from '../../../lib/protocol/index.js'
import { type Call, streamed } from '../http/index.js'
import { refuse } from './bodies.js'
import { frameOf } from './frame.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'
import { type Item, itemsOf, messagesOf } from './response-input.js'
import { ResponseBuilder } from './response-objects.js'
import type { ResponseStore } from './response-store.js'
import { toldPlace } from './run.js'
import { responseInference } from './to-inference.js'

/** `POST /v1/responses`. */
export async function respond(
  { requests, catalogue }: DoorOptions,
  store: ResponseStore,
  body: PreparedBody<'responses'>,
  call: Call,
  reply: FastifyReply,
): Promise<unknown> {
  const { keyId, user } = call.principal
  const items = itemsOf(body.input)
  const messages = messagesOf(items, historyOf(store, keyId, body.previous_response_id))
  const request = responseInference(body, messages)
  const frame = frameOf('resp_', catalogue, request.model, call)

  const keep = (built: ResponseBuilder, response: object): void => {
    if (body.store === false) return
    store.put(
      { keyId, user },
      {
        response: { ...response, id: built.id },
        input: items.map((item, i) => shownItem(item, frame.id, i)),
        messages: [...messages, answerMessage(built)],
      },
    )
  }

  if (body.stream !== true) {
    const built = new ResponseBuilder(frame, body)
    const finish = await requests.generate(request, call, (event) => built.add(event))
    const { response } = built.finish(finish)
    keep(built, response)
    return response
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
      const finish = await requests.generate(request, call, (event) => {
        if (!toldPlace(event, (text) => stream.comment(text))) built.add(event)
      })
      const { response, type } = built.finish(finish)
      keep(built, response)
      tell.emit(type, { response })
    },
    (_stream, { code, message }) => {
      built.begin()
      tell.emit('response.failed', { response: built.fail(code ?? 'server_error', message) })
    },
  )
}

/** `GET /v1/responses/{id}`. @throws MeshError NOT_FOUND */
export function getResponse(store: ResponseStore, keyId: string, id: string): object {
  return stored(store, keyId, id).response
}

/** `DELETE /v1/responses/{id}`. @throws MeshError NOT_FOUND */
export function deleteResponse(store: ResponseStore, keyId: string, id: string): object {
  stored(store, keyId, id)
  store.delete(keyId, id)
  return { id, object: 'response', deleted: true }
}

/** `GET /v1/responses/{id}/input_items`. @throws MeshError NOT_FOUND */
export function getInputItems(store: ResponseStore, keyId: string, id: string): object {
  const data = stored(store, keyId, id).input
  return { object: 'list', data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null, has_more: false }
}

function stored(store: ResponseStore, keyId: string, id: string) {
  const found = store.get(keyId, id)
  if (found !== undefined) return found
  throw MeshError.NOT_FOUND(
    `There is no response ${JSON.stringify(id.slice(0, 100))}: this gateway keeps a bounded number of each key's, in memory`,
  )
}

function historyOf(store: ResponseStore, keyId: string, id: string | null | undefined) {
  if (id == null) return []
  const found = store.get(keyId, id)
  if (found !== undefined) return found.messages
  return refuse(
    'previous_response_id',
    `there is no response ${JSON.stringify(id.slice(0, 100))}: this gateway keeps a bounded number of each key's, in memory`,
  )
}

function answerMessage(built: ResponseBuilder) {
  const { content, toolCalls } = built.said
  return { role: 'assistant' as const, content, ...(toolCalls.length > 0 && { toolCalls }) }
}

/** An item of the input as it is listed: with an id, and a message's text as a part. */
function shownItem(item: Item, responseId: string, i: number): Item {
  const id = typeof item.id === 'string' ? item.id : `item_${responseId.replace(/^resp_/, '')}_${i}`
  const { type = 'message', content } = item
  if (type !== 'message' || typeof content !== 'string') return { status: 'completed', ...item, type, id }
  const part = { type: item.role === 'assistant' ? 'output_text' : 'input_text', text: content }
  return { status: 'completed', ...item, type, id, content: [part] }
}
