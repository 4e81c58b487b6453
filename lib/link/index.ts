export { connectError } from './connect.js'
export {
  acceptFetches,
  FetchCall,
  FetchExchange,
  type FetchRequest,
  type FetchResponse,
} from './fetch.js'
export { acceptGenerations, Generation, GenerationSink } from './generate.js'
export { Link } from './link.js'
export {
  CANCEL_EVENT,
  encodeAnswer,
  encodeFailure,
  type KeyedCallOptions,
  type OpenedCall,
  openCall,
} from './rpc.js'
export { CHECK_MS } from './silence.js'
