export { BodyReader } from './body-reader.js'
export { serveOpenAi } from './door.js'
export { openAiPart } from './openapi.js'
export { interruptedResponse } from './response-records.js'
