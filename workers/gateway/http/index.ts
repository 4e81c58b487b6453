export { bearerOf } from './bearer.js'
export { type Call, callOf } from './call.js'
export { answerErrors, errorAnswer, noRoute, type OpenAiError, sendError } from './errors.js'
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
