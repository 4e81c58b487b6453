export { isAlive, loadSeed, makePrivateDir, writeFileAtomic } from './files.js'
export {
  homeFiles,
  homePath,
  type SupervisorState,
  supervisorStateSchema,
  type WorkerName,
  workerNameSchema,
} from './paths.js'
