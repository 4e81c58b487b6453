import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type HeldRoom, SMALL_BODY_BYTES } from './body-room.js'

/**
 * Has each body of the app's routes take room before it is read, until its answer is complete: as much as the headers
 * say, or as much as has come where they say nothing.
 * @param hold takes the room. @throws MeshError where there is none
 */
export function holdBodies(app: FastifyInstance, hold: (request: FastifyRequest, bytes: number) => HeldRoom): void {
  app.addHook('preParsing', async (request, reply, payload) => {
    const length = request.headers['content-length']
    const told = Number(length)
    // One that is too long is refused without being read.
    if (length !== undefined && (told <= SMALL_BODY_BYTES || told > request.routeOptions.bodyLimit)) return payload
    const room = hold(request, length === undefined ? 0 : told)
    reply.raw.once('close', () => room.release())
    return length === undefined ? Readable.from(counted(payload, room)) : payload
  })
}

async function* counted(payload: NodeJS.ReadableStream, room: HeldRoom): AsyncGenerator<Buffer> {
  // Without its socket nobody could be told why the body is not taken.
  const chunks: AsyncIterable<Buffer> =
    payload instanceof Readable ? payload.iterator({ destroyOnReturn: false }) : new Readable().wrap(payload)
  for await (const chunk of chunks) {
    room.add(chunk.byteLength)
    yield chunk
  }
}
