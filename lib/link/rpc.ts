import type ProtomuxRPC from 'protomux-rpc'
import { z } from 'zod'
import {
  type CallOptions,
  type ErrorBody,
  encodeJson,
  type InputOf,
  MAX_CREDENTIAL_CHARS,
  MeshError,
  type MethodName,
  methods,
  newRequestId,
  parseJson,
  REQUEST_BOUNDS,
  type ResponseOf,
  requestIdSchema,
  systemCode,
  validate,
} from '../protocol/index.js'
import { linkClosed } from './closed.js'

/**
 * How a unary call looks on the wire. Payloads are raw buffers of JSON: an encoding that throws inside protomux-rpc
 * ends the process, so both sides decode and validate by themselves, and an error is an ordinary answer.
 */

/** Longest request or answer. The transport ends the whole link above 16 MiB. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

const CLOSE_OBJECT = '}'.charCodeAt(0)

/** Sent as a one-way event to end a call: its body is the call's request id. */
export const CANCEL_EVENT = 'cancel'

/** Longer calls are opened without their body being read; other methods than those of LONG_METHODS take none. */
const SHORT_CALL_BYTES = 16 * 1024
/** No other request has as much to say. */
const MOST_BYTES_OF_CLIENT = 64 * 1024
const LONG_METHODS: ReadonlySet<MethodName> = new Set(['chat', 'complete', 'embed'])
/** Where the body of a long call begins at the latest. */
const BODY_WITHIN_BYTES = 8 * 1024

const headSchema = z.object({
  requestId: requestIdSchema,
  /** API key or token, where the method wants one. */
  key: z.string().max(MAX_CREDENTIAL_CHARS).optional(),
  /** Milliseconds the caller will wait. */
  timeoutMs: z.number().min(1).max(86_400_000).optional(),
})
export const callSchema = headSchema.extend({ body: z.unknown() })
/** The frame around every request. */
export type Call = z.infer<typeof callSchema>

/** A call that came. The body of a long one is JSON still: whose call it is can be looked at first. */
export interface OpenedCall extends z.infer<typeof headSchema> {
  body: unknown
  isRead: boolean
}

/** The frame around every answer. */
type Answer = { body: unknown } | { error: ErrorBody }
const answerSchema = z.object({ body: z.unknown().optional(), error: z.unknown().optional() })

/** @param fromClient whether the caller is no member @throws MeshError BAD_REQUEST, MESSAGE_TOO_LARGE */
export function openCall(name: MethodName, bytes: Uint8Array, fromClient: boolean): OpenedCall {
  const most = fromClient && !LONG_METHODS.has(name) ? MOST_BYTES_OF_CLIENT : MAX_MESSAGE_BYTES
  if (bytes.byteLength > most) {
    throw MeshError.MESSAGE_TOO_LARGE(`The request has ${bytes.byteLength} bytes; at most ${most} are read for ${name}`)
  }
  if (bytes.byteLength > SHORT_CALL_BYTES && LONG_METHODS.has(name)) return openLongCall(bytes)
  return { ...validate(callSchema, parseJson(bytes, 'The request', REQUEST_BOUNDS), 'call'), isRead: true }
}

const BODY_KEY = '"body":'

/** A long call has its body last, so that all else can be read without it. */
function openLongCall(bytes: Uint8Array): OpenedCall {
  const start = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, BODY_WITHIN_BYTES))
  const at = start.indexOf(BODY_KEY)
  const end = bytes.lastIndexOf(CLOSE_OBJECT)
  if (at === -1 || end === -1) {
    throw MeshError.BAD_REQUEST(
      `A call of more than ${SHORT_CALL_BYTES} bytes has its body last, which begins within ${BODY_WITHIN_BYTES} bytes`,
    )
  }
  const head = `${start.toString('utf8', 0, at).trimEnd().replace(/,$/, '')}}`
  const body = bytes.subarray(at + BODY_KEY.length, end)
  return { ...validate(headSchema, parseJson(Buffer.from(head), 'The call'), 'call'), body, isRead: false }
}

