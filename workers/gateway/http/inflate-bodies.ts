import { createGunzip, createInflate, type Gunzip, type Inflate } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import { throughStep } from './body-steps.js'

/** The codings of bodies (RFC 9110) that are taken besides none. */
const CODINGS: Partial<Record<string, () => Gunzip | Inflate>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
}
const ACCEPTED = 'gzip, deflate'

/**
 * Takes bodies of the app's routes that are compressed. They are inflated off the loop and as they are read, so that what
 * counts them counts what they hold, and one that grows past its bound is inflated no further.
 */
export function inflateBodies(app: FastifyInstance): void {
  app.addHook('preParsing', async (request, reply, payload) => {
    const { 'content-encoding': coding, 'content-length': length } = request.headers
    if (!isCompressed(coding)) return payload
    // One that is too long as it is gets refused without being read.
    if (Number(length) > request.routeOptions.bodyLimit) return payload
    const make = CODINGS[coding.toLowerCase()]
    if (make === undefined) {
      reply.header('accept-encoding', ACCEPTED)
      const given = JSON.stringify(coding.slice(0, 40))
      throw httpError(415, `The body is of the coding ${given}; accepted are ${ACCEPTED}, or none`)
    }
    const inflating = make()
    reply.raw.once('close', () => inflating.destroy())
    inflating.once('error', (err) => {
      err.message = `The body is not ${coding} that can be read: ${err.message}`
    })
    Object.defineProperty(inflating, 'receivedEncodedLength', { get: () => inflating.bytesWritten })
    return throughStep(payload, inflating)
  })
}

/** Whether a body has another length than its headers say. @param coding its Content-Encoding */
export function isCompressed(coding: string | undefined): coding is string {
  return coding !== undefined && !/^(identity)?$/i.test(coding)
}

function httpError(statusCode: number, message: string): Error {
  return Object.assign(new Error(message), { statusCode })
}
