export { hashPassword, verifyPassword } from './passwords.js'
export { AuthWorker } from './worker.js'
