import type { FastifyInstance } from 'fastify'
import { jsonFault, MeshError, messageOf, REQUEST_BOUNDS } from '../../../lib/protocol/index.js'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

/** Bodies are JSON objects in UTF-8, parsed as they come: for routes that take small ones only. */
export function parseJsonBodies(app: FastifyInstance): void {
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes: Buffer, done) => {
    if (bytes.byteLength === 0 && request.method === 'DELETE') return done(null, undefined)
    try {
      done(null, parseBody(bytes))
    } catch (err) {
      done(MeshError.from(err))
    }
  })
}

/** Bodies are left as the bytes that they are: for routes that read them themselves. */
export function keepJsonBodies(app: FastifyInstance): void {
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, bytes: Buffer, done) =>
    done(null, bytes),
  )
}

/**
 * The object that a body is, whose structure is bounded. `__proto__` among its keys is refused, and so is a constructor
 * with a prototype.
 * @throws MeshError BAD_REQUEST
 */
export function parseBody(bytes: Uint8Array): Record<string, unknown> {
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    throw MeshError.BAD_REQUEST('The body is not UTF-8')
  }
  const fault = jsonFault(text, REQUEST_BOUNDS)
  if (fault !== undefined) throw MeshError.BAD_REQUEST(`The body is JSON that is not read: ${fault}`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (err) {
    throw MeshError.BAD_REQUEST(`The body is not JSON that can be read: ${reasonOf(text, err)}`)
  }
  if (isJsonObject(value)) return value
  throw MeshError.BAD_REQUEST('The body is JSON, but not an object')
}

export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

function reasonOf(text: string, err: unknown): string {
  if (text.trim() === '') return 'it is empty'
  // V8 quotes the text around the fault: a prompt does not belong into an error that may be logged.
  return messageOf(err).replace(/,? *("|\.\.\.).* is not valid JSON$/s, '')
}
