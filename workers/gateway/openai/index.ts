export { openDoor } from './door.js'
export { describeDoor, docsPage } from './openapi.js'
