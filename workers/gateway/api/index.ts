export { serveApi } from './door.js'
export { apiPart } from './openapi.js'
