import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { type ErrorAnswer, newRequestId, noRequestAnswer } from '../../protocol/index.js'

/** What a server answers to what never becomes a request: no HTTP, what came too slowly, and methods that are no requests. */

interface UnderWay {
  request: IncomingMessage
  response: ServerResponse
}

/**
 * Answers what Node would cut, or answer without a body.
 * @param maxHeaderBytes what the server takes of a head
 */
export class NotHttp {
  readonly #maxHeaderBytes: number
  /** Requests of a connection that are not answered yet, in their order. */
  readonly #underWay = new WeakMap<Duplex, Set<UnderWay>>()
  readonly #told = new WeakSet<Duplex>()

  constructor(maxHeaderBytes: number) {
    this.#maxHeaderBytes = maxHeaderBytes
  }

  /** Call it before anything else listens for requests. */
  attach(server: Server): void {
    server.prependListener('request', (request, response) => this.#begin({ request, response }))
    server.on('connect', ({ url = '' }, socket) => {
      const message = `This is no proxy: it does not connect to ${url.slice(0, 200)}`
      this.#answer(socket, { ...noRequestAnswer(405, message, 'method_not_allowed'), headers: { allow: '' } })
    })
    // Other expectations than 100-continue say nothing here.
    server.on('checkExpectation', (request, response) => server.emit('request', request, response))
  }

  /** What came was no HTTP, or came too slowly: for the server's `clientError`. */
  onClientError(err: NodeJS.ErrnoException, socket: Duplex): void {
    // Whoever has broken off, or never finished a TLS handshake, cannot be answered: the answer would wait for ever.
    if (/^(HPE|ERR_HTTP)_/.test(err.code ?? '') && socket.writable) this.#answer(socket, this.#answerTo(err))
    else socket.destroy()
  }

  #answerTo({ code }: NodeJS.ErrnoException): ErrorAnswer {
    if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return noRequestAnswer(408, 'The request did not come in time', 'timeout')
    if (code === 'HPE_HEADER_OVERFLOW') {
      const message = `The path and the headers have more than ${this.#maxHeaderBytes} bytes`
      return noRequestAnswer(431, message, 'bad_request')
    }
    if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') {
      return noRequestAnswer(413, 'The extensions of a chunk have more than 16384 bytes', 'bad_request')
    }
    return noRequestAnswer(400, 'This is not HTTP/1.1', 'bad_request')
  }

  #begin(one: UnderWay): void {
    const { request, response } = one
    const all = this.#underWay.get(request.socket) ?? new Set()
    this.#underWay.set(request.socket, all.add(one))
    const forget = (): void => void all.delete(one)
    // What is refused may be answered long before it has come.
    response.once('close', () => (request.complete ? forget() : request.once('close', forget)))
  }

  /** Writes the connection's last answer, once those before it are written. */
  #answer(socket: Duplex, answer: ErrorAnswer): void {
    // What follows on the connection may be no HTTP either.
    if (this.#told.has(socket)) return
    this.#told.add(socket)
    const before = [...(this.#underWay.get(socket) ?? [])]
    const last = before.at(-1)
    // Its own request came apart: this is its answer, unless it has one.
    const isBroken = last !== undefined && !last.request.complete
    if (isBroken) before.pop()
    const written = before.map(({ response }) => new Promise((resolve) => response.once('close', resolve)))
    void Promise.all(written).then(() => {
      if (!socket.writable || (isBroken && last.response.headersSent)) socket.end(() => socket.destroy())
      else writeAnswer(socket, answer)
    })
  }
}

function writeAnswer(socket: Duplex, { status, headers, error }: ErrorAnswer): void {
  const body = JSON.stringify({ error })
  const head = {
    'x-request-id': newRequestId(),
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
    ...headers,
  }
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`)
  // Whoever sends rubbish may also not read: nothing is kept for them.
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`, () => socket.destroy())
}
