export {
  type AccountsAccess,
  type AccountsKey,
  accountsKeyPath,
  readAccountsAccess,
  readAccountsKey,
  writeAccountsAccess,
  writeAccountsKey,
} from './accounts.js'
export { adminKeyPath, readAdminKey, writeAdminKey } from './admin-key.js'
export { endEngines, endEnginesOf, writeEngines } from './engines.js'
export { makePrivateDir, readRecord, writeFileAtomic } from './files.js'
export { readHomeInvite, writeHomeInvite } from './home-invite.js'
export { loadSeed } from './identity.js'
export { beginJournal, readJournalNames } from './journals.js'
export { LogFile, olderLog } from './log-file.js'
export { findLogin, type Login, loginPath, removeLogin, writeLogin } from './login.js'
export { metricsToken } from './metrics-token.js'
export { adoptStores, movedStores } from './moved.js'
export { nodesKeeper, readNodes, rememberNodes } from './nodes.js'
export { homeFiles, homePath } from './paths.js'
export { isAlive } from './processes.js'
export { findProfile, readProfile, writeProfile } from './profile.js'
export { isRestored, readRestored, removeRestored, restoredText } from './restored.js'
export { hasAuthority, readRoles, type WorkerName, writeRoles } from './roles.js'
export { identityPath, openFolders, openSecrets } from './secrets.js'
export { facilitiesIn, readSettings, settingsPath, writeSetting } from './settings.js'
export { findStatus, readStatuses, removeStatus, writeStatus } from './status.js'
export { complain, surviveStderr } from './stderr.js'
export { readStorePid, readStorePids, writeStorePid } from './store-pid.js'
export { claimSupervisor, readSupervisor, releaseSupervisor, type SupervisorState } from './supervisor.js'
