import { isIP, isIPv4 } from 'node:net'
import type { ErrorCode, MeshError } from '../errors/index.js'
import { MAX_CREDENTIAL_CHARS } from './ids.js'

/** What every HTTP door of the product shares: the gateway's, the proxy's, the metrics'. */

/** Longest body of a request, where no setting says otherwise. */
export const MAX_BODY_BYTES = 2 * 1024 * 1024
/** Embeddings bring many texts at a time: their bodies may be this many times as long. */
export const EMBEDDINGS_FACTOR = 4

/** What the OpenAI door serves without `/v1` as well, as llama-server does, by the first part of the path. */
const WITHOUT_V1 = /^\/(apply-template|chat|completions|detokenize|embeddings|health|models|responses|tokenize)(\/|$)/

/** Whether a path is the OpenAI door's, with or without `/v1`. */
export function isOpenAiPath(pathname: string): boolean {
  return pathname.startsWith('/v1/') || WITHOUT_V1.test(pathname)
}

/** Headers that belong to one connection, and the length, which follows from the body: they are not carried on. */
export const CONNECTION_HEADERS: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** The grammar of RFC 6750 has no spaces in a credential; the metrics' token may be a phrase that has. */
const BEARER = /^Bearer +(\S(?:.*\S)?) *$/i

/**
 * The credential of an Authorization header (RFC 6750), whatever it is worth; undefined where there is none, or one of
 * another scheme or of more than MAX_CREDENTIAL_CHARS.
 */
export function bearerCredential(header: string | undefined): string | undefined {
  const credential = BEARER.exec(header ?? '')?.[1]
  return credential !== undefined && credential.length <= MAX_CREDENTIAL_CHARS ? credential : undefined
}

/** Whether a host, as a URL or a setting names it, is this machine for sure: 127.0.0.0/8, ::1 or localhost. */
export function isLoopbackHost(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.')
  return ['localhost', '::1', '[::1]'].includes(host.toLowerCase())
}

/**
 * Whether a request's Host header names what cannot be another site's name for this machine: an address, localhost, or a
 * name that was allowed. A page that has its own name resolve to 127.0.0.1 could else read what is meant for this machine.
 * @param allowed names without ports; `*` allows any
 */
export function isOwnHost(header: string | undefined, allowed: readonly string[]): boolean {
  // Without one it is no browser's: HTTP/1.1 wants it, and Node refuses a request that lacks it.
  if (header === undefined || allowed.includes('*')) return true
  const name = /^(\[[^\]]*\]|[^:]*)(:\d*)?$/.exec(header)?.[1]?.toLowerCase()
  if (name === undefined) return false
  if (isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0) return true
  return name === 'localhost' || name.endsWith('.localhost') || allowed.some((one) => one.toLowerCase() === name)
}

/** The error object of OpenAI's API: all four keys are always there. */
export interface OpenAiError {
  message: string
  type: string
  param: string | null
  code: string | null
}

/** A failure as an HTTP answer; its body is `{ error }`. */
export interface ErrorAnswer {
  status: number
  headers: Record<string, string>
  error: OpenAiError
}

/** Codes that OpenAI's clients know by another name. The others are ours in lower case. */
const OPENAI_CODES: Partial<Record<ErrorCode, string>> = {
  RATE_LIMITED: 'rate_limit_exceeded',
  QUOTA_EXCEEDED: 'insufficient_quota',
}

/**
 * A retry cannot help here, though the clients would try for this status. A budget that begins anew says when: for people
 * and their schedules, and not for a client that would hold its caller until then.
 */
const FINAL: ReadonlySet<ErrorCode> = new Set(['QUOTA_EXCEEDED', 'CONFLICT', 'MODEL_CONFLICT', 'SLOW_READER'])

/** When a 503 that says nothing itself may be tried again. */
const RETRY_MS = 1000

/** A failure as the doors answer it, with when and whether to try again. */
export function errorAnswerOf(err: MeshError): ErrorAnswer {
  const { code, message, httpStatus: status, details } = err
  const headers: Record<string, string> = {}
  const retryAfterMs = err.retryAfterMs ?? (status === 503 ? RETRY_MS : undefined)
  const isFinal = FINAL.has(code)
  if (retryAfterMs !== undefined && (!isFinal || code === 'QUOTA_EXCEEDED')) {
    headers['retry-after'] = String(Math.ceil(retryAfterMs / 1000))
    headers['retry-after-ms'] = String(Math.ceil(retryAfterMs))
  }
  if (isFinal) headers['x-should-retry'] = 'false'
  else if (retryAfterMs !== undefined) headers['x-should-retry'] = 'true'
  if (status === 401) headers['www-authenticate'] = 'Bearer'
  return {
    status,
    headers,
    error: {
      message,
      type: openAiType(code, status),
      param: typeof details.param === 'string' ? details.param : null,
      code: OPENAI_CODES[code] ?? code.toLowerCase(),
    },
  }
}

/** Codes of what is wrong with a request before any of ours looks at it. */
export const HTTP_CODES = [
  'bad_request',
  'not_found',
  'method_not_allowed',
  'timeout',
  'unsupported_media_type',
  'misdirected_request',
] as const
export type HttpCode = (typeof HTTP_CODES)[number]

/** The answer to what no route takes: another path or method, or what is no HTTP. Its codes are HTTP's, not ours. */
export function noRequestAnswer(status: number, message: string, code: HttpCode): ErrorAnswer {
  return { status, headers: {}, error: { message, type: 'invalid_request_error', param: null, code } }
}

function openAiType(code: ErrorCode, status: number): string {
  if (code === 'QUOTA_EXCEEDED') return 'insufficient_quota'
  if (status === 429) return 'rate_limit_error'
  if (status === 403) return 'permission_error'
  return status >= 500 ? 'server_error' : 'invalid_request_error'
}
