export { BodyRoom, type HeldRoom, releaseAtEnd, SMALL_BODY_BYTES } from './body-room.js'
export { type Call, callOf } from './call.js'
export { credentialOf } from './credential.js'
export { answerErrors, errorAnswer } from './errors.js'
export { healthPart, serveHealth } from './health.js'
export { holdBodies } from './hold-bodies.js'
export { isJsonObject, keepJsonBodies, parseBody, parseJsonBodies } from './json.js'
export {
  docsPage,
  errorContent,
  type Json,
  jsonContent,
  jsonSchema,
  type OpenApiPart,
  openApiDocument,
  ref,
} from './openapi.js'
export { streamed } from './sse.js'
export { type ThreadAnswer, type ThreadJob, ThreadPool } from './thread-pool.js'
