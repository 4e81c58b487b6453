import type { z } from 'zod'
import type { Role } from './records.js'
import type { Scope } from './scopes.js'

/** What is said of every method before anything of it is served. */

/** Who stands at the other end of a link. `client` is anyone who is not a member. */
export type Caller = Role | 'client'

/**
 * What the call must carry besides its body. `none`: nothing, for the link proves who calls. `key`: any valid API key or
 * token. Else one that has this scope.
 */
export type Access = 'none' | 'key' | Scope

/** Bounds of one call. */
export interface CallOptions {
  /** Ends the call; the other side stops working on it. */
  signal?: AbortSignal
  /** Milliseconds until the call fails with TIMEOUT. Absent: the method's own deadline; none for a stream. */
  timeoutMs?: number
  /** Absent: a new one. Appears in errors, logs and the usage records. */
  requestId?: string
}

export interface Method<Req extends z.ZodType, Res extends z.ZodType> {
  /** Who may call it. The default is nobody: a role that is not listed is refused. */
  readonly callers: readonly Caller[]
  readonly scope: Access
  readonly request: Req
  readonly response: Res
  /** Deadline where the caller sets none. */
  readonly timeoutMs: number
}

const SHORT_MS = 10_000
/** Deadline of what may have to wait for an answer of a model, or for a large file. */
export const LONG_MS = 10 * 60_000

/** A method, with a deadline of ten seconds unless it says otherwise. */
export function method<Req extends z.ZodType, Res extends z.ZodType>(
  callers: readonly Caller[],
  scope: Access,
  request: Req,
  response: Res,
  timeoutMs = SHORT_MS,
): Method<Req, Res> {
  return { callers, scope, request, response, timeoutMs }
}
