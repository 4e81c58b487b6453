export {
  Accounts,
  accountKeys,
  MAX_PARENTS,
  mustHaveScope,
  NAME_RESTS_MS,
  type Principal,
  passwordMark,
} from './accounts.js'
export { applyTo, type BeeView } from './bee-view.js'
export { changeBee, readChanges } from './changes.js'
export { openCorestore } from './corestore.js'
export { ensureDeviceFile } from './device-file.js'
export { Directory, directoryKeys } from './directory.js'
export { forgetBlocks, forgetHashes } from './forget.js'
export { raiseFork } from './fork.js'
export { memoryStorage } from './memory.js'
