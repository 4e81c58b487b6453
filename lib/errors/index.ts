export { type ErrorBody, type ErrorCode, type ErrorDetails, MeshError, messageOf, systemCode } from './errors.js'
