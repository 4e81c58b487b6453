/** What every HTTP door of the product shares: the gateway's, the proxy's, the metrics'. */

/** Longest body of a request, as at the HTTP door. */
export const MAX_FETCH_BODY_BYTES = 8 * 1024 * 1024

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
