import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { MeshError, type OpenAiError } from '../../../lib/protocol/index.js'
import type { Call } from './call.js'
import { errorAnswer } from './errors.js'

/** A connection with nothing on it for this long may be cut by a proxy. */
const KEEP_ALIVE_MS = 15_000
/** What may wait for a slow reader, beyond what the system's own buffers hold. */
const MAX_WAITING_BYTES = 1024 * 1024
/** Where single events are long, because they repeat what was asked, so many of them. */
const MOST_EVENTS_WAITING = 4

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // Tells nginx to pass each event on at once.
  'x-accel-buffering': 'no',
}

/**
 * An answer as server-sent events. The first thing written commits to status 200; what fails before that is still an
 * ordinary HTTP error. A reader that leaves too much waiting is cut, and the call with it.
 */
export class EventStream {
  readonly #reply: FastifyReply
  readonly #call: Call
  readonly #keepAlive: NodeJS.Timeout
  #body: Readable | undefined
  #longest = 0

  constructor(reply: FastifyReply, call: Call) {
    this.#reply = reply
    this.#call = call
    this.#keepAlive = setInterval(() => this.comment('still here'), KEEP_ALIVE_MS)
  }

  /** True once the status is sent. */
  get begun(): boolean {
    return this.#body !== undefined
  }

  /** A line that clients skip. */
  comment(text: string): void {
    this.#write(`: ${text}\n\n`)
  }

  /** @param json one event, as JSON without line breaks */
  data(json: string): void {
    this.#write(`data: ${json}\n\n`)
    this.#keepAlive.refresh()
  }

  /** An event with a name. */
  event(name: string, json: string): void {
    this.#write(`event: ${name}\ndata: ${json}\n\n`)
    this.#keepAlive.refresh()
  }

  end(): void {
    clearInterval(this.#keepAlive)
    this.#body?.push(null)
  }

  #write(text: string): void {
    if (this.#body === undefined) {
      this.#body = new Readable({ read: () => {} })
      this.#reply.headers(HEADERS).send(this.#body)
    }
    if (this.#body.destroyed) return
    this.#body.push(text)
    const waiting = this.#body.readableLength
    this.#longest = Math.max(this.#longest, text.length)
    if (waiting <= Math.max(MAX_WAITING_BYTES, MOST_EVENTS_WAITING * this.#longest)) return
    clearInterval(this.#keepAlive)
    const err = MeshError.SLOW_READER(`The reader left ${waiting} bytes waiting; the stream was cut`)
    this.#call.abort(err)
    this.#body.destroy(err)
  }
}

/**
 * Runs a streamed answer to its end. A failure before its first event is thrown, for an ordinary error answer; a later
 * one is told as the last event, and the stream never looks finished.
 */
export async function streamed(
  reply: FastifyReply,
  call: Call,
  work: (stream: EventStream) => Promise<void>,
  tell: (stream: EventStream, error: OpenAiError) => void = (stream, error) => stream.data(JSON.stringify({ error })),
): Promise<FastifyReply> {
  const stream = new EventStream(reply, call)
  try {
    await work(stream)
    stream.end()
  } catch (err) {
    if (stream.begun) tell(stream, errorAnswer(err).error)
    stream.end()
    if (!stream.begun) throw err
  }
  return reply
}
