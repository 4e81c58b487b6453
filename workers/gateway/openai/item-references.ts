import type { FastifyReply } from 'fastify'
import { MeshError } from '../../../lib/protocol/index.js'
import { type Call, releaseAtEnd } from '../http/index.js'
import { refuse } from './bodies.js'
import type { DoorOptions } from './options.js'
import type { Item } from './response-input.js'
import { ownerOf } from './response-records.js'

/** Each of them is read from a disk, perhaps another gateway's. */
const MOST_RESPONSES = 64

/** What the items of a response's output are called by: see ResponseBuilder. */
const OUTPUT_ID = /^(?:msg|fc)_(.+)_\d+$/

/**
 * The items of a request, with what earlier responses said in the places where it is named by its id alone.
 * @throws MeshError NOT_FOUND with the place, BAD_REQUEST where too many responses are named, PEER_NOT_FOUND
 */
export async function resolveReferences(
  { stored, bodies }: Pick<DoorOptions, 'stored' | 'bodies'>,
  call: Call,
  items: readonly Item[],
  reply: FastifyReply,
): Promise<Item[]> {
  const responses = new Set<string>()
  const references = items.map((item, i) => {
    if (item.type !== 'item_reference') return undefined
    const at = `input[${i}].id`
    const id = typeof item.id === 'string' ? item.id : refuse(at, 'expected the id of an item of an earlier response')
    const responseId = `resp_${OUTPUT_ID.exec(id)?.[1] ?? ''}`
    if (responses.add(responseId).size > MOST_RESPONSES) {
      refuse(at, `refers to more than ${MOST_RESPONSES} responses; use previous_response_id`)
    }
    return { at, id, responseId }
  })
  const outputs = new Map<string, readonly Item[]>()
  for (const id of responses) outputs.set(id, await outputOf({ stored, bodies }, call, id, reply))
  return items.map((item, i) => {
    const reference = references[i]
    if (reference === undefined) return item
    const { at, id, responseId } = reference
    return outputs.get(responseId)?.find((one) => one.id === id) ?? missing(id, at)
  })
}

async function outputOf(
  { stored, bodies }: Pick<DoorOptions, 'stored' | 'bodies'>,
  call: Call,
  id: string,
  reply: FastifyReply,
): Promise<readonly Item[]> {
  const found = await stored.read(ownerOf(call), id, 'object')
  if (found?.head.kind !== 'response') return []
  const { user } = call.principal
  const room = bodies.hold(user, found.bytes.byteLength)
  releaseAtEnd(reply, room)
  const { output } = await bodies.read('output', user, found.bytes)
  return output
}

function missing(id: string, param: string): never {
  const shown = JSON.stringify(id.slice(0, 100))
  throw MeshError.NOT_FOUND(
    `${param}: there is no item ${shown}: its response was never stored, was deleted, or is older than what is kept`,
    { param },
  )
}
