export { type Call, callOf } from './call.js'
export { answerErrors, errorAnswer, noRoute, sendError } from './errors.js'
export { healthPart, serveHealth } from './health.js'
export { isJsonObject, parseJsonBodies } from './json.js'
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
