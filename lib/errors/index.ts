export {
  type ErrorBody,
  type ErrorCode,
  type ErrorDetails,
  isDiskFull,
  MeshError,
  messageOf,
  systemCode,
} from './errors.js'
export { againIn, engineCommand, escapedJson, oneLine, printable } from './text.js'
