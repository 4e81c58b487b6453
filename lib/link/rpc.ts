import type ProtomuxRPC from 'protomux-rpc'
import { z } from 'zod'
import {
  type ErrorBody,
  encodeJson,
  type InputOf,
  MAX_CREDENTIAL_CHARS,
  MeshError,
  type MethodName,
  methods,
  newRequestId,
  parseJson,
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

/** Sent as a one-way event to end a call: its body is the call's request id. */
export const CANCEL_EVENT = 'cancel'

export const callSchema = z.object({
  requestId: requestIdSchema,
  /** API key or token, where the method wants one. */
  key: z.string().max(MAX_CREDENTIAL_CHARS).optional(),
  /** Milliseconds the caller will wait. */
  timeoutMs: z.number().min(1).max(86_400_000).optional(),
  body: z.unknown(),
})
/** The frame around every request. */
export type Call = z.infer<typeof callSchema>

/** The frame around every answer. */
type Answer = { body: unknown } | { error: ErrorBody }
const answerSchema = z.object({ body: z.unknown().optional(), error: z.unknown().optional() })

/** @throws MeshError BAD_REQUEST, MESSAGE_TOO_LARGE */
export function decodeCall(bytes: Uint8Array): Call {
  if (bytes.byteLength > MAX_MESSAGE_BYTES) {
    throw MeshError.MESSAGE_TOO_LARGE(
      `The request has ${bytes.byteLength} bytes; at most ${MAX_MESSAGE_BYTES} are read`,
    )
  }
  return validate(callSchema, parseJson(bytes, 'The request'), 'call')
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

/** Bounds of one call. */
export interface CallOptions {
  /** Ends the call; the other side stops working on it. */
  signal?: AbortSignal
  /** Milliseconds until the call fails with TIMEOUT. Absent: the method's own deadline; none for a stream. */
  timeoutMs?: number
  /** Absent: a new one. Appears in errors, logs and the usage records. */
  requestId?: string
}

/** Bounds of one call, and by whose right it is made. */
export interface KeyedCallOptions extends CallOptions {
  /** API key or token, where the method wants one. */
  key?: string
}

/**
 * Calls one method over an open link and waits for its answer.
 * @throws MeshError: what the other side answered, or TIMEOUT, CANCELLED, LINK_CLOSED
 */
export async function callMethod<M extends MethodName>(
  rpc: ProtomuxRPC,
  name: M,
  body: InputOf<M>,
  options: KeyedCallOptions = {},
): Promise<ResponseOf<M>> {
  const { signal, timeoutMs = methods[name].timeoutMs, key, requestId = newRequestId() } = options
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
    const onAbort = () => giveUp(MeshError.CANCELLED(`${name} was cancelled`, { requestId }))
    const settle = () => {
      clearTimeout(timer)
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
