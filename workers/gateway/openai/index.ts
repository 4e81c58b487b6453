export { bearerOf, type DoorOptions, openDoor, route } from './door.js'
export { errorAnswer } from './errors.js'
export { describeDoor, docsPage, type OpenApiPart } from './openapi.js'
