import type { FastifyInstance } from 'fastify'
import { MeshError, messageOf } from '../../../lib/protocol/index.js'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

/** Bodies are JSON objects in UTF-8. `__proto__` among their keys is refused, and so is a constructor with a prototype. */
export function parseJsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes: Buffer, done) => {
    if (bytes.byteLength === 0 && request.method === 'DELETE') return done(null, undefined)
    let text: string
    try {
      text = utf8.decode(bytes)
    } catch {
      return done(MeshError.BAD_REQUEST('The body is not UTF-8'))
    }
    parse(request, text, (err, value) => {
      if (err) done(MeshError.BAD_REQUEST(`The body is not JSON that can be read: ${reasonOf(text)}`))
      else if (isJsonObject(value)) done(null, value)
      else done(MeshError.BAD_REQUEST('The body is JSON, but not an object'))
    })
  })
}

export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

function reasonOf(text: string): string {
  if (text.trim() === '') return 'it is empty'
  try {
    JSON.parse(text)
    return 'it has a key that would change the prototype of objects, such as __proto__'
  } catch (err) {
    // V8 quotes the text around the fault: a prompt does not belong into an error that may be logged.
    return messageOf(err).replace(/,? *("|\.\.\.).* is not valid JSON$/s, '')
  }
}
