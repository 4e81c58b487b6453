import { errorCodes, type FastifyInstance, type FastifyRequest } from 'fastify'
import { jsonFault, MeshError, messageOf, REQUEST_BOUNDS } from '../../../lib/protocol/index.js'
import { inflateBodies } from './inflate-bodies.js'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

/** Bodies are JSON objects in UTF-8, parsed as they come: for routes that take small ones only. */
export function parseJsonBodies(app: FastifyInstance): void {
  takeJson(app, ({ method }, bytes) => (bytes.byteLength === 0 && method === 'DELETE' ? undefined : parseBody(bytes)))
}

/** Bodies are left as the bytes that they are: for routes that read them themselves. */
export function keepJsonBodies(app: FastifyInstance): void {
  takeJson(app, (_request, bytes) => bytes)
}

/** Takes JSON and nothing else, compressed or not: a body of another type or charset is answered with 415. */
function takeJson(app: FastifyInstance, read: (request: FastifyRequest, bytes: Buffer) => unknown): void {
  app.removeAllContentTypeParsers()
  inflateBodies(app)
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (request: FastifyRequest, bytes: Buffer) => {
      if (!isUtf8(request.headers['content-type'])) throw new errorCodes.FST_ERR_CTP_INVALID_MEDIA_TYPE()
      return read(request, bytes)
    },
  )
}

/** Whether a content type names no charset, or UTF-8, of which ASCII is a part. */
function isUtf8(contentType = ''): boolean {
  const charset = /;\s*charset\s*=\s*"?([^\s";]*)/i.exec(contentType)?.[1]?.toLowerCase()
  return charset === undefined || ['utf-8', 'utf8', 'us-ascii', 'ascii'].includes(charset)
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
