/**
 * The one error vocabulary of infermesh: the same code stands on the wire, in HTTP answers, in logs and in docs/errors.md.
 */

interface CodeInfo {
  /** HTTP status of the OpenAI door and of /api/v1. */
  readonly http: number
  /** Exit code of the CLI, from sysexits(3). */
  readonly exit: number
}

const USAGE = 64
const UNAVAILABLE = 69
const SOFTWARE = 70
const TRY_LATER = 75
const NOT_ALLOWED = 77
const CONFIGURATION = 78

const codes = {
  // What the caller sent.
  BAD_REQUEST: { http: 400, exit: USAGE },
  CONTEXT_LENGTH_EXCEEDED: { http: 400, exit: USAGE },
  MESSAGE_TOO_LARGE: { http: 413, exit: USAGE },
  MODEL_NOT_FOUND: { http: 404, exit: USAGE },
  MODEL_INVALID: { http: 400, exit: USAGE },
  MODEL_CONFLICT: { http: 409, exit: USAGE },
  NOT_FOUND: { http: 404, exit: USAGE },
  PREVIOUS_RESPONSE_NOT_FOUND: { http: 400, exit: USAGE },
  CONFLICT: { http: 409, exit: USAGE },
  UNKNOWN_METHOD: { http: 404, exit: USAGE },
  ENGINE_ENDED: { http: 422, exit: USAGE },
  // Who the caller is.
  INVALID_API_KEY: { http: 401, exit: NOT_ALLOWED },
  LOGIN_FAILED: { http: 401, exit: NOT_ALLOWED },
  FORBIDDEN: { http: 403, exit: NOT_ALLOWED },
  INVITE_INVALID: { http: 403, exit: NOT_ALLOWED },
  NOT_A_MEMBER: { http: 403, exit: NOT_ALLOWED },
  UNTRUSTED_GATEWAY: { http: 403, exit: NOT_ALLOWED },
  // How much the caller asked for.
  RATE_LIMITED: { http: 429, exit: TRY_LATER },
  QUOTA_EXCEEDED: { http: 429, exit: NOT_ALLOWED },
  QUEUE_FULL: { http: 503, exit: TRY_LATER },
  SLOW_READER: { http: 503, exit: TRY_LATER },
  CANCELLED: { http: 499, exit: TRY_LATER },
  TIMEOUT: { http: 504, exit: TRY_LATER },
  // What the mesh cannot do right now.
  BUSY: { http: 503, exit: TRY_LATER },
  SHUTTING_DOWN: { http: 503, exit: TRY_LATER },
  NO_PROCESSOR: { http: 503, exit: UNAVAILABLE },
  PROCESSOR_LOST: { http: 502, exit: UNAVAILABLE },
  ENGINE_FAILED: { http: 502, exit: UNAVAILABLE },
  AUTHORITY_DOWN: { http: 503, exit: UNAVAILABLE },
  DISK_FULL: { http: 503, exit: UNAVAILABLE },
  // Which step of connecting failed.
  DHT_UNREACHABLE: { http: 503, exit: UNAVAILABLE },
  MESH_NOT_FOUND: { http: 503, exit: UNAVAILABLE },
  PEER_NOT_FOUND: { http: 503, exit: UNAVAILABLE },
  HOLE_PUNCH_FAILED: { http: 503, exit: UNAVAILABLE },
  REFUSED: { http: 503, exit: UNAVAILABLE },
  VERSION_MISMATCH: { http: 503, exit: UNAVAILABLE },
  LINK_CLOSED: { http: 503, exit: UNAVAILABLE },
  // What is wrong on this machine.
  CONFIG_INVALID: { http: 500, exit: CONFIGURATION },
  PORT_IN_USE: { http: 500, exit: CONFIGURATION },
  STORE_LOCKED: { http: 503, exit: TRY_LATER },
  STORE_INVALID: { http: 500, exit: CONFIGURATION },
  INTERNAL: { http: 500, exit: SOFTWARE },
} as const satisfies Record<string, CodeInfo>

export type ErrorCode = keyof typeof codes

/** Facts that travel with an error. Only plain JSON; never a key, a password or a prompt. */
export interface ErrorDetails {
  /** How long to wait before the same call may succeed, in milliseconds. */
  retryAfterMs?: number
  /** The request this error belongs to. */
  requestId?: string
  /** The field of the request that is wrong, such as `messages[2].role`. */
  param?: string
  [fact: string]: unknown
}

