import { Transform } from 'node:stream'
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
    return length === undefined ? throughStep(payload, counting(room)) : payload
  })
}

function counting(room: HeldRoom): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        room.add(chunk.byteLength)
        done(null, chunk)
      } catch (err) {
        done(err instanceof Error ? err : new Error(String(err)))
      }
    },
  })
}

/** A body by way of a step. A step that fails leaves the body as it is: without its socket nobody could be told why. */
export function throughStep<T extends Transform>(payload: NodeJS.ReadableStream, step: T): T {
  payload.once('error', (err: Error) => step.destroy(err))
  return payload.pipe(step)
}
