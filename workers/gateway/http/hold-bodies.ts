import { Transform } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type HeldRoom, releaseAtEnd, SMALL_BODY_BYTES } from './body-room.js'
import { throughStep } from './body-steps.js'
import { isCompressed } from './inflate-bodies.js'

/**
 * Has each body of the app's routes take room before it is read, until its answer is complete: as much as the headers
 * say, or as much as has come where they say nothing.
 * @param hold takes the room. @throws MeshError where there is none
 */
export function holdBodies(app: FastifyInstance, hold: (request: FastifyRequest, bytes: number) => HeldRoom): void {
  app.addHook('preParsing', async (request, reply, payload) => {
    const { 'content-length': length, 'content-encoding': coding } = request.headers
    const told = Number(length)
    const isTold = length !== undefined && !isCompressed(coding)
    // One that is too long is refused without being read.
    if ((isTold && told <= SMALL_BODY_BYTES) || told > request.routeOptions.bodyLimit) return payload
    const room = hold(request, isTold ? told : 0)
    releaseAtEnd(reply, room)
    return isTold ? payload : throughStep(payload, counting(room))
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