/** An error as it crosses a wire or enters a log. */
export interface ErrorBody {
  code: ErrorCode
  message: string
  details?: ErrorDetails
}

const DISK_IS_FULL = 'The disk is full: make room on the machine where this was to be stored, and try again'
/** When the same may work on a disk that was full: somebody has to make room first. */
const DISK_RETRY_MS = 10_000
/** As many causes of causes as are looked at. */
const MAX_CAUSES = 8

class MeshErrorBase extends Error {
  override readonly name = 'MeshError'

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: ErrorDetails = {},
    options?: ErrorOptions,
  ) {
    super(message, options)
  }

  /** HTTP status for this error. */
  get httpStatus(): number {
    return codes[this.code].http
  }

  /** Process exit code for this error, from sysexits(3). */
  get exitCode(): number {
    return codes[this.code].exit
  }

  /** Milliseconds until a retry makes sense; undefined where a retry does not help. */
  get retryAfterMs(): number | undefined {
    return this.details.retryAfterMs
  }

  toJSON(): ErrorBody {
    const body: ErrorBody = { code: this.code, message: this.message }
    if (Object.keys(this.details).length > 0) body.details = this.details
    return body
  }

  /** Rebuilds an error received from a peer; anything that is not an error body becomes INTERNAL. */
  static fromJSON(body: unknown): MeshErrorBase {
    const { code, message, details } = fieldsOf(body)
    if (!isErrorCode(code) || typeof message !== 'string') {
      return new MeshErrorBase('INTERNAL', 'The other side sent an error that this version cannot read')
    }
    return new MeshErrorBase(code, message, detailsOf(details))
  }

  /**
   * `err` itself where it is a MeshError already; DISK_FULL where it is the system's word for that; else `fallback`. What
   * it was made of is its cause.
   */
  static from(
    err: unknown,
    fallback: ErrorCode = 'INTERNAL',
    message = 'Something unexpected went wrong',
  ): MeshErrorBase {
    if (err instanceof MeshErrorBase) return err
    if (isDiskFull(err)) {
      return new MeshErrorBase('DISK_FULL', DISK_IS_FULL, { retryAfterMs: DISK_RETRY_MS }, { cause: err })
    }
    return new MeshErrorBase(fallback, message, {}, { cause: err })
  }
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(codes, code)
}

function fieldsOf(value: unknown): { [field: string]: unknown } {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}

/** Facts that another side sent: those that are read here have their type, or are not there. */
function detailsOf(value: unknown): ErrorDetails {
  const { retryAfterMs, requestId, param, ...facts } = fieldsOf(value)
  return {
    ...facts,
    ...(typeof retryAfterMs === 'number' && { retryAfterMs }),
    ...(typeof requestId === 'string' && { requestId }),
    ...(typeof param === 'string' && { param }),
  }
}

/** The name that the system or a library gives to what went wrong, such as ENOENT; undefined where it gives none. */
export function systemCode(err: unknown): string | undefined {
  return err instanceof Error && 'code' in err && typeof err.code === 'string' ? err.code : undefined
}

/**
 * Whether something failed for want of room on a disk. Also where a library says so in words alone, as RocksDB does, and
 * wraps what the system said.
 */
export function isDiskFull(err: unknown): boolean {
  for (let depth = 0; err instanceof Error && depth < MAX_CAUSES; depth++, err = err.cause) {
    const code = systemCode(err)
    if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'DISK_FULL') return true
    if (/no space left|disk quota exceeded/i.test(err.message)) return true
  }
  return false
}

/** What an error of any kind says. */
export function messageOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err)
}

/** All codes, for docs and tests. */
export const ERROR_CODES = Object.keys(codes).filter(isErrorCode)

type Factory = (message: string, details?: ErrorDetails, options?: ErrorOptions) => MeshErrorBase

const factories = Object.fromEntries(
  ERROR_CODES.map((code) => [
    code,
    (message: string, details?: ErrorDetails, options?: ErrorOptions) =>
      new MeshErrorBase(code, message, details, options),
  ]),
) as Record<ErrorCode, Factory>

/** Every error that infermesh shows. Made by code: `MeshError.MODEL_NOT_FOUND('…', { model })`. */
export const MeshError = Object.assign(MeshErrorBase, factories)
export type MeshError = MeshErrorBase
