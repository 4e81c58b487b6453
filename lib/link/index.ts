export { connectError } from './connect.js'
export {
  acceptFetches,
  CONNECTION_HEADERS,
  FetchCall,
  FetchExchange,
  type FetchRequest,
  type FetchResponse,
  MAX_FETCH_BODY_BYTES,
} from './fetch.js'
export { acceptGenerations, Generation, GenerationSink } from './generate.js'
export { guardMux } from './guard.js'
export { Link, SILENT_MS, SUSPECT_MS } from './link.js'
export {
  CANCEL_EVENT,
  type Call,
  type CallOptions,
  callMethod,
  decodeCall,
  encodeAnswer,
  encodeFailure,
} from './rpc.js'