export function encodeAnswer(body: unknown): Buffer {
  const bytes = encodeJson({ body } satisfies Answer)
  if (bytes.byteLength > MAX_MESSAGE_BYTES) {
    return encodeFailure(
      MeshError.MESSAGE_TOO_LARGE(
        `The answer has ${bytes.byteLength} bytes; at most ${MAX_MESSAGE_BYTES} are sent. Ask for less at a time`,
      ),
    )
  }
  return bytes
}

export function encodeFailure(err: MeshError): Buffer {
  return encodeJson({ error: err.toJSON() } satisfies Answer)
}

/** Bounds of one call, and by whose right it is made. */
export interface KeyedCallOptions extends CallOptions {
  /** API key or token, where the method wants one. */
  key?: string
}

/** Bounds of one call on one link. */
export interface LinkCallOptions extends KeyedCallOptions {
  /** How long a call that is cancelled waits for what the other side has to say of it; absent: not at all. */
  lastWordMs?: number
}

/**
 * Calls one method over an open link and waits for its answer.
 * @throws MeshError: what the other side answered, or TIMEOUT, CANCELLED, LINK_CLOSED
 */
export async function callMethod<M extends MethodName>(
  rpc: ProtomuxRPC,
  name: M,
  body: InputOf<M>,
  options: LinkCallOptions = {},
): Promise<ResponseOf<M>> {
  const { signal, timeoutMs = methods[name].timeoutMs, key, requestId = newRequestId(), lastWordMs = 0 } = options
  if (signal?.aborted) throw MeshError.CANCELLED(`${name} was cancelled`, { requestId })
  if (rpc.closed) throw linkClosed(rpc.mux, `The link was closed before ${name} was sent`, { requestId })

  const frame = encodeJson({ requestId, key, timeoutMs, body } satisfies Call)
  if (frame.byteLength > MAX_MESSAGE_BYTES) {
    throw MeshError.MESSAGE_TOO_LARGE(
      `The request has ${frame.byteLength} bytes; at most ${MAX_MESSAGE_BYTES} are sent`,
      { requestId },
    )
  }
  const what = `answer to ${name}`
  const answer = await new Promise<Uint8Array>((resolve, reject) => {
    const timer = setTimeout(
      () => giveUp(MeshError.TIMEOUT(`No answer to ${name} within ${timeoutMs} ms`, { requestId })),
      timeoutMs,
    )
    let lastWord: NodeJS.Timeout | undefined
    const onAbort = () => {
      const cancelled = MeshError.CANCELLED(`${name} was cancelled`, { requestId })
      if (lastWordMs === 0) return giveUp(cancelled)
      if (!rpc.closed) rpc.event(CANCEL_EVENT, Buffer.from(requestId))
      lastWord = setTimeout(() => giveUp(cancelled), lastWordMs)
    }
    const settle = () => {
      clearTimeout(timer)
      clearTimeout(lastWord)
      signal?.removeEventListener('abort', onAbort)
    }
    const giveUp = (err: MeshError) => {
      settle()
      if (!rpc.closed) rpc.event(CANCEL_EVENT, Buffer.from(requestId))
      reject(err)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    rpc.request(name, frame).then(
      (value) => {
        settle()
        resolve(value)
      },
      (err: unknown) => {
        settle()
        reject(transportError(err, rpc, name, requestId))
      },
    )
  })
  const { body: answered, error } = validate(answerSchema, parseJson(answer, `The ${what}`), what, 'INTERNAL')
  if (error !== undefined) throw MeshError.fromJSON(error)
  return validate(methods[name].response, answered, what, 'INTERNAL')
}

function transportError(err: unknown, rpc: ProtomuxRPC, name: string, requestId: string): MeshError {
  if (systemCode(err) === 'UNKNOWN_METHOD')
    return MeshError.UNKNOWN_METHOD(`The other side has no method ${name}`, { requestId }, { cause: err })
  return linkClosed(rpc.mux, `The link closed while ${name} was under way`, { requestId }, err)
}
