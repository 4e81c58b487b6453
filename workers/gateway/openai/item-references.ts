import type { FastifyReply } from 'fastify'
import { MeshError } from '../../../lib/protocol/index.js'
import type { Call } from '../http/index.js'
import { refuse } from './bodies.js'
import type { DoorOptions } from './options.js'
import type { Item } from './response-input.js'
import { ownerOf, readHeld, WHY_GONE } from './response-records.js'

/** Each of them is read from a disk, perhaps another gateway's. */
const MOST_RESPONSES = 64

/** Of all that is named, as often as it is named: it may be as long as a body in which it were sent. */
const MOST_BYTES = 2 * 1024 * 1024

/** What the items of a response's output are called by: see ResponseBuilder. */
const OUTPUT_ID = /^(?:msg|fc)_(.+)_\d+$/

/**
 * The items of a request, with what earlier responses said in the places where it is named by its id alone.
 * @throws MeshError NOT_FOUND with the place, BAD_REQUEST where too many responses are named, PEER_NOT_FOUND
 */
export async function resolveReferences(
  options: Pick<DoorOptions, 'stored' | 'bodies'>,
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
    return { at, id }
  })
  const said = new Map<string, { item: Item; bytes: number }>()
  for (const id of responses) {
    for (const item of await outputOf(options, call, id, reply)) {
      said.set(String(item.id), { item, bytes: Buffer.byteLength(JSON.stringify(item)) })
    }
  }
  let bytes = 0
  return items.map((item, i) => {
    const reference = references[i]
    if (reference === undefined) return item
    const { at, id } = reference
    const found = said.get(id) ?? missing(id, at)
    bytes += found.bytes
    if (bytes > MOST_BYTES) refuse(at, `all items that are referred to may have ${MOST_BYTES} bytes together`)
    return found.item
  })
}

async function outputOf(
  options: Pick<DoorOptions, 'stored' | 'bodies'>,
  call: Call,
  id: string,
  reply: FastifyReply,
): Promise<readonly Item[]> {
  const found = await options.stored.read(ownerOf(call), id, 'object')
  if (found?.head.kind !== 'response') return []
  return (await readHeld(options, call, 'output', found.bytes, reply)).output
}

function missing(id: string, param: string): never {
  const shown = JSON.stringify(id.slice(0, 100))
  throw MeshError.NOT_FOUND(`${param}: there is no item ${shown}: its response ${WHY_GONE}`, { param })
}
