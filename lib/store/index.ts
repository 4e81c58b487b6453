export { Accounts, accountKeys, type Principal, passwordMark } from './accounts.js'
export { applyTo, type BeeView } from './bee-view.js'
export { openCorestore } from './corestore.js'
export { Directory, directoryKeys } from './directory.js'
