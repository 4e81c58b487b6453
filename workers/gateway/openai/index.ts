export { serveOpenAi } from './door.js'
export { openAiPart } from './openapi.js'
