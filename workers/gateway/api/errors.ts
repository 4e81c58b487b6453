import type { MeshError } from '../../../lib/protocol/index.js'

/** An error as OpenAI's clients read it: always these four keys. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string }
}

/** The body of an error answer. `code` is the error's own, in lower case. */
export function errorBody(err: MeshError): ErrorBody {
  return {
    error: {
      message: err.message,
      type: typeOf(err.httpStatus),
      param: err.details.param ?? null,
      code: err.code.toLowerCase(),
    },
  }
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error'
  if (status === 403) return 'permission_error'
  if (status === 429) return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}
