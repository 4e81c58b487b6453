export { connectError } from './connect.js'
export {
  acceptFetches,
  FetchCall,
  FetchExchange,
  type FetchRequest,
  type FetchResponse,
} from './fetch.js'
export { acceptGenerations, Generation, GenerationSink } from './generate.js'
export { guardMux } from './guard.js'
export { Link } from './link.js'
export {
  CANCEL_EVENT,
  type Call,
  type CallOptions,
  callMethod,
  decodeCall,
  encodeAnswer,
  encodeFailure,
} from './rpc.js'
